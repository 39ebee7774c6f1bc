import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirty } from '../kernel/allocate.ts';
import { FADV, fadvise, readahead, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import { isSystemFailure, type SystemError } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { moveExtents } from '../kernel/moveExtent.ts';
import { EXTENT_FLAG } from '../layout/extents.ts';
import { blocks, bytes, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import type { Segment } from '../place/assign.ts';

/** How often a range whose pages are busy, or that moved only in part, is tried again. */
const TRIES = 6;

const UNDO_CHUNK = 8 * 1024 * 1024;
const UNDO_READ_STEP = bytes(128 * 1024);

export interface ExchangeResult {
  /** Blocks that changed places. */
  readonly moved: Blocks;
  /** Why the rest of the range did not move: somebody holds its pages, or the system failed. */
  readonly error: SystemError | undefined;
  /** Milliseconds for which the longest of the calls held the file's locks. */
  readonly longest: number;
}

/** What has come of an exchange so far. */
interface Progress {
  moved: number;
  longest: number;
}

/** What the exchange of a file needs that others may write to meanwhile. */
export interface Exposed {
  readonly blocksPerPage: number;
  /** Makes what was exchanged durable. */
  readonly commit: () => Promise<void>;
}

/**
 * Exchanges a segment with its donor blocks, however many calls that takes. After a short or failed call the layout
 * itself says what is left: `moved_len` cannot be trusted on every kernel, and exchanging a block twice would put it
 * back.
 */
export async function exchange(
  fd: number,
  segment: Segment,
  blockSize: Bytes,
  exposed?: Exposed,
): Promise<ExchangeResult> {
  const progress: Progress = { moved: 0, longest: 0 };
  try {
    const error = await exchangeOrThrow(fd, segment, blockSize, progress, exposed);
    return { ...progress, moved: blocks(progress.moved), error };
  } catch (error) {
    // What fails for this file must not keep the others of its batch from being judged.
    if (!isSystemFailure(error)) throw error;
    return { ...progress, moved: blocks(progress.moved), error: error as SystemError };
  }
}

async function exchangeOrThrow(
  fd: number,
  segment: Segment,
  blockSize: Bytes,
  progress: Progress,
  exposed: Exposed | undefined,
): Promise<SystemError | undefined> {
  let left: readonly Segment[] = [segment];
  let error: SystemError | undefined;
  for (let attempt = 0; attempt < TRIES && left.length > 0; attempt++) {
    if (attempt > 0) await giveWay(fd, left, blockSize, attempt);
    error = undefined;
    for (const part of left) {
      const failure =
        exposed === undefined
          ? await moveTimed(fd, part, progress)
          : await moveCommitted(fd, part, blockSize, exposed, progress);
      error = failure ?? error;
      if (failure !== undefined) break;
    }
    if (error === undefined && progress.moved >= segment.length) break;
    if (error !== undefined && !isTransient(error)) break;
    left = await notYetThere(fd, segment, blockSize);
    if (left.length === 0) error = undefined;
  }
  return error;
}

/**
 * Exchanges a part of a file that others have open so that it is durable before they can write to it again. When
 * MOVE_EXT meets a donor page that is dirty, it commits the journal, hoping to be rid of it, and then gives up with
 * EBUSY; all the time it holds the file's lock (fs/ext4/move_extent.c, Linux 6.1 to 6.18). So the last donor page is made
 * dirty. That page alone is exchanged without such protection, and committed at once.
 */
async function moveCommitted(
  fd: number,
  part: Segment,
  blockSize: Bytes,
  { blocksPerPage, commit }: Exposed,
  progress: Progress,
): Promise<SystemError | undefined> {
  const { donorFd, logical, donor, length } = part;
  const end = donor + length - 1;
  const page = end - (end % blocksPerPage);
  const before = Math.max(0, page - donor);
  try {
    if (before === 0) return await moveTimed(fd, part, progress);
    const range = [bytes(page * blockSize), bytes(blocksPerPage * blockSize)] as const;
    await makeDirty(donorFd, range[0]);
    const already = progress.moved;
    const error = await moveTimed(fd, part, progress);
    await syncFileRange(donorFd, ...range, SYNC_RANGE.ALL);
    await fadvise(donorFd, ...range, FADV.DONTNEED);
    // Something else ended it, or the page had been written back: what is left is found out by the caller.
    if (error?.code !== 'EBUSY' || progress.moved - already !== before) return error;
    const [start, count] = [blocks(logical + before), blocks(length - before)];
    return await moveTimed(fd, { ...part, logical: start, donor: blocks(page), length: count }, progress);
  } finally {
    await commit();
  }
}

/** One call. */
async function moveTimed(fd: number, part: Segment, progress: Progress): Promise<SystemError | undefined> {
  const started = performance.now();
  const { moved, error } = await moveExtents(fd, part.donorFd, part.logical, part.donor, part.length);
  progress.longest = Math.max(progress.longest, performance.now() - started);
  progress.moved += moved;
  return error;
}

/**
 * Whether the file's other users are behind an error: EBUSY, their pages are dirty or pinned; ENODATA, nothing is
 * mapped from here on; EINVAL, the file ended before the range at that moment. What is left to do, if anything, the
 * layout says.
 */
export const isTransient = (error: SystemError): boolean =>
  ['EBUSY', 'ENODATA', 'EINVAL', 'EAGAIN', 'EINTR'].includes(error.code);

async function giveWay(fd: number, parts: readonly Segment[], blockSize: Bytes, attempt: number) {
  for (const part of parts) {
    // What is dirty now would be busy again. Nothing is dropped: the cache may hold the only good copy.
    const range = [toBytes(part.logical, blockSize), toBytes(part.length, blockSize)] as const;
    await syncFileRange(fd, ...range, SYNC_RANGE.ALL);
  }
  await sleep(5 * 2 ** attempt);
}

/** The parts of a segment that do not lie at their new place, holes and delayed allocations left out. */
export function notYetThere(fd: number, segment: Segment, blockSize: Bytes): Promise<Segment[]> {
  return partsWhere(fd, segment, blockSize, (atNewPlace) => !atNewPlace);
}

/** Puts a segment back where it was, as far as it is at its new place. Possible while the donor lives. */
export async function undo(fd: number, segment: Segment, blockSize: Bytes): Promise<void> {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const parts = await partsWhere(fd, segment, blockSize, (atNewPlace) => atNewPlace);
    if (parts.length === 0) return;
    // A failed write-back must not keep the pages from going back to the blocks that still hold their data.
    if (attempt > 0) await giveWay(fd, parts, blockSize, attempt).catch(() => undefined);
    for (const part of parts) await undoPart(fd, part, blockSize);
  }
}

/** In pieces, so that no call holds the file's locks for long, and read ahead as when it was moved. */
async function undoPart(fd: number, part: Segment, blockSize: Bytes): Promise<void> {
  const most = UNDO_CHUNK / blockSize;
  for (let done = 0; done < part.length; done += most) {
    const count = blocks(Math.min(most, part.length - done));
    const start = blocks(part.logical + done);
    await readahead(fd, toBytes(start, blockSize), toBytes(count, blockSize), UNDO_READ_STEP).catch(
      () => undefined,
    );
    await moveExtents(fd, part.donorFd, start, blocks(part.donor + done), count);
  }
}

async function partsWhere(
  fd: number,
  segment: Segment,
  blockSize: Bytes,
  wanted: (atNewPlace: boolean) => boolean,
): Promise<Segment[]> {
  const range = { start: toBytes(segment.logical, blockSize), length: toBytes(segment.length, blockSize) };
  const parts: Segment[] = [];
  for (const extent of await fiemap(fd, blockSize, range)) {
    // FIEMAP answers whole extents, also the parts of them outside the range.
    const start = Math.max(extent.logical, segment.logical);
    const end = Math.min(extent.logical + extent.length, segment.logical + segment.length);
    if (start >= end || extent.flags & EXTENT_FLAG.DELALLOC) continue;
    const offset = start - segment.logical;
    const physical = extent.physical + (start - extent.logical);
    if (!wanted(physical === segment.physical + offset)) continue;
    const last = parts.at(-1);
    // Extents that follow each other are one part: each part costs a call, and what others have open some commits.
    if (last !== undefined && last.logical + last.length === start) {
      parts[parts.length - 1] = { ...last, length: blocks(last.length + end - start) };
      continue;
    }
    parts.push({
      donorFd: segment.donorFd,
      logical: blocks(start),
      donor: blocks(segment.donor + offset),
      physical: blocks(segment.physical + offset),
      length: blocks(end - start),
    });
  }
  return parts;
}
