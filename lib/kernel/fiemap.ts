import { ExtentTable } from '../layout/extents.ts';
import { bytes, type Bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { quick } from './native.ts';

/** FIEMAP_FLAG_SYNC of linux/fiemap.h: pending data is written out first, so that no extent is delayed. */
export const FIEMAP_FLAG_SYNC = 0x1;

/** Which extents {@link fiemap} answers. */
export interface FiemapOptions {
  /** Where to begin, in bytes (0). */
  start?: Bytes;
  /** How far to go, in bytes (to the end of the mapping, past EOF where blocks are preallocated). */
  length?: Bytes;
  /** FIEMAP_FLAG_*, such as {@link FIEMAP_FLAG_SYNC} (none). */
  flags?: number;
  /** Stop after that many extents (all). */
  limit?: number;
}

/**
 * The extents of an open file in logical order, unmerged, in filesystem blocks (FS_IOC_FIEMAP,
 * Documentation/filesystems/fiemap.rst).
 *
 * @param blockSize the filesystem's block size in bytes
 * @throws SystemError EBADR for unknown flags, EOPNOTSUPP where the filesystem has no FIEMAP, EIO, EUCLEAN
 */
export async function fiemap(
  fd: number,
  blockSize: Bytes,
  options: FiemapOptions = {},
): Promise<ExtentTable> {
  const { start = bytes(0), length, flags = 0, limit } = options;
  const toTheEnd = 0xffff_ffff_ffff_ffffn;
  const words = await quick((addon) => addon.fiemap(fd, start, length ?? toTheEnd, flags, limit ?? toTheEnd));
  return ExtentTable.decode(check(words, 'ioctl(FS_IOC_FIEMAP)'), blockSize);
}
