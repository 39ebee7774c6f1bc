import type { Bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { native } from './native.ts';
import { O, openAt } from './handle.ts';

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
 * @throws SystemError EACCES or EPERM where the directory may not be written, EROFS, ENOSPC, EDQUOT
 */
export function openTemporary(dirFd: number): Promise<number> {
  return openAt(dirFd, Buffer.from('.'), O.TMPFILE | O.RDWR, { mode: 0o600 });
}
