import type { Bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { native } from './native.ts';

/** POSIX_FADV_* of linux/fadvise.h. */
export const FADV = { NORMAL: 0, RANDOM: 1, SEQUENTIAL: 2, WILLNEED: 3, DONTNEED: 4, NOREUSE: 5 } as const;

/** SYNC_FILE_RANGE_* of linux/fs.h. */
export const SYNC_RANGE = { WAIT_BEFORE: 1, WRITE: 2, WAIT_AFTER: 4, ALL: 7 } as const;

/** posix_fadvise(2). */
export async function fadvise(fd: number, offset: Bytes, length: Bytes, advice: number): Promise<void> {
  check(await native().fadvise(fd, offset, length, advice), 'posix_fadvise');
}

/**
 * Starts reading a range into the page cache, in steps: readahead(2) is capped per call by the device's
 * read_ahead_kb and silently drops the rest, and small steps keep the folios small.
 */
export async function readahead(fd: number, offset: Bytes, length: Bytes, step: Bytes): Promise<void> {
  check(await native().readahead(fd, offset, length, step), 'readahead');
}

/** sync_file_range(2): starts or awaits write-back of a range. Commits no metadata, so it is no barrier. */
export async function syncFileRange(fd: number, offset: Bytes, length: Bytes, flags: number): Promise<void> {
  check(await native().syncFileRange(fd, offset, length, flags), 'sync_file_range');
}

/** What the page cache holds of a range, in pages. */
export interface CacheState {
  readonly cached: number;
  readonly dirty: number;
  readonly writeback: number;
}

/**
 * cachestat(2) of Linux 6.5. Needs ownership of the file or write permission.
 *
 * @returns undefined on kernels that do not have it
 */
export async function cachestat(fd: number, offset: Bytes, length: Bytes): Promise<CacheState | undefined> {
  const ENOSYS = -38;
  const words = await native().cachestat(fd, offset, length);
  if (words === ENOSYS) return undefined;
  const [cached, dirty, writeback] = check(words, 'cachestat');
  return { cached: Number(cached), dirty: Number(dirty), writeback: Number(writeback) };
}
