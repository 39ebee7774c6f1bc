import { atLeast } from '../ext4/safety.ts';
import { FADV, fadvise, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import { isSystemFailure, type SystemError } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { closeFd } from '../kernel/handle.ts';
import { mergeExtents } from '../layout/extents.ts';
import { countFragments } from '../layout/fragments.ts';
import { blocks, bytes, toBlocks, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import { demand } from '../place/assign.ts';
import { DonorStock, spendableBlocks } from '../place/donors.ts';
import { place } from '../place/place.ts';
import { clip, fragmentsAfter, limitPlan, planFile, type FilePlan, type PlanOptions } from '../plan/plan.ts';
import type { Filesystem } from '../scan/filesystem.ts';
import type { Reason } from '../scan/reasons.ts';
import { openForMove, openParent, reasonOf, type ScannedFile } from '../scan/scan.ts';
import type { Barrier } from './barrier.ts';
import { isTransient, undo } from './exchange.ts';
import { Leases } from './lease.ts';
import { exchangeAll, fail, type MovingFile } from './pipeline.ts';
import { ReadAhead } from './readAhead.ts';

/** A file to be moved, and what earlier rounds did to it: a file that does not fit beside itself takes several. */
export interface Candidate {
  readonly file: ScannedFile;
  readonly earlier?:
    | {
        readonly fragmentsBefore: number;
        readonly fragmentsAfter: number;
        readonly moved: Blocks;
        readonly rounds: number;
      }
    | undefined;
}

export interface BatchContext {
  readonly filesystem: Filesystem;
  /** A directory on the filesystem where donors are made when the files' own directory cannot be used. */
  readonly dirFd: number;
  readonly pageSize: Bytes;
  readonly barrier: Barrier;
  readonly planOptions: PlanOptions;
  /** Leave files alone that others have open. */
  readonly exclusive: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What became of a candidate, or how far its batch is. */
export type Outcome =
  | { readonly kind: 'skip'; readonly file: ScannedFile; readonly reason: Reason }
  | { readonly kind: 'failed'; readonly file: ScannedFile; readonly error: Error; readonly moved: Blocks }
  | {
      readonly kind: 'defragmented';
      readonly file: ScannedFile;
      readonly fragmentsBefore: number;
      readonly fragmentsAfter: number;
      readonly moved: Blocks;
      readonly incomplete: Reason | undefined;
    }
  /** To be tried again in the next batch, with what this one did. */
  | { readonly kind: 'again'; readonly candidate: Candidate }
  | { readonly kind: 'moving'; readonly path: Buffer; readonly moved: Blocks };

interface Job extends MovingFile, Opened {
  segments: MovingFile['segments'];
  /** The plan was cut to what fits beside the reserve. */
  readonly cut: boolean;
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
  const { filesystem, barrier, signal } = context;
  const { blockSize } = filesystem;
  let jobs: readonly Job[] = [];
  const nearFd = candidates.length === 0 ? undefined : await openParent(candidates[0].file);
  const stock = new DonorStock([nearFd ?? context.dirFd, context.dirFd], blockSize);
  using leases = new Leases(() => barrier.commit());
  let exchanging = false;
  let readAhead: ReadAhead | undefined;
  try {
    const opened = await openAll(candidates, context, leases);
    jobs = opened.jobs;
    yield* opened.outcomes;
    // The device has nothing else to do while places are looked for.
    readAhead = new ReadAhead(jobs, readingContext(context, jobs));
    readAhead.start();
    const placed = await placeAll(jobs, stock, context);
    for (const { job, reason } of placed.refused) yield leftAlone(job, reason);
    exchanging = placed.jobs.length > 0;
    let before = 0;
    for await (const file of exchangeAll(placed.jobs, { blockSize, barrier, leases, readAhead, signal })) {
      const moved = placed.jobs.reduce((sum, job) => sum + job.moved, 0);
      yield { kind: 'moving', path: file.path, moved: blocks(moved - before) };
      before = moved;
    }
    await barrier.commit();
    yield* await allOf(placed.jobs.map((job) => judge(job, context)));
  } finally {
    try {
      if (exchanging) await barrier.commit();
    } finally {
      // Closing a file drops its lease as well. After a failed commit the journal is aborted and the filesystem
      // read-only, so nobody can be given the donors' blocks.
      await readAhead?.close();
      await leases.settled();
      await Promise.all(jobs.map(({ fd }) => closeFd(fd)));
      await stock.close();
      if (nearFd !== undefined) await closeFd(nearFd);
    }
  }
}

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

/** A candidate that is open, with what is to be moved of it as it lies now. */
interface Opened {
  readonly candidate: Candidate;
  readonly fd: number;
  readonly sizeBlocks: Blocks;
  readonly plan: FilePlan;
  /** Fragments of the whole layout, blocks behind the end of the file included. */
  readonly fragmentsBefore: number;
}

/** Opens and plans the candidates anew: what the scan saw may be long ago. */
async function openAll(candidates: readonly Candidate[], context: BatchContext, leases: Leases) {
  const outcomes: Outcome[] = [];
  let budget: number = await spendableBlocks(context.dirFd);
  const opened = await allOf(candidates.map((candidate) => openOne(candidate, context)));
  const asked: Promise<Job | Outcome>[] = [];
  for (const file of opened) {
    if ('kind' in file) {
      outcomes.push(file);
      continue;
    }
    const plan = fit(file.plan, budget, context, asked.length === 0);
    if (typeof plan === 'object') {
      budget -= demandOf(plan, context);
      asked.push(takeLease({ ...file, plan }, plan !== file.plan, context, leases));
      continue;
    }
    await closeFd(file.fd);
    // The next batch has room for it, or it comes first there.
    outcomes.push(plan === 'later' ? { kind: 'again', candidate: file.candidate } : leftAlone(file, plan));
  }
  const jobs: Job[] = [];
  for (const job of await allOf(asked)) {
    if ('fd' in job) jobs.push(job);
    else outcomes.push(job);
  }
  return { jobs, outcomes };
}

/** Waits for all, also when one fails: what they use is closed then. */
async function allOf<T>(promises: Iterable<Promise<T>>): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

/** As much of a plan as fits; only what comes first in its batch is cut. */
function fit(
  plan: FilePlan,
  budget: number,
  context: BatchContext,
  first: boolean,
): FilePlan | Reason | 'later' {
  if (demandOf(plan, context) <= budget) return plan;
  if (!first) return 'later';
  return limitPlan(plan, withinBudget(plan, budget, context)) ?? 'no-space';
}

async function openOne(candidate: Candidate, context: BatchContext): Promise<Opened | Outcome> {
  const { file } = candidate;
  let fd: number | undefined;
  try {
    const opened = await openForMove(file);
    if (typeof opened === 'string') return leftAlone({ candidate }, opened);
    fd = opened.fd;
    const sizeBlocks = toBlocks(opened.size, context.filesystem.blockSize);
    const plan = planFile(opened.extents, sizeBlocks, context.planOptions);
    if (typeof plan === 'string') return leftAlone({ candidate }, plan);
    fd = undefined;
    return { candidate, fd: opened.fd, sizeBlocks, plan, fragmentsBefore: countFragments(opened.extents) };
  } catch (error) {
    return trouble(candidate, error);
  } finally {
    if (fd !== undefined) await closeFd(fd);
  }
}

async function takeLease(
  opened: Opened,
  cut: boolean,
  context: BatchContext,
  leases: Leases,
): Promise<Job | Outcome> {
  const { candidate, fd } = opened;
  const { file } = candidate;
  let kept = false;
  try {
    // Who executes a program must not find it open for writing, and --exclusive means what it says.
    const whenWanted = context.exclusive || file.executable ? 'stop' : 'release';
    if (!(await leases.take(fd, whenWanted)) && context.exclusive) {
      return leftAlone({ candidate }, 'open-elsewhere');
    }
    kept = true;
    return {
      ...opened,
      path: file.path,
      segments: [],
      cut,
      moved: 0,
      error: undefined,
      writeFailed: false,
      stopped: undefined,
      toDrop: [],
    };
  } catch (error) {
    return trouble(candidate, error);
  } finally {
    if (!kept) {
      await leases.drop(fd);
      await closeFd(fd);
    }
  }
}

/** What an error makes of a candidate. */
function trouble(candidate: Candidate, error: unknown): Outcome {
  const reason = reasonOf(error);
  if (reason !== undefined) return leftAlone({ candidate }, reason);
  if (!isSystemFailure(error)) throw error;
  return { kind: 'failed', file: candidate.file, error, moved: movedEarlier(candidate) };
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

/** Donor blocks that a plan needs: more than it moves where blocks are smaller than pages. */
const demandOf = (plan: FilePlan, { pageSize, filesystem }: BatchContext): number => {
  const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
  return plan.ranges.reduce((sum, range) => sum + demand(plan, range, blocksPerPage), 0);
};

/** How much of a plan fits, its share of the demand taken for even. */
const withinBudget = (plan: FilePlan, budget: number, context: BatchContext): Blocks =>
  blocks(Math.floor((budget * plan.blocks) / demandOf(plan, context)));

/** A file that needs more rounds than this is fragmented as fast as it is moved. */
const MOST_ROUNDS = 64;
/** The share of its fragments that a round must win to be followed by another: of one that was cut, which moves other
 * blocks each time, and of one that was placed worse than planned, which moves the same ones again. */
const WORTHWHILE = { cut: 0.01, again: 0.5 };

/** Looks at a file's layout after the barrier and, if it is no better than before, puts it back. */
async function judge(job: Job, context: BatchContext): Promise<Outcome> {
  const { file, earlier } = job.candidate;
  try {
    await syncAll(job, context);
    let layout = await layoutOf(job, context);
    const improved = countFragments(clip(layout, job.sizeBlocks)) < job.plan.fragmentsBefore;
    if (!improved || job.writeFailed) {
      await putBack(job, context);
      layout = await layoutOf(job, context);
    }
    if (job.error !== undefined && (job.writeFailed || !isTransient(job.error)))
      return failure(job, job.error);
    if (!improved || job.moved === 0) return leftAlone(job, notImproved(job, context));
    await dropCached(job);
    const moved = blocks(job.moved + movedEarlier(job.candidate));
    const fragmentsBefore = earlier?.fragmentsBefore ?? job.fragmentsBefore;
    const left = countFragments(layout);
    const incomplete = incompleteness(job, context);
    const rounds = (earlier?.rounds ?? 0) + 1;
    // Another round costs as much again: it is worth it while the last one was.
    const share = (job.fragmentsBefore - left) / job.fragmentsBefore;
    const worthwhile = share >= (job.cut ? WORTHWHILE.cut : WORTHWHILE.again);
    const more = incomplete === 'no-better-place' || (job.cut && incomplete === undefined);
    if (more && worthwhile && rounds < MOST_ROUNDS) {
      return {
        kind: 'again',
        candidate: { file, earlier: { fragmentsBefore, fragmentsAfter: left, moved, rounds } },
      };
    }
    return { kind: 'defragmented', file, fragmentsBefore, fragmentsAfter: left, moved, incomplete };
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return failure(job, error);
  }
}

/** Calls at a time, to keep every processor busy. */
const DROPS = 4;

/** Drops from the cache what was not in it before. */
async function dropCached({ fd, toDrop }: Job): Promise<void> {
  for (let i = 0; i < toDrop.length; i += DROPS) {
    const some = toDrop.slice(i, i + DROPS);
    await Promise.all(some.map(({ offset, length }) => fadvise(fd, offset, length, FADV.DONTNEED)));
  }
}

/** The last chance to hear of a write that failed, while the old place still holds the data. */
async function syncAll(job: Job, context: BatchContext): Promise<void> {
  try {
    await syncFileRange(job.fd, bytes(0), sizeOf(job, context), SYNC_RANGE.ALL);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    job.writeFailed = true;
    job.error ??= error as SystemError;
  }
}

const sizeOf = ({ sizeBlocks }: Job, { filesystem }: BatchContext) =>
  toBytes(sizeBlocks, filesystem.blockSize);

/** Exchanges a file back, and commits that whatever happens: the donors' blocks are free for others afterwards. */
async function putBack(job: Job, { filesystem, barrier }: BatchContext): Promise<void> {
  try {
    for (const segment of job.segments) await undo(job.fd, segment, filesystem.blockSize);
    await syncFileRange(job.fd, bytes(0), bytes(0), SYNC_RANGE.ALL);
  } finally {
    await barrier.commit();
  }
}

/** Why a file is not all that was planned. */
function incompleteness(job: Job, { signal }: BatchContext): Reason | undefined {
  if (job.error !== undefined) return 'busy';
  if (job.stopped !== undefined) return job.stopped;
  const planned = job.segments.reduce((sum, { length }) => sum + length, 0);
  if (signal?.aborted && job.moved < planned) return 'interrupted';
  return placedWorse(job) ? 'no-better-place' : undefined;
}

/** Whether free space was in pieces, so that the file got a better place but not the one that was planned. */
const placedWorse = ({ plan, segments }: Job): boolean =>
  fragmentsAfter(plan.extents, segments) > plan.fragmentsAfter;

function notImproved(job: Job, context: BatchContext): Reason {
  if (job.error !== undefined) return 'busy';
  if (job.stopped !== undefined) return job.stopped;
  return job.moved === 0 && context.signal?.aborted ? 'interrupted' : 'not-improved';
}

async function layoutOf({ fd }: Job, { filesystem }: BatchContext) {
  return mergeExtents(await fiemap(fd, filesystem.blockSize));
}

const movedEarlier = ({ earlier }: Candidate): Blocks => earlier?.moved ?? blocks(0);

const failure = (job: Job, error: Error): Outcome => ({
  kind: 'failed',
  file: job.candidate.file,
  error,
  moved: blocks(job.moved + movedEarlier(job.candidate)),
});

/** A file that this round did not move: left as it was, unless an earlier round improved it. */
export function leftAlone(
  { candidate }: Pick<Job, 'candidate'>,
  reason: Reason,
): Exclude<Outcome, { kind: 'again' }> {
  const { file, earlier } = candidate;
  if (earlier === undefined) return { kind: 'skip', file, reason };
  const { fragmentsBefore, fragmentsAfter: left, moved } = earlier;
  return {
    kind: 'defragmented',
    file,
    fragmentsBefore,
    fragmentsAfter: left,
    moved,
    incomplete: reason,
  };
}
