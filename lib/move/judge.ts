import { FADV, fadvise, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import { isSystemFailure, type SystemError } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { mergeExtents, type ExtentTable } from '../layout/extents.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { countFragments } from '../layout/fragments.ts';
import { blocks, bytes, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import { countUnaligned } from '../place/assign.ts';
import { clip, fragmentsAfter, relocate } from '../plan/plan.ts';
import { formatSize } from '../report/format.ts';
import type { Reason } from '../scan/reasons.ts';
import type { BatchContext } from './batch.ts';
import { leftAlone, movedEarlier, type Gain, type Outcome } from './candidate.ts';
import { isTransient, undo as exchangeBack } from './exchange.ts';
import { sizeOf, type Job } from './opening.ts';
import type { MovingFile } from './pipeline.ts';

/** A file that needs more rounds than this is fragmented as fast as it is moved. */
const MOST_ROUNDS = 64;
/** The share of its fragments that a round must win to be followed by another: of one that was cut, which moves other
 * blocks each time, and of one that was placed worse than planned, which moves the same ones again. */
const WORTHWHILE = { cut: 0.01, again: 0.5 };

/** Looks at a file's layout after the barrier and, if it is not what it was moved for, puts it back. */
export async function judge(job: Job, context: BatchContext): Promise<Outcome> {
  const { candidate, before } = job;
  try {
    await syncAll(job, sizeOf(job, context));
    let layout = await layoutOf(job, context);
    const improved = isImproved(job, clip(layout, job.sizeBlocks));
    if (!improved || job.writeFailed) {
      await putBack(job, context);
      layout = await layoutOf(job, context);
    }
    noteMove(job, layout, context);
    if (job.error !== undefined && (job.writeFailed || !isTransient(job.error)))
      return failure(job, job.error);
    if (!improved || job.moved === 0) return leftAlone(candidate, notImproved(job, context), job.why);
    await dropCached(job);
    const { earlier } = candidate;
    const moved = blocks(job.moved + movedEarlier(candidate));
    const left = countFragments(layout);
    const gain: Gain = {
      fragmentsBefore: earlier?.gain.fragmentsBefore ?? before.fragments,
      fragmentsAfter: left,
      extentsBefore: earlier?.gain.extentsBefore ?? before.extents,
      extentsAfter: layout.count,
      blocks: layout.blocks,
    };
    const layouts = { before: earlier?.layouts.before ?? job.layout, after: layout, size: job.size };
    const incomplete = incompleteness(job, context);
    const rounds = (earlier?.rounds ?? 0) + 1;
    // Another round costs as much again: it is worth it while the last one was.
    const share = (before.fragments - left) / before.fragments;
    const worthwhile = share >= (job.cut ? WORTHWHILE.cut : WORTHWHILE.again);
    const more = incomplete === 'no-better-place' || (job.cut && incomplete === undefined);
    if (more && worthwhile && rounds < MOST_ROUNDS) {
      const next = { ...candidate, prescribed: undefined, earlier: { gain, moved, rounds, layouts } };
      return { kind: 'again', candidate: next };
    }
    const cutOff = context.budget.signal.aborted ? context.ending() : 'no-space';
    const reason = incomplete ?? (job.cut ? cutOff : undefined);
    const why = reason === 'no-better-place' ? job.why : misalignment(job, context);
    return { kind: 'defragmented', candidate, gain, moved, incomplete: reason, why, layouts };
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return failure(job, error);
  }
}

/** Notes where a file lay and lies, for who may want it back. */
function noteMove(
  { candidate, layout: before, size, moved }: Job,
  after: ExtentTable,
  { undo }: BatchContext,
): void {
  const { file, generation } = candidate;
  if (moved === 0 || generation === undefined) return;
  undo?.moved({ inode: file.inode, generation }, file.relative, { before, after, size });
}

/**
 * Whether a file is better than before. One that was to be put back must lie where it did, fragments or not; of one that
 * goes together with others it is enough that it is no worse.
 */
function isImproved({ candidate, plan, segments }: Job, layout: ExtentTable): boolean {
  if (candidate.share !== undefined) return countFragments(layout) <= plan.fragmentsBefore;
  if (candidate.prescribed?.kind !== 'undo') return countFragments(layout) < plan.fragmentsBefore;
  return fingerprint(layout) === fingerprint(relocate(plan.extents, segments));
}

/** Calls at a time, to keep every processor busy. */
const DROPS = 4;

/** That something could not be aligned which was to be, in words. */
function misalignment({ candidate, plan, segments }: Job, context: BatchContext): string | undefined {
  const { align } = context.planOptions;
  // What goes together with others is aligned together with them.
  if (align === undefined || candidate.share !== undefined) return undefined;
  return countUnaligned({ ...plan, align }, segments) > 0 ? noAlignedPlace(align, context) : undefined;
}

/** @param align in blocks */
export const noAlignedPlace = (align: Blocks, { filesystem }: Pick<BatchContext, 'filesystem'>): string =>
  `no place for it that begins at a multiple of ${formatSize(toBytes(align, filesystem.blockSize))} was found`;

/** Drops from the cache what was not in it before. */
export async function dropCached({ fd, toDrop }: MovingFile): Promise<void> {
  while (toDrop.length > 0) {
    const some = toDrop.splice(0, DROPS);
    await Promise.all(some.map(({ offset, length }) => fadvise(fd, offset, length, FADV.DONTNEED)));
  }
}

/**
 * Drops what a file leaves in the cache while the barrier is waited for, when there is little else to do. All of it must
 * be known to be written: until then the cache may hold the only good copy.
 */
export async function dropWritten(job: Job, context: BatchContext): Promise<void> {
  await syncAll(job, sizeOf(job, context));
  if (job.error === undefined) await dropCached(job);
}

/** Measures what reading costs now, of a file that was measured before. To be asked when nothing else goes on. */
export async function measure(outcome: Outcome, job: Job, context: BatchContext): Promise<Outcome> {
  const { secondsBefore } = job;
  if (outcome.kind !== 'defragmented' || secondsBefore === undefined) return outcome;
  const secondsAfter = await context.measurement?.after(job.fd, sizeOf(job, context));
  if (secondsAfter === undefined) return outcome;
  return { ...outcome, gain: { ...outcome.gain, measured: { secondsBefore, secondsAfter } } };
}

/** The last chance to hear of a write that failed, while the old place still holds the data. */
export async function syncAll(job: MovingFile, size: Bytes): Promise<void> {
  try {
    await syncFileRange(job.fd, bytes(0), size, SYNC_RANGE.ALL);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    job.writeFailed = true;
    job.error ??= error as SystemError;
  }
}

/** Exchanges a file back, and commits that whatever happens: the donors' blocks are free for others afterwards. */
export async function putBack(
  { fd, segments }: MovingFile,
  { filesystem, barrier }: Pick<BatchContext, 'filesystem' | 'barrier'>,
): Promise<void> {
  try {
    for (const segment of segments) await exchangeBack(fd, segment, filesystem.blockSize);
    await syncFileRange(fd, bytes(0), bytes(0), SYNC_RANGE.ALL);
  } finally {
    await barrier.commit();
  }
}

/** Why a file is not all that was planned. */
function incompleteness(job: Job, { budget, ending }: BatchContext): Reason | undefined {
  if (job.error !== undefined) return 'busy';
  if (job.stopped !== undefined) return job.stopped;
  const planned = job.segments.reduce((sum, { length }) => sum + length, 0);
  if (budget.signal.aborted && job.moved < planned) return ending();
  return placedWorse(job) ? 'no-better-place' : undefined;
}

/** Whether free space was in pieces, so that the file got a better place but not the one that was planned. */
const placedWorse = ({ plan, segments }: Job): boolean =>
  fragmentsAfter(plan.extents, segments) > plan.fragmentsAfter;

function notImproved(job: Job, { budget, ending }: BatchContext): Reason {
  if (job.error !== undefined) return 'busy';
  if (job.stopped !== undefined) return job.stopped;
  const undoes = job.candidate.prescribed?.kind === 'undo';
  if (budget.signal.aborted && (job.moved === 0 || undoes)) return ending();
  return undoes ? 'not-put-back' : 'not-improved';
}

async function layoutOf({ fd }: Job, { filesystem }: BatchContext) {
  return mergeExtents(await fiemap(fd, filesystem.blockSize));
}

/** What went wrong with a file. */
export const failure = (job: Job, error: Error): Outcome => ({
  kind: 'failed',
  candidate: job.candidate,
  error,
  moved: blocks(job.moved + movedEarlier(job.candidate)),
});
