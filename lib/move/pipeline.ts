import { cachestat, FADV, fadvise, readahead, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import type { SystemError } from '../kernel/errors.ts';
import { blocks, bytes, toBytes, type Bytes } from '../layout/units.ts';
import type { Segment } from '../place/assign.ts';
import type { Barrier } from './barrier.ts';
import { exchange } from './exchange.ts';
import type { Leases } from './lease.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** One ioctl's worth: below 8 MiB the calls cost, above 16 the locks are held for long and nothing is gained. */
const CHUNK = 16 * MiB;
/** For a file that others have open: a shorter wait for them, and a shorter window before its barrier. */
const SHORT_CHUNK = 8 * MiB;
/** How far reading runs ahead of exchanging. */
const AHEAD = 32 * MiB;
/** readahead(2) may be capped at the device's read_ahead_kb, 128 KiB unless set, and drops what is beyond. */
const READ_STEP = bytes(128 * KiB);
/** Chunks being written back while the next ones are exchanged: MOVE_EXT itself never waits for dirty pages. */
const MOST_FLUSHING = 2;

/** A file being moved. */
export interface MovingFile {
  readonly path: Buffer;
  readonly fd: number;
  readonly segments: readonly Segment[];
  /** Blocks exchanged so far. */
  moved: number;
  /** What ended its move early. */
  error: SystemError | undefined;
  /** The device did not take what was written to the new place. */
  writeFailed: boolean;
}

export interface PipelineContext {
  readonly blockSize: Bytes;
  readonly pageSize: Bytes;
  readonly barrier: Barrier;
  readonly leases: Leases;
  readonly signal: AbortSignal | undefined;
  /** On Linux 6.16 to 6.18 a dirty page in a large folio makes the kernel commit the journal for every page. */
  readonly dropFolios: boolean;
}

interface Chunk {
  readonly file: MovingFile;
  readonly part: Segment;
  readonly offset: Bytes;
  readonly length: Bytes;
}

/**
 * Exchanges the segments of all files in order: chunk by chunk, while the next chunks are read into the cache and
 * the last ones are written back. Yields after each chunk. Ends early, after the chunk in hand, when the signal is
 * aborted. The caller commits the barrier: only files that others have open had theirs after each chunk.
 */
export async function* exchangeAll(
  files: readonly MovingFile[],
  context: PipelineContext,
): AsyncGenerator<MovingFile, void, void> {
  const chunks = files.flatMap((file) => [...chunksOf(file, context)]);
  const reading = new Map<Chunk, Promise<boolean>>();
  const flushing: Promise<void>[] = [];
  let ahead = 0;
  let aheadBytes = 0;
  try {
    for (const chunk of chunks) {
      while (ahead < chunks.length && (aheadBytes < AHEAD || !reading.has(chunk))) {
        const next = chunks[ahead++];
        aheadBytes += next.length;
        reading.set(next, prefetch(next, context));
      }
      const wasCached = (await reading.get(chunk)) ?? true;
      reading.delete(chunk);
      aheadBytes -= chunk.length;
      const { file, part } = chunk;
      if (file.error !== undefined) continue;
      if (context.signal?.aborted) break;
      const result = await exchange(file.fd, part, context.blockSize);
      file.moved += result.moved;
      file.error = result.error;
      flushing.push(flush(chunk, wasCached, context));
      if (flushing.length > MOST_FLUSHING) await flushing.shift();
      await closeWindows(file, context);
      yield file;
    }
  } finally {
    await Promise.allSettled([...reading.values(), ...flushing]);
  }
}

function* chunksOf(file: MovingFile, { blockSize, leases }: PipelineContext): Iterable<Chunk> {
  const most = (leases.holds(file.fd) ? CHUNK : SHORT_CHUNK) / blockSize;
  for (const segment of file.segments) {
    for (let done = 0; done < segment.length; done += most) {
      const length = blocks(Math.min(most, segment.length - done));
      const part = {
        donorFd: segment.donorFd,
        logical: blocks(segment.logical + done),
        donor: blocks(segment.donor + done),
        physical: blocks(segment.physical + done),
        length,
      };
      yield {
        file,
        part,
        offset: toBytes(part.logical, blockSize),
        length: toBytes(length, blockSize),
      };
    }
  }
}

/**
 * Brings a chunk into the cache: MOVE_EXT would read it page by page, one request after the other. Only a help: what
 * goes wrong here shows when the chunk is exchanged.
 *
 * @returns whether most of it was cached already
 */
async function prefetch(
  { file, offset, length }: Chunk,
  { dropFolios, pageSize }: PipelineContext,
): Promise<boolean> {
  try {
    const state = await cachestat(file.fd, offset, length);
    if (dropFolios && state !== undefined && state.cached > 0) {
      await syncFileRange(file.fd, offset, length, SYNC_RANGE.ALL);
      await fadvise(file.fd, offset, length, FADV.DONTNEED);
    }
    await readahead(file.fd, offset, length, READ_STEP);
    // Where the kernel does not tell, what is cached stays cached.
    return state === undefined || state.cached * pageSize * 2 > length;
  } catch {
    return true;
  }
}

/** Writes an exchanged chunk back, and leaves the cache as it was. Never rejects: it is awaited later. */
async function flush(
  { file, part, offset, length }: Chunk,
  keepCached: boolean,
  { blockSize }: PipelineContext,
): Promise<void> {
  try {
    await syncFileRange(file.fd, offset, length, SYNC_RANGE.ALL);
    if (!keepCached) await fadvise(file.fd, offset, length, FADV.DONTNEED);
    await fadvise(part.donorFd, toBytes(part.donor, blockSize), length, FADV.DONTNEED);
  } catch (error) {
    // The cache may hold the only good copy: it is kept, and the file goes back to its old place.
    file.writeFailed = true;
    file.error ??= error as SystemError;
  }
}

/** Commits for a file that others have open, and for the files whose lease somebody waits for. */
async function closeWindows(file: MovingFile, { barrier, leases }: PipelineContext): Promise<void> {
  const wanted = await leases.wanted();
  if (wanted.length > 0 || !leases.holds(file.fd)) await barrier.commit();
  for (const fd of wanted) await leases.drop(fd);
}
