import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { statFd } from './handle.ts';
import { native } from './native.ts';

/** Halves of a record's words, the low one first (native/syscalls.h, FsMap): start, length, owner, flags. */
const HALVES = 8;

/** Owners of linux/fsmap.h. Any other that ext4 answers (fs/ext4/fsmap.h) is a kind of fixed metadata. */
const FMR_OWN_FREE = 1;
const FMR_OWN_UNKNOWN = 2;

/**
 * What blocks are used for: `free`, not allocated, where what is preallocated, or freed and not committed yet, does
 * not count as free; `data`, allocated to files, directories, extent trees, ext4 keeps no record whose; `metadata`,
 * superblocks, descriptors, bitmaps, inode tables.
 */
export type BlockUse = 'free' | 'data' | 'metadata';

/** A stretch of a filesystem's device, and what it is used for. */
export interface FsmapRecord {
  readonly start: Blocks;
  readonly length: Blocks;
  readonly use: BlockUse;
}

/** Stretches of blocks in the order of the device, the first block of each and its length. */
export interface StretchColumns {
  readonly start: Float64Array;
  readonly length: Float64Array;
}

const USES: readonly BlockUse[] = ['metadata', 'free', 'data'];

/** What a filesystem uses its blocks for, in the order of the device: as columns of numbers, since it may be millions. */
export class FsmapTable implements Iterable<FsmapRecord> {
  readonly #start: Float64Array;
  readonly #length: Float64Array;
  /** Numbers in {@link USES}. */
  readonly #use: Uint8Array;
  readonly #count: number;

  /**
   * @param words from the addon
   * @param from what lies before it is left out
   * @param to and what lies behind
   */
  constructor(words: BigUint64Array, blockSize: Bytes, from: number, to: number) {
    // Halves of 32 bits divide exactly, and cost a tenth of a BigInt each.
    const halves = new Uint32Array(words.buffer, words.byteOffset, words.length * 2);
    const records = halves.length / HALVES;
    const starts = new Float64Array(records);
    const lengths = new Float64Array(records);
    const uses = new Uint8Array(records);
    let count = 0;
    for (let at = 0; at < halves.length; at += HALVES) {
      // What the kernel answers may begin before the range and end behind it.
      const first = (halves[at + 1] * 2 ** 32 + halves[at]) / blockSize;
      const end = first + (halves[at + 3] * 2 ** 32 + halves[at + 2]) / blockSize;
      const start = first < from ? from : first;
      const stop = end > to ? to : end;
      if (start >= stop) continue;
      // ext4's own kinds have its letter in the high half.
      const owner = halves[at + 5] === 0 ? halves[at + 4] : 0;
      starts[count] = start;
      lengths[count] = stop - start;
      uses[count++] = owner === FMR_OWN_FREE || owner === FMR_OWN_UNKNOWN ? owner : 0;
    }
    this.#start = starts;
    this.#length = lengths;
    this.#use = uses;
    this.#count = count;
  }

  /** The block behind the last record's, 0 where there is none. */
  get end(): number {
    return this.#count === 0 ? 0 : this.#start[this.#count - 1] + this.#length[this.#count - 1];
  }

  *[Symbol.iterator](): Iterator<FsmapRecord> {
    for (let i = 0; i < this.#count; i++) {
      const [start, length] = [blocks(this.#start[i]), blocks(this.#length[i])];
      yield { start, length, use: USES[this.#use[i]] };
    }
  }

  /** What is free. */
  free(): StretchColumns {
    const free = USES.indexOf('free');
    const [starts, lengths, uses, all] = [this.#start, this.#length, this.#use, this.#count];
    const [start, length] = [new Float64Array(all), new Float64Array(all)];
    let count = 0;
    for (let i = 0; i < all; i++) {
      if (uses[i] !== free) continue;
      start[count] = starts[i];
      length[count++] = lengths[i];
    }
    return { start: start.subarray(0, count), length: length.subarray(0, count) };
  }
}

/** What is free of an answer of the addon's, without making records of the rest, which may be thousands. */
export function freeOf(
  words: BigUint64Array,
  blockSize: Bytes,
  from: number,
  to: number,
  least: number,
): StretchColumns {
  const halves = new Uint32Array(words.buffer, words.byteOffset, words.length * 2);
  const [start, length] = [new Float64Array(words.length / 4), new Float64Array(words.length / 4)];
  const leastBytes = least * blockSize;
  let count = 0;
  for (let at = 0; at < halves.length; at += HALVES) {
    if (halves[at + 4] !== FMR_OWN_FREE || halves[at + 5] !== 0) continue;
    if (halves[at + 2] < leastBytes && halves[at + 3] === 0) continue;
    const begin = (halves[at + 1] * 2 ** 32 + halves[at]) / blockSize;
    const end = begin + (halves[at + 3] * 2 ** 32 + halves[at + 2]) / blockSize;
    const first = Math.max(from, begin);
    if (first >= Math.min(to, end)) continue;
    start[count] = first;
    length[count++] = Math.min(to, end) - first;
  }
  return { start: start.subarray(0, count), length: length.subarray(0, count) };
}

/**
 * What is free of a filesystem, as {@link fsmap} tells it.
 *
 * @param least shorter records are left out
 */
export async function freeStretches(
  fd: number,
  blockSize: Bytes,
  from = blocks(0),
  to = blocks(Infinity),
  least = blocks(1),
): Promise<StretchColumns> {
  return freeOf(await wordsOf(fd, blockSize, from, to), blockSize, from, to, least);
}

/**
 * What a filesystem uses its blocks for, in the order of the device (FS_IOC_GETFSMAP, ioctl_getfsmap(2)). Takes no
 * privilege. Runs that go on from one block group to the next may come as one record or as several. What is free is
 * complete; of what is in use, stretches between two free runs of a group are left out (Linux 6.18).
 *
 * @param fd any open file or directory of the filesystem
 * @param from the first block, and `to` the one behind the last (all)
 * @throws SystemError EOPNOTSUPP or ENOTTY where the filesystem has none
 */
export async function fsmap(
  fd: number,
  blockSize: Bytes,
  from = blocks(0),
  to = blocks(Infinity),
): Promise<FsmapTable> {
  return new FsmapTable(await wordsOf(fd, blockSize, from, to), blockSize, from, to);
}

async function wordsOf(fd: number, blockSize: Bytes, from: Blocks, to: Blocks): Promise<BigUint64Array> {
  const { dev } = await statFd(fd);
  const end = to === Infinity ? 0xffff_ffff_ffff_ffffn : to * blockSize;
  return check(await native().fsmap(fd, dev, from * blockSize, end), 'ioctl(FS_IOC_GETFSMAP)');
}
