import { isSystemFailure } from '../kernel/errors.ts';
import { countFsmap } from '../kernel/fsmap.ts';
import { blocks, type Bytes } from '../layout/units.ts';
import { FreeMap, type Geometry } from './freeMap.ts';

/** Block groups on either side: of 128 MiB each with blocks of 4 KiB. */
const GROUPS = 32;

/** Free space around the files that are next, which is looked at while they are opened. */
export class Nearby {
  #known: Promise<undefined> | undefined;

  /**
   * Has the kernel read the block bitmaps around a block, the first time: the allocator looks for long runs only among
   * groups whose bitmaps are in memory (fs/ext4/mballoc.c). Right after mounting, what it answers first would come in
   * thousands of pieces otherwise.
   *
   * @param map whether to answer what is free there, each time
   * @returns undefined also when the kernel does not tell: it is only a help
   */
  async look(
    fd: number,
    blockSize: Bytes,
    geometry: Geometry,
    around: number,
    map: boolean,
  ): Promise<FreeMap | undefined> {
    const { firstDataBlock, blocksPerGroup } = geometry;
    const group = Math.floor((around - firstDataBlock) / blocksPerGroup);
    const from = blocks(firstDataBlock + Math.max(0, group - GROUPS) * blocksPerGroup);
    const to = blocks(firstDataBlock + (group + GROUPS) * blocksPerGroup);
    const helped = async <T>(help: Promise<T>) => {
      try {
        return await help;
      } catch (error) {
        if (!isSystemFailure(error)) throw error;
        return undefined;
      }
    };
    if (map) return helped(FreeMap.read(fd, blockSize, geometry, from, to));
    this.#known ??= helped(countFsmap(fd, blockSize, from, to)).then(() => undefined);
    return this.#known;
  }
}
