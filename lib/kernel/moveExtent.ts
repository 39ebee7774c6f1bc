import type { Blocks } from '../layout/units.ts';
import { blocks } from '../layout/units.ts';
import { SystemError } from './errors.ts';
import { native, quick, type Native } from './native.ts';

/** What one EXT4_IOC_MOVE_EXT did. `moved` counts also when `error` is set: it stays exchanged. */
export interface MoveResult {
  /** Blocks exchanged; holes are passed over and not counted. */
  readonly moved: Blocks;
  /** Why it went no further: EBUSY for pages in use, ENODATA where either file has no blocks, …; undefined when it did. */
  readonly error: SystemError | undefined;
}

/** EXT_MAX_BLOCKS of fs/ext4/ext4_extents.h: no logical block is this large. */
const EXT_MAX_BLOCKS = 0xffff_ffff;

/** Of more blocks a call may keep others that share its way waiting. */
const QUICK_MOVE = 256;

/**
 * Exchanges `count` blocks of `fd` from block `origStart` with those of `donorFd` from `donorStart`, in one
 * EXT4_IOC_MOVE_EXT (fs/ext4/move_extent.c). The caller sees the same content before, during and after.
 *
 * @throws RangeError when a number is no whole block number, or `count` is 0: the kernel would take a length of
 *   0 for the whole file
 */
export async function moveExtents(
  fd: number,
  donorFd: number,
  origStart: Blocks,
  donorStart: Blocks,
  count: Blocks,
): Promise<MoveResult> {
  for (const [name, value, least] of [
    ['origStart', origStart, 0],
    ['donorStart', donorStart, 0],
    ['count', count, 1],
  ] as const) {
    if (!Number.isInteger(value) || value < least || value > EXT_MAX_BLOCKS) {
      throw new RangeError(
        `moveExtents: ${name} must be a whole number from ${least} to ${EXT_MAX_BLOCKS}, not ${value}`,
      );
    }
  }
  const start = (addon: Native) => addon.moveExtents(fd, donorFd, origStart, donorStart, count);
  const [result, moved] = await (count <= QUICK_MOVE ? quick(start) : start(native()));
  return {
    moved: blocks(moved),
    error: result < 0 ? new SystemError(result, 'ioctl(EXT4_IOC_MOVE_EXT)') : undefined,
  };
}
