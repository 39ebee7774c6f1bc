import { isSystemFailure } from '../kernel/errors.ts';
import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import { FreeMap, type Geometry } from './freeMap.ts';

/** Block groups on either side, of 128 MiB each with blocks of 4 KiB, and how many times as many as a file fills. */
const GROUPS = { least: 32, times: 8 };

/** Blocks. What is looked for is hundreds of times as long, and shorter runs are most of those that there are. */
const LEAST = blocks(64);

/**
 * What is free in the block groups around a block, short runs left out: farther away for a longer file. Reading it has the
 * kernel read their bitmaps, which the allocator then knows.
 *
 * @param length of the file
 * @returns undefined when the kernel does not tell: it is only a help
 */
export async function freeNearby(
  fd: number,
  blockSize: Bytes,
  geometry: Geometry,
  around: number,
  length: Blocks,
): Promise<FreeMap | undefined> {
  const { firstDataBlock, blocksPerGroup } = geometry;
  const group = Math.floor((around - firstDataBlock) / blocksPerGroup);
  const groups = Math.max(GROUPS.least, GROUPS.times * Math.ceil(length / blocksPerGroup));
  const from = blocks(firstDataBlock + Math.max(0, group - groups) * blocksPerGroup);
  const to = blocks(firstDataBlock + (group + groups) * blocksPerGroup);
  try {
    return await FreeMap.read(fd, blockSize, geometry, from, to, LEAST);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return undefined;
  }
}
