import { FADV, fadvise, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import { isSystemFailure, type SystemError } from '../kernel/errors.ts';
import { blocks, toBytes, type Bytes } from '../layout/units.ts';
import type { Segment } from '../place/assign.ts';
import type { Barrier } from './barrier.ts';
import type { Reason } from '../scan/reasons.ts';
import { allOf } from './allOf.ts';
import { exchange, undo, type Exposed } from './exchange.ts';
import type { Leases } from './lease.ts';
import type { Pace, Pause } from './pace/pace.ts';
import type { Prefetched, ReadAhead, Stretch } from './readAhead.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** For a file that others have open: a shorter wait for them. */
const SHORT_CHUNK = 8 * MiB;
/** Chunks being written back while the next ones are exchanged: MOVE_EXT itself never waits for dirty pages. */
const MOST_FLUSHING = 2;
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
  readonly toDrop: Stretch[];
}

export interface PipelineContext {
  readonly blockSize: Bytes;
  readonly blocksPerPage: number;
  readonly readAhead: ReadAhead;
  readonly barrier: Barrier;
  readonly leases: Leases;
  readonly pace: Pace;
  readonly signal: AbortSignal;
}

interface Chunk extends Stretch {
  readonly file: MovingFile;
  readonly part: Segment;
  /** It is exchanged, and written back, together with others. */
  readonly small: boolean;
}

/** Chunks that are exchanged at the same time. */
type Wave = readonly Chunk[];

/** How many small files are exchanged together, and what counts as small. */
const WAVE = { chunks: 64, bytes: 8 * MiB, chunk: 1 * MiB };

/**
 * Exchanges the segments of all files in order, a large chunk or many small ones at a time, while the next are read into
 * the cache and the last are written back. Yields after each. Ends early, after the chunks in hand, when the signal is
 * aborted. The caller commits the barrier: only what was exchanged of files that others have open is committed.
 */
export async function* exchangeAll(
  files: readonly MovingFile[],
  context: PipelineContext,
): AsyncGenerator<MovingFile | Pause, void, void> {
  const { pace, leases } = context;
  const signal = AbortSignal.any([context.signal, leases.stopping]);
  const flushing: Promise<unknown>[] = [];
  const waves = wavesOf(files, context);
  const drained = async () => {
    await Promise.all([...flushing, context.readAhead.drained()]);
  };
  let next = announce(waves, context);
  try {
    while (next !== undefined && !context.signal.aborted) {
      const { wave, arrival } = next;
      const prefetched = await arrival;
      // Who waits for a file of this batch ends a pause.
      yield* pace.wait(sizeOf(wave), signal, drained);
      if (context.signal.aborted) break;
      next = announce(waves, context);
      const moved = await allOf(wave.map((chunk, i) => exchangeChunk(chunk, prefetched[i], context)));
      const done = wave.filter((_, i) => moved[i]);
      flushing.push(Promise.all(done.map((chunk) => flush(chunk, context))));
      if (flushing.length > MOST_FLUSHING) await flushing.shift();
      yield wave[wave.length - 1].file;
    }
  } finally {
    await Promise.allSettled([...flushing, next?.arrival]);
  }
}

const sizeOf = (wave: Wave): number => wave.reduce((sum, { length }) => sum + length, 0);

/** The next wave, and the promise that it is in the cache. */
function announce(waves: Iterator<Wave, undefined>, { readAhead }: PipelineContext) {
  const wave = waves.next().value;
  if (wave === undefined) return undefined;
  const arrival = Promise.all(
    wave.map(({ file, offset, length }) => readAhead.ready(file.fd, offset, length)),
  );
  // It is awaited later; until then it is nobody's mistake.
  arrival.catch(() => undefined);
  return { wave, arrival };
}

/** What an exchange has to heed when others have the file open. */
function exposedIn(
  { fd }: MovingFile,
  { leases, blocksPerPage, barrier }: PipelineContext,
): Exposed | undefined {
  return leases.holds(fd) ? undefined : { blocksPerPage, commit: () => barrier.commit() };
}

/** @returns whether something of it may have moved */
async function exchangeChunk(
  chunk: Chunk,
  prefetched: Prefetched,
  context: PipelineContext,
): Promise<boolean> {
  const { file, part } = chunk;
  // What has ended since is not moved on: who wants the file waits for nothing.
  if (hasEnded(file, context)) return false;
  if (prefetched.stuck && (await storms(file, part, context))) {
    file.stopped = 'busy';
    return true;
  }
  const { moved, error, longest } = await context.leases.exchange(file.fd, () =>
    exchange(file.fd, part, context.blockSize, exposedIn(file, context)),
  );
  // Small ones share their way, which says nothing of one call.
  if (!chunk.small) context.pace.took(chunk.length, longest);
  file.moved += moved;
  fail(file, error);
  file.toDrop.push(...prefetched.uncached);
  return true;
}

function hasEnded(file: MovingFile, { leases }: PipelineContext): boolean {
  if (leases.mustStop(file.fd)) file.stopped ??= 'open-elsewhere';
  return file.error !== undefined || file.stopped !== undefined;
}

/** What can be exchanged next, cut when it is asked for. Files that have ended are passed over. */
function* wavesOf(files: readonly MovingFile[], context: PipelineContext): Generator<Wave, undefined> {
  let wave: Chunk[] = [];
  let room = WAVE.bytes;
  for (const file of files) {
    for (const segment of file.segments) {
      for (let done = 0; done < segment.length && !hasEnded(file, context);) {
        const chunk = chunkOf(file, segment, done, context);
        done += chunk.part.length;
        const joins = chunk.small && wave.length < WAVE.chunks && chunk.length <= room;
        if (wave.length > 0 && !joins) {
          yield wave;
          wave = [];
        }
        if (wave.length === 0) room = Math.min(WAVE.bytes, context.pace.mostAtOnce);
        wave.push(chunk);
        room -= chunk.small ? chunk.length : Infinity;
      }
    }
  }
  if (wave.length > 0) yield wave;
  return undefined;
}

function chunkOf(file: MovingFile, segment: Segment, done: number, context: PipelineContext): Chunk {
  const { blockSize, leases, pace } = context;
  const leased = leases.holds(file.fd);
  const most = Math.min(pace.chunkBytes, leased ? Infinity : SHORT_CHUNK);
  const length = blocks(Math.min(Math.floor(most / blockSize), segment.length - done));
  const part = {
    donorFd: segment.donorFd,
    logical: blocks(segment.logical + done),
    donor: blocks(segment.donor + done),
    physical: blocks(segment.physical + done),
    length,
  };
  return {
    file,
    part,
    offset: toBytes(part.logical, blockSize),
    length: toBytes(length, blockSize),
    // A file that others have open is committed with each chunk.
    small: leased && toBytes(segment.length, blockSize) <= WAVE.chunk,
  };
}

/**
 * Whether the kernel commits the journal for every page of a mapped file: on Linux 6.16 to 6.18 a dirty page in a large
 * folio makes it, and mapped folios cannot be dropped. Exchanges the beginning of the chunk and takes the time.
 */
async function storms(file: MovingFile, part: Segment, context: PipelineContext): Promise<boolean> {
  const { blockSize, leases } = context;
  const length = blocks(Math.min(part.length, STORM_PROBE.bytes / blockSize));
  const probe = { ...part, length };
  return leases.exchange(file.fd, async () => {
    const started = performance.now();
    const { moved, error } = await exchange(file.fd, probe, blockSize);
    file.moved += moved;
    fail(file, error);
    if (performance.now() - started > STORM_PROBE.time) return true;
    try {
      // Back again, so that the chunk can be exchanged as a whole: a block exchanged twice is where it was.
      await undo(file.fd, probe, blockSize);
      await exposedIn(file, context)?.commit();
      file.moved -= moved;
    } catch (failure) {
      if (!isSystemFailure(failure)) throw failure;
      fail(file, failure as SystemError);
    }
    return false;
  });
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
async function flush(
  { file, part, offset, length, small }: Chunk,
  { blockSize }: PipelineContext,
): Promise<void> {
  try {
    // Nobody waits for the small ones here: they are awaited together at the end, when their donor is closed as well.
    await syncFileRange(file.fd, offset, length, small ? SYNC_RANGE.WRITE : SYNC_RANGE.ALL);
    if (!small) await fadvise(part.donorFd, toBytes(part.donor, blockSize), length, FADV.DONTNEED);
  } catch (error) {
    fail(file, error as SystemError);
  }
}
