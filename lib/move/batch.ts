import { atLeast } from '../ext4/safety.ts';
import type { SystemError } from '../kernel/errors.ts';
import { closeFd } from '../kernel/handle.ts';
import { blocks, type Bytes } from '../layout/units.ts';
import { DonorStock } from '../place/donors.ts';
import { place } from '../place/place.ts';
import type { PlanOptions } from '../plan/plan.ts';
import type { Filesystem } from '../scan/filesystem.ts';
import type { Reason } from '../scan/reasons.ts';
import { openParent } from '../scan/scan.ts';
import { allOf } from './allOf.ts';
import type { Barrier } from './barrier.ts';
import type { Budget } from './budget.ts';
import { leftAlone, type Candidate, type Outcome } from './candidate.ts';
import { inDirectoryOrder } from './directoryOrder.ts';
import { judge, measure } from './judge.ts';
import { Leases } from './lease.ts';
import type { Measurement } from './measure.ts';
import type { Memory } from './memory.ts';
import { openAll, type Job } from './opening.ts';
import type { Pace } from './pace/pace.ts';
import { exchangeAll, fail } from './pipeline.ts';
import { ReadAhead } from './readAhead.ts';

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
}

/**
 * Moves a batch of files: they share donors, one pipeline and one barrier, and each is judged alone by its layout
 * after the barrier. Whatever goes wrong with one leaves the others be; whatever ends the batch, every exchange is
 * committed before a donor or a lease is let go.
 */
export async function* moveBatch(
  candidates: readonly Candidate[],
  context: BatchContext,
): AsyncGenerator<Outcome, void, void> {
  const { filesystem, barrier, pace, budget } = context;
  const { blockSize } = filesystem;
  let jobs: readonly Job[] = [];
  const inOrder = await inDirectoryOrder(candidates);
  const nearFd = inOrder.length === 0 ? undefined : await openParent(inOrder[0].file);
  const stock = new DonorStock([nearFd ?? context.dirFd, context.dirFd], blockSize);
  using leases = new Leases(() => barrier.commit());
  /** Those that may have been exchanged, and are still to be judged. */
  let unjudged: readonly Job[] = [];
  let readAhead: ReadAhead | undefined;
  try {
    const opened = await openAll(inOrder, context, leases);
    jobs = opened.jobs;
    yield* opened.outcomes;
    // The device has nothing else to do while places are looked for.
    readAhead = new ReadAhead(jobs, readingContext(context, jobs));
    readAhead.start();
    const placed = await placeAll(jobs, stock, context);
    for (const { job, reason } of placed.refused) yield leftAlone(job.candidate, reason);
    unjudged = placed.jobs;
    const pipeline = { blockSize, barrier, leases, readAhead, pace, signal: budget.signal };
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
    await barrier.commit();
    unjudged = [];
    const outcomes = await allOf(placed.jobs.map((job) => judge(job, context)));
    for (const [i, outcome] of outcomes.entries()) yield await measure(outcome, placed.jobs[i], context);
  } finally {
    // Nobody asks for more, or something went wrong: what could not be written has to go back all the same.
    const committed = await Promise.allSettled(unjudged.length > 0 ? [barrier.commit()] : []);
    const judged = await Promise.allSettled(unjudged.map((job) => judge(job, context)));
    // Closing a file drops its lease as well. After a failed commit the journal is aborted and the filesystem
    // read-only, so nobody can be given the donors' blocks.
    await readAhead?.close();
    await leases.settled();
    const closed = await Promise.allSettled([
      ...jobs.map(({ fd }) => closeFd(fd)),
      stock.close(),
      ...(nearFd === undefined ? [] : [closeFd(nearFd)]),
    ]);
    await allOf([...committed, ...judged, ...closed].map(again));
  }
}

/** What became of a promise, to be awaited again. */
const again = (result: PromiseSettledResult<unknown>): Promise<unknown> =>
  result.status === 'rejected' ? Promise.reject(result.reason as Error) : Promise.resolve();

function readingContext({ filesystem: { blockSize, kernel }, pageSize }: BatchContext, jobs: readonly Job[]) {
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

async function placeAll(jobs: readonly Job[], stock: DonorStock, { filesystem, pageSize }: BatchContext) {
  if (jobs.length === 0) return { jobs: [], refused: [] };
  const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
  const placements = await place(
    jobs.map((job) => job.plan),
    stock,
    blocksPerPage,
  );
  const refused: { job: Job; reason: Reason }[] = [];
  const placed = jobs.filter((job, i) => {
    const placement = placements[i];
    if (typeof placement === 'string') refused.push({ job, reason: placement });
    else job.segments = placement;
    return typeof placement !== 'string';
  });
  return { jobs: placed, refused };
}
