import { FALLOC, fallocate, openTemporary } from '../kernel/allocate.ts';
import { errorCode } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { mergeExtents } from '../layout/extents.ts';
import { blocks, bytes, toBytes, type Bytes } from '../layout/units.ts';
import type { Run } from './assign.ts';
import type { Bin } from './bins.ts';
import { FIRST_SLOT, makeLeaf } from './exact.ts';
import { spendableBlocks } from './donors.ts';

/** A stretch of the device that is to be cleared. */
export interface Stretch {
  readonly start: number;
  readonly length: number;
}

/** Logical blocks of a temporary file. */
interface Room {
  readonly fd: number;
  readonly start: number;
  readonly length: number;
}

/** How often places are asked for: what lay inside or came in pieces is held meanwhile, so each answer is another. */
const ROUNDS = 8;

/** As many blocks are asked for one after the other, so that they do not get the places of longer ones. */
const LONG = 64;

/** Things that go into one temporary file: their extents fit into one leaf of its tree, with some to spare. */
const MOST_THINGS = 250;

/**
 * Temporary files whose blocks lie where what is evacuated from a stretch of the device can go. When that has been
 * exchanged with them, they hold the blocks that were vacated. What the allocator answered within the stretch stays
 * held as well: there it is where it is wanted.
 */
export class Refuge {
  /** The caller closes them. */
  readonly fds: number[] = [];
  readonly #dirFd: number;
  readonly #blockSize: Bytes;
  readonly #stretch: Stretch;
  readonly #reserveShare: number | undefined;
  /** Of the last file: the logical block behind everything allocated, and for how many more things it is good. */
  #end = 0;
  #things = 0;

  /** @param reserveShare as spendableBlocks has it */
  constructor(dirFd: number, blockSize: Bytes, stretch: Stretch, reserveShare?: number) {
    this.#dirFd = dirFd;
    this.#blockSize = blockSize;
    this.#stretch = stretch;
    this.#reserveShare = reserveShare;
  }

  /**
   * Finds places of so many blocks each, in one piece: several together in a free run, as they were packed.
   *
   * @returns the index of one that finds none, where free space or the reserve does not allow it
   */
  async allocate(lengths: readonly number[], bins: readonly Bin[]): Promise<readonly Run[] | number> {
    const places = new Array<Run | undefined>(lengths.length).fill(undefined);
    const unwanted: Run[] = [];
    const sizeOf = (bin: Bin) => bin.reduce((sum, i) => sum + lengths[i], 0);
    const longestFirst = (some: Bin[]) => some.sort((a, b) => sizeOf(b) - sizeOf(a));
    let asked = longestFirst(bins.flatMap(ofOneFile));
    try {
      for (let round = 0; round < ROUNDS && asked.length > 0; round++) {
        const wanted = asked.reduce((sum, bin) => sum + sizeOf(bin), 0);
        if (wanted > (await spendableBlocks(this.#dirFd, this.#reserveShare))) break;
        const rooms: Room[] = [];
        for (const bin of asked) rooms.push(await this.#roomFor(bin.length, sizeOf(bin)));
        if (!(await this.#allocateAll(rooms))) break;
        const runs = await this.#runsOf(new Set(rooms.map(({ fd }) => fd)));
        const failed: Bin[] = [];
        for (const [at, bin] of asked.entries()) {
          const found = clip(runs, rooms[at]);
          if (found.length === 1 && !this.#isInside(found[0])) share(found[0], bin, lengths, places);
          else {
            unwanted.push(...found.flatMap((run) => this.#outsideOf(run)));
            failed.push(...bin.map((i) => [i]));
          }
        }
        // What found no place together may find one alone.
        asked = longestFirst(failed);
      }
    } finally {
      for (const { donorFd, start, length } of unwanted) {
        const range = [toBytes(start, this.#blockSize), toBytes(length, this.#blockSize)] as const;
        await fallocate(donorFd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, ...range);
      }
    }
    return asked.length === 0 ? (places as Run[]) : asked[0][0];
  }

  /** Where in a temporary file so many blocks shall be, for so many things. */
  async #roomFor(things: number, length: number): Promise<Room> {
    if (this.#things < things) {
      const fd = await openTemporary(this.#dirFd);
      this.fds.push(fd);
      // It would be made in the middle of the stretch otherwise, while that is cleared.
      await makeLeaf(fd, this.#blockSize);
      [this.#end, this.#things] = [FIRST_SLOT, MOST_THINGS];
    }
    this.#things -= things;
    const start = this.#end;
    this.#end += length;
    return { fd: this.fds[this.fds.length - 1], start, length };
  }

  /** @returns false where there is no space */
  async #allocateAll(rooms: readonly Room[]): Promise<boolean> {
    const short: Promise<boolean>[] = [];
    for (const room of rooms) {
      const allocated = this.#allocate(room);
      if (room.length < LONG) short.push(allocated);
      else if (!(await allocated)) return false;
    }
    return !(await Promise.all(short)).includes(false);
  }

  async #allocate({ fd, start, length }: Room): Promise<boolean> {
    try {
      await fallocate(fd, 0, bytes(start * this.#blockSize), bytes(length * this.#blockSize));
      return true;
    } catch (error) {
      const code = errorCode(error);
      if (code === 'ENOSPC' || code === 'EDQUOT') return false;
      throw error;
    }
  }

  async #runsOf(fds: Iterable<number>): Promise<Map<number, Run[]>> {
    const runs = new Map<number, Run[]>();
    for (const donorFd of fds) {
      const extents = mergeExtents(await fiemap(donorFd, this.#blockSize));
      runs.set(
        donorFd,
        Array.from(extents, ({ logical, physical, length }) => ({
          donorFd,
          start: logical,
          physical,
          length,
        })),
      );
    }
    return runs;
  }

  #isInside({ physical, length }: Run): boolean {
    const { start, length: size } = this.#stretch;
    return physical < start + size && physical + length > start;
  }

  /** The parts of a run before and behind the stretch. */
  #outsideOf(run: Run): Run[] {
    const { start, length } = this.#stretch;
    const before = Math.min(run.length, Math.max(0, start - run.physical));
    const behind = Math.min(run.length, Math.max(0, run.physical + run.length - (start + length)));
    return [sub(run, 0, before), sub(run, run.length - behind, behind)].filter((part) => part.length > 0);
  }
}

/** Gives each thing of a bin its part of a run. */
function share(run: Run, bin: Bin, lengths: readonly number[], places: (Run | undefined)[]): void {
  let used = 0;
  for (const i of bin) {
    places[i] = sub(run, used, lengths[i]);
    used += lengths[i];
  }
}

/** The parts of its file's runs that a room has. */
function clip(runs: ReadonlyMap<number, readonly Run[]>, { fd, start, length }: Room): Run[] {
  return (runs.get(fd) ?? []).flatMap((run) => {
    const from = Math.max(run.start, start);
    const to = Math.min(run.start + run.length, start + length);
    return from < to ? [sub(run, from - run.start, to - from)] : [];
  });
}

/** A bin as parts that are not too many things for one file. */
function ofOneFile(bin: Bin): Bin[] {
  const parts: Bin[] = [];
  for (let from = 0; from < bin.length; from += MOST_THINGS) parts.push(bin.slice(from, from + MOST_THINGS));
  return parts;
}

const sub = (run: Run, offset: number, length: number): Run => ({
  donorFd: run.donorFd,
  start: blocks(run.start + offset),
  physical: blocks(run.physical + offset),
  length: blocks(length),
});
