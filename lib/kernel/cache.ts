import type { Bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { native, quick, type Native } from './native.ts';

/** POSIX_FADV_* of linux/fadvise.h. */
export const FADV = { NORMAL: 0, RANDOM: 1, SEQUENTIAL: 2, WILLNEED: 3, DONTNEED: 4, NOREUSE: 5 } as const;

/** SYNC_FILE_RANGE_* of linux/fs.h. */
export const SYNC_RANGE = { WAIT_BEFORE: 1, WRITE: 2, WAIT_AFTER: 4, ALL: 7 } as const;

/** In bytes. Of a longer range a call may take long enough to keep others that share its way waiting. */
export const QUICK = 1024 * 1024;

const call = <T>(length: Bytes, start: (addon: Native) => T): T =>
  length > 0 && length <= QUICK ? quick(start) : start(native());

/** posix_fadvise(2). */
export async function fadvise(fd: number, offset: Bytes, length: Bytes, advice: number): Promise<void> {
  check(await call(length, (addon) => addon.fadvise(fd, offset, length, advice)), 'posix_fadvise');
}

/**
 * Starts reading a range into the page cache, in steps: readahead(2) is capped per call by the device's
 * read_ahead_kb and silently drops the rest, and small steps keep the folios small.
 */
export async function readahead(fd: number, offset: Bytes, length: Bytes, step: Bytes): Promise<void> {
  check(await call(length, (addon) => addon.readahead(fd, offset, length, step)), 'readahead');
}

/** sync_file_range(2): starts or awaits write-back of a range. Commits no metadata, so it is no barrier. */
export async function syncFileRange(fd: number, offset: Bytes, length: Bytes, flags: number): Promise<void> {
  check(await call(length, (addon) => addon.syncFileRange(fd, offset, length, flags)), 'sync_file_range');
}

/**
 * Reads a range and forgets it: resolves when all of it is in the cache, or the file has ended. Answers come into the
 * cache in large folios unless the descriptor has FADV.RANDOM.
 */
export async function readThrough(fd: number, offset: Bytes, length: Bytes): Promise<void> {
  check(await call(length, (addon) => addon.readThrough(fd, offset, length)), 'pread');
}

/**
 * Which pages of a range are in the cache: a byte for each, 1 or 0 (mincore(2)). Needs write permission or ownership.
 *
 * @param offset a multiple of the page size
 */
export async function residentPages(fd: number, offset: Bytes, length: Bytes): Promise<Uint8Array> {
  const pages = check(await call(length, (addon) => addon.mincore(fd, offset, length)), 'mincore');
  // The other bits are reserved.
  for (let i = 0; i < pages.length; i++) pages[i] &= 1;
  return pages;
}
