import { freeRuns } from '../ext4/bitmap.ts';
import { GROUP_FLAG } from '../ext4/groups.ts';
import { SizeClasses } from '../layout/sizeClasses.ts';
import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import type { FreeMap } from '../place/freeMap.ts';
import type { FreeSpaceEvent } from '../report/events.ts';
import type { DeviceRange, Ext4Device } from './device.ts';

/** Bytes of one read of bitmaps. A flex group's lie side by side. */
const READ = 256 * 1024;

export type FreeSpace = Pick<FreeSpaceEvent, 'source' | 'bytes' | 'runs' | 'largestRun' | 'histogram'>;

type RunVisitor = (start: number, length: number) => void;

/**
 * The free space of a filesystem by its block bitmaps on the device. As in e2freefrag(8), a run goes on from one group
 * to the next, and what is preallocated or promised to delayed allocation still counts as free.
 *
 * @returns undefined when the signal was aborted
 * @throws a system error when the device cannot be read
 */
export async function freeSpace(device: Ext4Device, signal?: AbortSignal): Promise<FreeSpace | undefined> {
  const sums = new Sums(device.superblock.blockSize);
  const run = { start: 0, length: 0 };
  const close = () => {
    if (run.length > 0) sums.add(run.length);
  };
  const visit: RunVisitor = (start, length) => {
    if (run.start + run.length === start) {
      run.length += length;
      return;
    }
    close();
    run.start = start;
    run.length = length;
  };
  if (!(await visitBitmaps(device, visit, signal))) return undefined;
  close();
  return sums.of('bitmaps');
}

/** The free space that a filesystem's own map shows (FS_IOC_GETFSMAP), which the allocator can give away at once. */
export function freeSpaceOf(map: FreeMap, blockSize: Bytes): FreeSpace {
  const sums = new Sums(blockSize);
  for (const length of map.length) sums.add(length);
  return sums.of('fsmap');
}

/**
 * Blocks that are not free and yet nobody's. Both sources look at the same bits. The bitmap on the device, in the page
 * cache where the kernel changes it, has a bit for what files, directories and metadata own: a freed block's goes as
 * soon as it is freed. GETFSMAP shows the allocator's copy of it, with what else must not be given away: blocks set
 * aside for a file that is being written or, some hundred a processor, for small files, and freed blocks whose owner
 * would have them again after a crash, until the commit (fs/ext4/mballoc.c, ext4_mb_generate_from_pa and
 * ext4_mb_generate_from_freelist). What delayed allocation has promised has no place yet and is free in both.
 *
 * The maps are read one after the other, so what was freed or allocated between counts wrongly.
 *
 * @param map what GETFSMAP has shown
 * @returns undefined when the signal was aborted
 * @throws a system error when the device cannot be read
 */
export async function heldBack(
  device: Ext4Device,
  map: FreeMap,
  signal?: AbortSignal,
): Promise<Blocks | undefined> {
  const held = new Outside(map);
  const done = await visitBitmaps(device, (start, length) => held.add(start, length), signal);
  return done ? blocks(held.blocks) : undefined;
}

/** Counts blocks that do not lie in the runs of a map. */
export class Outside {
  readonly #map: FreeMap;
  /** The first run of the map that may reach into what comes next. */
  #at = 0;
  blocks = 0;

  constructor(map: FreeMap) {
    this.#map = map;
  }

  /** Takes the next stretch, in the order of the device. */
  add(start: number, length: number): void {
    const { count, start: starts, length: lengths } = this.#map;
    const end = start + length;
    this.blocks += length;
    for (; this.#at < count && starts[this.#at] < end; this.#at++) {
      const runEnd = starts[this.#at] + lengths[this.#at];
      this.blocks -= Math.max(0, Math.min(end, runEnd) - Math.max(start, starts[this.#at]));
      // It goes on behind this stretch.
      if (runEnd > end) return;
    }
  }
}

/** In how many pieces at least a file of so many blocks comes; undefined when there are not so many. */
export function fewestPieces(map: FreeMap, count: Blocks): number | undefined {
  let [left, pieces] = [count as number, 0];
  for (const length of map.length.slice().sort().reverse()) {
    if (left <= 0) break;
    left -= length;
    pieces++;
  }
  return left > 0 ? undefined : pieces;
}

/** What runs come to. */
class Sums {
  readonly #blockSize: Bytes;
  readonly #sizes = new SizeClasses();
  #bytes = 0;
  #runs = 0;
  #largestRun = 0;

  constructor(blockSize: Bytes) {
    this.#blockSize = blockSize;
  }

  add(length: number): void {
    const size = length * this.#blockSize;
    this.#sizes.add(size);
    this.#bytes += size;
    this.#runs++;
    this.#largestRun = Math.max(this.#largestRun, size);
  }

  of(source: FreeSpace['source']): FreeSpace {
    return {
      source,
      bytes: this.#bytes,
      runs: this.#runs,
      largestRun: this.#largestRun,
      histogram: this.#sizes.classes,
    };
  }
}

/**
 * Calls `visit` for every run of clear bits of every group, in the order of the device.
 *
 * @returns false when the signal was aborted
 */
async function visitBitmaps(
  device: Ext4Device,
  visit: RunVisitor,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { superblock, groups } = device;
  const { blockSize } = superblock;
  for await (const { range, bytes } of device.readAll(bitmapReads(device), READ)) {
    if (signal?.aborted) return false;
    for (const { group, offset } of range.bitmaps) {
      // A device that shrank under the scan answers fewer; nothing is known of these groups.
      if (offset + blockSize > bytes.byteLength && offset >= 0) continue;
      const bitmap = new Uint8Array(
        bytes.buffer,
        bytes.byteOffset + Math.max(0, offset),
        offset < 0 ? 0 : blockSize,
      );
      freeRuns(superblock, groups, group, bitmap, visit);
    }
  }
  return true;
}

interface BitmapRead extends DeviceRange {
  /** Groups in order, and where their bitmaps lie in the read; -1 for a group that has none yet. */
  readonly bitmaps: readonly { readonly group: number; readonly offset: number }[];
}

function* bitmapReads({ superblock: { blockSize }, groups }: Ext4Device): Generator<BitmapRead, void, void> {
  let read = { position: 0, length: 0, bitmaps: [] as { group: number; offset: number }[] };
  for (let group = 0; group < groups.count; group++) {
    if (groups.flags[group] & GROUP_FLAG.BLOCK_UNINIT) {
      read.bitmaps.push({ group, offset: -1 });
      continue;
    }
    const position = groups.blockBitmap[group] * blockSize;
    if (read.length === 0 && read.bitmaps.length === 0) read.position = position;
    if (position !== read.position + read.length || read.length + blockSize > READ) {
      yield read;
      read = { position, length: 0, bitmaps: [] };
    }
    read.bitmaps.push({ group, offset: read.length });
    read.length += blockSize;
  }
  yield read;
}
