import { atLeast } from '../ext4/safety.ts';
import { isSystemFailure, type SystemError } from '../kernel/errors.ts';
import { closeFd } from '../kernel/handle.ts';
import { blocks, toBlocks, type Bytes } from '../layout/units.ts';
import { DonorStock, LONGEST_UNWRITTEN, spendableBlocks } from '../place/donors.ts';
import type { FreeMap } from '../place/freeMap.ts';
import { freeNearby } from '../place/nearby.ts';
import { place } from '../place/place.ts';
import type { SearchDepth } from '../place/searchDepth.ts';
import type { PlanOptions } from '../plan/plan.ts';
import type { Filesystem } from '../scan/filesystem.ts';
import type { Reason } from '../scan/reasons.ts';
import { openParent, type ScannedFile } from '../scan/scan.ts';
import { allOf } from './allOf.ts';
import type { Barrier } from './barrier.ts';
import type { Budget } from './budget.ts';
import { leftAlone, placesOf, type Candidate, type Outcome } from './candidate.ts';
import { inDirectoryOrder } from './directoryOrder.ts';
import { EarlyReading } from './earlyReading.ts';
import type { HeadStart } from './headStart.ts';
import { dropWritten, failure, judge, measure } from './judge.ts';
import { Leases } from './lease.ts';
import type { Measurement } from './measure.ts';
import type { Memory } from './memory.ts';
import { openAll, type Job } from './opening.ts';
import type { Pace } from './pace/pace.ts';
import { exchangeAll, fail, type MovingFile } from './pipeline.ts';
import { ReadAhead, readableOf } from './readAhead.ts';
import type { UndoLog } from './undo.ts';
import { watched, Watchdog } from './watchdog.ts';

export interface BatchContext {
  readonly filesystem: Filesystem;
  /** A directory on the filesystem where donors are made when the files' own directory cannot be used. */
  readonly dirFd: number;
  readonly pageSize: Bytes;
  readonly barrier: Barrier;
  readonly planOptions: PlanOptions;
  /** Leave files alone that others have open. */
  readonly exclusive: boolean;
  readonly pace: Pace;
  /** What may still be moved. Its signal ends the work. */
  readonly budget: Budget;
  /** Why the work ends, when it does so early. */
  readonly ending: () => Reason;
  /** What earlier runs learned, where that is kept. */
  readonly memory: Memory | undefined;
  readonly measurement: Measurement | undefined;
  /** Inode numbers of files that lent a block which could not be given back, and have not been moved since. */
  readonly displaced: Set<number>;
  /** Told of every file that was moved, at once: nobody may ask for what became of it. */
  readonly undo?: UndoLog | undefined;
  readonly placer: Placer;
  /** Files that found no good place before shall have the best there is. */
  readonly lastChance?: boolean;
  /** What has been begun with the only file that there is. */
  readonly headStart?: HeadStart | undefined;
  /** Where the allocator can be made to look longer. */
  readonly searchDepth: SearchDepth | undefined;
  /** The share of the filesystem that always stays free, where it is not the usual one. */
  readonly reserveShare?: number | undefined;
}

/** What a batch's files are placed with. */
export interface PlacingContext extends BatchContext {
  /** What is allocated is held in it until the batch is done. */
  readonly stock: DonorStock;
  /** Makes one for files that are placed apart from the others. */
  readonly anotherStock: () => DonorStock;
  /** What is free around a large file before anything is allocated. */
  readonly near?: FreeMap | undefined;
}

/** Which files of a batch have a place, their segments set, and why the others have none. */
export interface Placed {
  readonly jobs: readonly Job[];
  readonly refused: readonly { readonly job: Job; readonly reason: Reason }[];
  /** Files that may find a place when the others have moved and their old blocks are free. */
  readonly later?: readonly Job[];
}

/** Finds places for the files of a batch. What goes on meanwhile are outcomes as well. */
export type Placer = (jobs: readonly Job[], context: PlacingContext) => AsyncGenerator<Outcome, Placed, void>;

/**
 * Moves a batch of files: they share donors, one pipeline and one barrier, and each is judged alone by its layout
 * after the barrier. Whatever goes wrong with one leaves the others be; whatever ends the batch, every exchange is
 * committed before a donor or a lease is let go.
 */
export async function* moveBatch(
  candidates: readonly Candidate[],
  surroundings: BatchContext,
): AsyncGenerator<Outcome, void, void> {
  const { dirFd, reserveShare } = surroundings;
  // That may have been all there was.
  const allHavePlaces = candidates.every((candidate) => placesOf(candidate) !== undefined);
  if (!allHavePlaces && (await spendableBlocks(dirFd, reserveShare)) === 0) {
    for (const candidate of candidates) yield leftAlone(candidate, 'no-space');
    return;
  }
  using watchdog = await Watchdog.start(surroundings);
  yield* watchdog.guard(carryOut(candidates, surroundings, watchdog));
}

async function* carryOut(
  candidates: readonly Candidate[],
  surroundings: BatchContext,
  watchdog: Watchdog,
): AsyncGenerator<Outcome, void, void> {
  const context = watched(surroundings, watchdog);
  const { filesystem, barrier, pace, dirFd, reserveShare, budget } = context;
  const { blockSize } = filesystem;
  let jobs: readonly Job[] = [];
  const inOrder = await inDirectoryOrder(candidates);
  const nearFd = inOrder.length === 0 ? undefined : await openParent(inOrder[0].file);
  const stocks: DonorStock[] = [];
  const anotherStock = () => {
    stocks.push(new DonorStock([nearFd ?? dirFd, dirFd], blockSize, reserveShare));
    return stocks[stocks.length - 1];
  };
  using leases = new Leases(() => barrier.commit());
  /** Those of which nothing has been told. */
  let untold: readonly Job[] = [];
  /** Those that may have been exchanged, and are still to be judged. */
  let unjudged: readonly Job[] = [];
  const { headStart } = context;
  const early = headStart?.reading ?? new EarlyReading(readingContext(context));
  let readAhead: ReadAhead | undefined;
  const nearby = headStart === undefined ? lookNearby(inOrder, context) : headStart.near;
  try {
    const opened = await openAll(inOrder, surroundings, leases, early);
    untold = jobs = opened.jobs;
    // The device has nothing else to do while places are looked for.
    readAhead = await early.of(jobs);
    readAhead ??= new ReadAhead(readableOf(jobs, blockSize), readingContext(context, jobs));
    void readAhead.start();
    yield* opened.outcomes;
    const placing = { ...context, stock: anotherStock(), anotherStock, near: await nearby };
    const placed = yield* placeAll(jobs, placing);
    for (const { job, reason } of placed.refused) {
      // What was to be tried next was not.
      const found = budget.signal.aborted && reason === 'no-better-place' ? context.ending() : reason;
      yield watchdog.explain(leftAlone(job.candidate, found, job.why));
    }
    for (const { candidate } of placed.later ?? []) yield { kind: 'again', candidate };
    untold = unjudged = placed.jobs;
    const blocksPerPage = Math.max(1, context.pageSize / blockSize);
    const pipeline = { blockSize, blocksPerPage, barrier, leases, readAhead, pace, signal: budget.signal };
    let before = 0;
    for await (const step of exchangeAll(placed.jobs, pipeline)) {
      if ('paused' in step) {
        yield { kind: 'pause', pause: step };
        continue;
      }
      const moved = placed.jobs.reduce((sum, job) => sum + job.moved, 0);
      yield { kind: 'moving', path: step.path, moved: blocks(moved - before) };
      before = moved;
    }
    await allOf([barrier.commit(), ...placed.jobs.map((job) => dropWritten(job, context))]);
    unjudged = [];
    const outcomes = await allOf(placed.jobs.map((job) => judge(job, context)));
    // Whoever asks for these may take his time, and somebody else may want the space.
    await allOf(stocks.map((stock) => stock.close()));
    untold = [];
    for (const [i, outcome] of outcomes.entries()) {
      yield watchdog.explain(await measure(outcome, placed.jobs[i], context));
    }
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    // What ends the work on the whole filesystem is told of each file in hand, too: nobody knows what became of it.
    for (const job of untold) yield failure(job, error);
    throw error;
  } finally {
    // Nobody asks for more, or something went wrong: what could not be written has to go back all the same.
    const committed = await Promise.allSettled(unjudged.length > 0 ? [barrier.commit()] : []);
    const judged = await Promise.allSettled(unjudged.map((job) => judge(job, context)));
    // Closing a file drops its lease as well. After a failed commit the journal is aborted and the filesystem
    // read-only, so nobody can be given the donors' blocks.
    await Promise.allSettled([readAhead?.close(), early.end(), nearby]);
    await leases.settled();
    const closed = await Promise.allSettled([
      ...jobs.map(({ fd }) => closeFd(fd)),
      ...stocks.map((stock) => stock.close()),
      ...(nearFd === undefined ? [] : [closeFd(nearFd)]),
    ]);
    await allOf([...committed, ...judged, ...closed].map(again));
  }
}

/** What is free where a large file lies, for which the allocator alone would hardly find one run. */
async function lookNearby(
  candidates: readonly Candidate[],
  context: BatchContext,
): Promise<FreeMap | undefined> {
  const large = candidates.find(
    (candidate) => placesOf(candidate) === undefined && isLarge(candidate.planned, context),
  );
  return large && freeAround(large.file, large.planned, context);
}

/** Whether it takes more than one allocation. */
export const isLarge = (planned: Bytes, { filesystem: { blockSize } }: BatchContext): boolean =>
  planned > LONGEST_UNWRITTEN * blockSize;

/** What is free where a file lies of which so much is going to move. */
export function freeAround(
  { extents }: ScannedFile,
  planned: Bytes,
  { dirFd, filesystem: { blockSize, geometry } }: BatchContext,
): Promise<FreeMap | undefined> {
  const [around = 0] = extents.physical;
  return freeNearby(dirFd, blockSize, geometry, around, toBlocks(planned, blockSize));
}

async function* placeAll(
  jobs: readonly Job[],
  context: PlacingContext,
): AsyncGenerator<Outcome, Placed, void> {
  if (jobs.every(({ candidate }) => placesOf(candidate) !== undefined)) return { jobs, refused: [] };
  return yield* context.placer(jobs, context);
}

/** What became of a promise, to be awaited again. */
const again = (result: PromiseSettledResult<unknown>): Promise<unknown> =>
  result.status === 'rejected' ? Promise.reject(result.reason as Error) : Promise.resolve();

/** How files are read ahead. What goes wrong with one is noted. */
export function readingContext(
  { filesystem: { blockSize, kernel }, pageSize }: BatchContext,
  jobs: readonly MovingFile[] = [],
) {
  return {
    blockSize,
    pageSize,
    dropFolios: atLeast(kernel, 6, 16) && !atLeast(kernel, 6, 19),
    failed: (fd: number, error: SystemError) => {
      const job = jobs.find((other) => other.fd === fd);
      if (job !== undefined) fail(job, error);
    },
  };
}

/** Places files where the allocator finds room. */
export const placeWhereFree: Placer = async function* (jobs, context) {
  if (jobs.length === 0) return { jobs: [], refused: [] };
  const { filesystem, pageSize, stock, barrier, searchDepth: depth, near } = context;
  const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
  const steps: Outcome[] = [];
  const placements = await place(
    jobs.map((job) => job.plan),
    stock,
    blocksPerPage,
    {
      told: (step, reason) => steps.push({ kind: 'placing', path: jobs[0].path, step, reason }),
      deep: depth && { depth, commit: () => barrier.commit(), geometry: filesystem.geometry, near },
    },
  );
  yield* steps;
  const refused: { job: Job; reason: Reason }[] = [];
  const placed = jobs.filter((job, i) => {
    const placement = placements[i];
    if (typeof placement === 'string') refused.push({ job, reason: placement });
    else job.segments = placement;
    return typeof placement !== 'string';
  });
  return { jobs: placed, refused };
};
