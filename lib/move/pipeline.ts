import { FADV, fadvise, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import type { SystemError } from '../kernel/errors.ts';
import { blocks, toBytes, type Bytes } from '../layout/units.ts';
import type { Segment } from '../place/assign.ts';
import type { Barrier } from './barrier.ts';
import type { Reason } from '../scan/reasons.ts';
import { exchange, undo } from './exchange.ts';
import type { Leases } from './lease.ts';
import type { ReadAhead } from './readAhead.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** One ioctl's worth: below 8 MiB the calls cost, above 16 the locks are held for long and nothing is gained. */
const CHUNK = 16 * MiB;
/** For a file that others have open: a shorter wait for them, and a shorter window before its barrier. */
const SHORT_CHUNK = 8 * MiB;
/** Chunks being written back while the next ones are exchanged: MOVE_EXT itself never waits for dirty pages. */
const MOST_FLUSHING = 1;
/** How long, in milliseconds, an exchange of an open file may wait for its commit; or how many bytes. */
const MOST_EXPOSED = { time: 100, bytes: SHORT_CHUNK };
/** A piece that shows whether the kernel commits for every page, and the milliseconds that it takes when it does. */
const STORM_PROBE = { bytes: 256 * KiB, time: 50 };

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
  /** Why its move ended early without an error. */
  stopped: Reason | undefined;
  /** What was not cached before, and is dropped when everything is known to be written. */
  readonly toDrop: { readonly offset: Bytes; readonly length: Bytes }[];
}

export interface PipelineContext {
  readonly blockSize: Bytes;
  readonly readAhead: ReadAhead;
  readonly barrier: Barrier;
  readonly leases: Leases;
  readonly signal: AbortSignal | undefined;
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
  const window = new ExposedWindow(context);
  const flushing: Promise<void>[] = [];
  try {
    for (const chunk of files.flatMap((file) => [...chunksOf(file, context)])) {
      const { file, part, offset, length } = chunk;
      // Before and after the wait: what ends here is not read to its end, and who wants the file waits for nothing.
      if (hasEnded(file, context)) continue;
      if (context.signal?.aborted) break;
      const prefetched = await context.readAhead.ready(file.fd, offset, length);
      if (hasEnded(file, context)) continue;
      if (context.signal?.aborted) break;
      if (prefetched.stuck && (await storms(file, part, context))) {
        file.stopped = 'busy';
        // The piece that showed it has moved.
        yield file;
        continue;
      }
      const result = await exchange(file.fd, part, context.blockSize);
      file.moved += result.moved;
      fail(file, result.error);
      if (!prefetched.wasCached) file.toDrop.push({ offset, length });
      flushing.push(flush(chunk, context));
      if (flushing.length > MOST_FLUSHING) await flushing.shift();
      await window.exchanged(file, length);
      yield file;
    }
  } finally {
    await Promise.allSettled(flushing);
  }
}

function hasEnded(file: MovingFile, { leases }: PipelineContext): boolean {
  if (leases.mustStop(file.fd)) file.stopped ??= 'open-elsewhere';
  return file.error !== undefined || file.stopped !== undefined;
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
 * Whether the kernel commits the journal for every page of a mapped file: on Linux 6.16 to 6.18 a dirty page in a large
 * folio makes it, and mapped folios cannot be dropped. Exchanges the beginning of the chunk and takes the time.
 */
async function storms(file: MovingFile, part: Segment, { blockSize }: PipelineContext): Promise<boolean> {
  const length = blocks(Math.min(part.length, STORM_PROBE.bytes / blockSize));
  const started = performance.now();
  const { moved, error } = await exchange(file.fd, { ...part, length }, blockSize);
  file.moved += moved;
  fail(file, error);
  if (performance.now() - started > STORM_PROBE.time) return true;
  // Back again, so that the chunk can be exchanged as a whole: a block exchanged twice is where it was.
  await undo(file.fd, { ...part, length }, blockSize);
  file.moved -= moved;
  return false;
}

/** Notes what went wrong first. A failed write means that the new place cannot be trusted. */
export function fail(file: MovingFile, error: SystemError | undefined): void {
  if (error === undefined) return;
  if (error.syscall === 'sync_file_range') file.writeFailed = true;
  file.error ??= error;
}

/**
 * Writes an exchanged chunk back. A write that fails is reported once for each descriptor and not for each range, so
 * nothing of the file is dropped from the cache before all of it is known to be written. Never rejects: it is awaited
 * later.
 */
async function flush({ file, part, offset, length }: Chunk, { blockSize }: PipelineContext): Promise<void> {
  try {
    await syncFileRange(file.fd, offset, length, SYNC_RANGE.ALL);
    await fadvise(part.donorFd, toBytes(part.donor, blockSize), length, FADV.DONTNEED);
  } catch (error) {
    fail(file, error as SystemError);
  }
}

/** The window between an exchange and its commit, for files that others have open: kept short, without a commit a piece. */
class ExposedWindow {
  readonly #context: PipelineContext;
  #bytes = 0;
  #since = 0;

  constructor(context: PipelineContext) {
    this.#context = context;
  }

  async exchanged(file: MovingFile, length: number): Promise<void> {
    if (this.#context.leases.holds(file.fd)) return;
    if (this.#bytes === 0) this.#since = performance.now();
    this.#bytes += length;
    if (this.#bytes < MOST_EXPOSED.bytes && performance.now() - this.#since < MOST_EXPOSED.time) return;
    await this.#context.barrier.commit();
    this.#bytes = 0;
  }
}
