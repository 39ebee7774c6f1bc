import { countFsmap } from '../kernel/fsmap.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { blocks, type Bytes } from '../layout/units.ts';
import type { Geometry } from './freeMap.ts';

/** Block groups on either side: of 128 MiB each with blocks of 4 KiB. */
const GROUPS = 32;

/**
 * Has the kernel read the block bitmaps around a block, once: the allocator looks for long runs only among groups whose
 * bitmaps are in memory (fs/ext4/mballoc.c, ext4_mb_choose_next_group). Right after mounting, what it answers first would
 * come in thousands of pieces otherwise.
 */
export class Bitmaps {
  #read: Promise<void> | undefined;

  /** Begins, if that is still to be done. Resolves when it is. */
  read(fd: number, blockSize: Bytes, { firstDataBlock, blocksPerGroup }: Geometry, around: number): Promise<void> {
    const group = Math.floor((around - firstDataBlock) / blocksPerGroup);
    const start = (at: number) => blocks(firstDataBlock + Math.max(0, at) * blocksPerGroup);
    this.#read ??= countFsmap(fd, blockSize, start(group - GROUPS), start(group + GROUPS)).then(
      () => undefined,
      (error: unknown) => {
        // Only a help.
        if (!isSystemFailure(error)) throw error;
      },
    );
    return this.#read;
  }
}
