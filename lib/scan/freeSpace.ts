import { freeRuns } from '../ext4/bitmap.ts';
import { GROUP_FLAG } from '../ext4/groups.ts';
import { SizeClasses } from '../layout/sizeClasses.ts';
import type { FreeSpaceEvent } from '../report/events.ts';
import type { DeviceRange, Ext4Device } from './device.ts';

/** Bytes of one read of bitmaps. A flex group's lie side by side. */
const READ = 256 * 1024;

export type FreeSpace = Pick<FreeSpaceEvent, 'bytes' | 'runs' | 'largestRun' | 'histogram'>;

/**
 * The free space of a filesystem by its block bitmaps on the device. As in e2freefrag(8), a run goes on from one group
 * to the next, and what is preallocated or promised to delayed allocation still counts as free.
 *
 * @returns undefined when the signal was aborted
 * @throws a system error when the device cannot be read
 */
export async function freeSpace(device: Ext4Device, signal?: AbortSignal): Promise<FreeSpace | undefined> {
  const { superblock, groups } = device;
  const { blockSize } = superblock;
  const sizes = new SizeClasses();
  const sum = { bytes: 0, runs: 0, largestRun: 0 };
  const run = { start: 0, length: 0 };
  const close = () => {
    if (run.length === 0) return;
    const size = run.length * blockSize;
    sizes.add(size);
    sum.bytes += size;
    sum.runs++;
    sum.largestRun = Math.max(sum.largestRun, size);
  };
  for await (const { range, bytes } of device.readAll(bitmapReads(device), READ)) {
    if (signal?.aborted) return undefined;
    for (const { group, offset } of range.bitmaps) {
      // A device that shrank under the scan answers fewer; nothing is known of these groups.
      if (offset + blockSize > bytes.byteLength && offset >= 0) continue;
      const bitmap = new Uint8Array(
        bytes.buffer,
        bytes.byteOffset + Math.max(0, offset),
        offset < 0 ? 0 : blockSize,
      );
      freeRuns(superblock, groups, group, bitmap, (start, length) => {
        if (run.length > 0 && run.start + run.length === start) {
          run.length += length;
          return;
        }
        close();
        run.start = start;
        run.length = length;
      });
    }
  }
  close();
  return { ...sum, histogram: sizes.classes };
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
