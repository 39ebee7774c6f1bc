import { constants, write } from 'node:fs';
import { promisify } from 'node:util';
import type { Bytes } from '../layout/units.ts';
import { SYNC_RANGE, syncFileRange } from './cache.ts';
import { check, errorCode } from './errors.ts';
import { native } from './native.ts';
import { AT_FDCWD, closeFd, O, openAt } from './handle.ts';

/** FALLOC_FL_* of linux/falloc.h. */
export const FALLOC = {
  KEEP_SIZE: 0x01,
  PUNCH_HOLE: 0x02,
  COLLAPSE_RANGE: 0x08,
  ZERO_RANGE: 0x10,
  INSERT_RANGE: 0x20,
} as const;

/**
 * fallocate(2): mode 0 allocates unwritten blocks and extends the size.
 *
 * @throws SystemError ENOSPC, EDQUOT, EOPNOTSUPP, EINTR
 */
export async function fallocate(fd: number, mode: number, offset: Bytes, length: Bytes): Promise<void> {
  check(await native().fallocate(fd, mode, offset, length), 'fallocate');
}

/**
 * A file without a name, mode 0600, on the filesystem of an open directory: it is gone when its last descriptor
 * closes, also after a crash.
 *
 * @param flags more of O_*
 * @throws SystemError EACCES or EPERM where the directory may not be written, EROFS, ENOSPC, EDQUOT
 */
export function openTemporary(dirFd: number, flags = 0): Promise<number> {
  return openAt(dirFd, Buffer.from('.'), O.TMPFILE | O.RDWR | flags, { mode: 0o600 });
}

/** A temporary file for {@link allocateBeside}. @throws as openTemporary */
export const openDirectTemporary = (dirFd: number): Promise<number> =>
  openTemporary(dirFd, constants.O_DIRECT);

const ONE_BYTE = Buffer.alloc(1);

/**
 * Allocates an unwritten block in a hole of a file that is open with O_DIRECT, preferably beside the mapped block next to
 * it: the allocator tries that place only for requests that it may normalise (fs/ext4/mballoc.c,
 * ext4_mb_normalize_request), and fallocate's of up to 32767 blocks are not. Direct I/O's are. Nothing is written: ext4
 * allocates (ext4_iomap_begin) before it is seen that a single byte is no whole sector (iomap_dio_bio_iter).
 *
 * The rest of the request, up to the next mapped block or the end of the window, stays preallocated for the file, and
 * fallocate takes it from there.
 *
 * @param offset of the block in bytes, below the end of the file
 * @throws a system error ENOSPC, EDQUOT
 */
export async function allocateBeside(fd: number, offset: Bytes): Promise<void> {
  try {
    await promisify(write)(fd, ONE_BYTE, 0, 1, offset);
  } catch (error) {
    if (errorCode(error) === 'EINVAL') return;
    throw error;
  }
  // Some kernels go on with a buffered write where a direct one wrote nothing. A dirty page would be in the way.
  await syncFileRange(fd, offset, 1 as Bytes, SYNC_RANGE.ALL);
}

/**
 * Makes the page of a temporary file at an offset dirty.
 *
 * @param fd may be open with O_DIRECT
 * @throws a system error ENOSPC, EIO; ENOENT where there is no /proc
 */
export async function makeDirty(fd: number, offset: Bytes): Promise<void> {
  const buffered = await openAt(AT_FDCWD, Buffer.from(`/proc/self/fd/${fd}`), O.RDWR);
  try {
    await promisify(write)(buffered, ONE_BYTE, 0, 1, offset);
  } finally {
    await closeFd(buffered);
  }
}
