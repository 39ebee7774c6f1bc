import { isSystemFailure } from '../kernel/errors.ts';
import { blocks, type Bytes } from '../layout/units.ts';
import { FreeMap, type Geometry } from './freeMap.ts';

/** Block groups on either side: of 128 MiB each with blocks of 4 KiB. */
const GROUPS = 32;

/** Blocks. What is looked for is hundreds of times as long, and shorter runs are most of those that there are. */
const LEAST = blocks(64);

/**
 * What is free in the block groups around a block, short runs left out. Reading it has the kernel read their bitmaps, which the allocator then
 * knows.
 *
 * @returns undefined when the kernel does not tell: it is only a help
 */
export async function freeNearby(
  fd: number,
  blockSize: Bytes,
  geometry: Geometry,
  around: number,
): Promise<FreeMap | undefined> {
  const { firstDataBlock, blocksPerGroup } = geometry;
  const group = Math.floor((around - firstDataBlock) / blocksPerGroup);
  const from = blocks(firstDataBlock + Math.max(0, group - GROUPS) * blocksPerGroup);
  const to = blocks(firstDataBlock + (group + GROUPS) * blocksPerGroup);
  try {
    return await FreeMap.read(fd, blockSize, geometry, from, to, LEAST);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return undefined;
  }
}
