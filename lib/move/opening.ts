import { isSystemFailure } from '../kernel/errors.ts';
import { inodeGeneration } from '../kernel/handle.ts';
import type { ExtentTable } from '../layout/extents.ts';
import { countFragments } from '../layout/fragments.ts';
import { blocks, toBlocks, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import { demand } from '../place/assign.ts';
import { spendableBlocks } from '../place/donors.ts';
import { followShare } from '../plan/arrange.ts';
import { followStep, type FileNow } from '../plan/follow.ts';
import { limitPlan, planFile, type FilePlan } from '../plan/plan.ts';
import type { Reason } from '../scan/reasons.ts';
import { currentLayout, openForMove, reasonOf } from '../scan/scan.ts';
import type { BatchContext } from './batch.ts';
import { allOf } from './allOf.ts';
import { leftAlone, movedEarlier, placesOf, type Candidate, type Outcome } from './candidate.ts';
import type { EarlyReading } from './earlyReading.ts';
import type { Leases } from './lease.ts';
import type { MovingFile } from './pipeline.ts';
import { stretchesOf } from './readAhead.ts';

/** A candidate that is open, with what is to be moved of it as it lies now. */
interface Opened {
  readonly candidate: Candidate;
  readonly fd: number;
  readonly sizeBlocks: Blocks;
  readonly plan: FilePlan;
  readonly size: Bytes;
  /** Merged, blocks behind the end of the file included. */
  readonly layout: ExtentTable;
  readonly before: { readonly fragments: number; readonly extents: number; readonly blocks: Blocks };
}

/** A file of a batch. */
export interface Job extends MovingFile, Opened {
  segments: MovingFile['segments'];
  /** Not all of the plan is done now: what fits beside the reserve, into what may still be moved, or into long runs. */
  cut: boolean;
  /** Why it found no better place, in words. */
  why: string | undefined;
  /** Seconds that reading it took before, when it is one of those measured. */
  secondsBefore: number | undefined;
}

/** What there is for the plans of a batch. */
interface Room {
  /** Donor blocks. */
  space: number;
  /** Blocks that may still be moved. */
  budget: number;
}

/**
 * Opens and plans the candidates anew: what the scan saw may be long ago. The caller closes the jobs' descriptors.
 *
 * @param early begins to read the only candidate
 */
export async function openAll(
  candidates: readonly Candidate[],
  context: BatchContext,
  leases: Leases,
  early: EarlyReading,
) {
  const { budget, dirFd, filesystem, reserveShare } = context;
  const room: Room = {
    space: await spendableBlocks(dirFd, reserveShare),
    budget: budget.bytesLeft / filesystem.blockSize,
  };
  const outcomes: Outcome[] = [];
  const soon = candidates.length === 1 && context.measurement === undefined ? early : undefined;
  const opened = await allOf(candidates.map((candidate) => openOne(candidate, context, leases, soon)));
  const jobs: Job[] = [];
  let tooLarge = false;
  for (const file of opened) {
    if ('kind' in file) {
      outcomes.push(file);
      continue;
    }
    const plan = fit(file, room, context, jobs.length === 0);
    if (typeof plan === 'object') {
      room.space -= needOf(file.candidate, plan, context);
      room.budget -= plan.blocks;
      jobs.push(jobOf(file, plan));
      continue;
    }
    await early.end();
    await leases.close(file.fd);
    tooLarge ||= plan === 'budget';
    // The next batch has room for it, or it comes first there.
    outcomes.push(
      plan === 'later' ? { kind: 'again', candidate: file.candidate } : leftAlone(file.candidate, plan),
    );
  }
  // What is left is not enough for any of them.
  if (tooLarge && jobs.length === 0) budget.giveUp();
  // One after the other, with nothing else going on.
  for (const job of jobs) {
    // What takes several rounds is not measured.
    if (job.candidate.earlier !== undefined) continue;
    job.secondsBefore = await context.measurement?.before(job.fd, sizeOf(job, context));
  }
  return { jobs, outcomes };
}

export const sizeOf = ({ sizeBlocks }: Opened, { filesystem }: BatchContext): Bytes =>
  toBytes(sizeBlocks, filesystem.blockSize);

/** As much of a plan as there is room for; only what comes first in its batch is cut. */
function fit(opened: Opened, room: Room, context: BatchContext, first: boolean): FilePlan | Reason | 'later' {
  const { plan, candidate } = opened;
  const { prescribed, share } = candidate;
  const whole = prescribed?.kind === 'undo' || share !== undefined;
  const need = needOf(candidate, plan, context);
  if (need <= room.space && plan.blocks <= room.budget) return plan;
  if (!first) return 'later';
  // Rather anywhere than not whole.
  if (plan.align !== undefined && need > room.space) {
    return fit({ ...opened, plan: { ...plan, align: undefined } }, room, context, first);
  }
  // Half of it back where it was is neither the one layout nor the other.
  if (whole) return need > room.space ? 'no-space' : 'budget';
  // A plan's share of the demand is taken for even.
  const bySpace = Math.floor((room.space * plan.blocks) / need);
  const cut = limitPlan(plan, blocks(Math.floor(Math.min(bySpace, room.budget))));
  return cut ?? (room.budget < bySpace ? 'budget' : 'no-space');
}

/** Donor blocks that are still to be allocated. */
const needOf = (candidate: Candidate, plan: FilePlan, context: BatchContext): number =>
  placesOf(candidate) === undefined ? demandOf(plan, context) : 0;

/** Donor blocks that a plan needs: more than it moves where blocks are smaller than pages. */
function demandOf(plan: FilePlan, { pageSize, filesystem }: BatchContext): number {
  const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
  return plan.ranges.reduce((sum, range) => sum + demand(plan, range, blocksPerPage), 0);
}

async function openOne(
  candidate: Candidate,
  context: BatchContext,
  leases: Leases,
  early: EarlyReading | undefined,
): Promise<Opened | Outcome> {
  const { memory, filesystem, exclusive } = context;
  const { file } = candidate;
  let toClose: number | undefined;
  try {
    const fd = context.headStart?.takeFd() ?? (await openForMove(file));
    if (fd === undefined) return leftAlone(candidate, 'vanished');
    toClose = fd;
    // Who executes a program must not find it open for writing, and --exclusive means what it says.
    const whenWanted = exclusive || file.executable ? 'stop' : 'release';
    if (!(await leases.take(fd, whenWanted)) && exclusive) return leftAlone(candidate, 'open-elsewhere');
    // What an earlier round has moved is planned anew.
    if (candidate.plan !== undefined && candidate.earlier === undefined && early?.hasBegun === false) {
      void early.begin(fd, [...stretchesOf(candidate.plan, filesystem.blockSize)]);
    }
    const { extents, size } = await currentLayout(fd, file);
    const before = {
      fragments: countFragments(extents),
      extents: extents.count,
      blocks: extents.blocks,
    };
    const sizeBlocks = toBlocks(size, filesystem.blockSize);
    const { prescribed, share } = candidate;
    const generation =
      memory !== undefined || context.undo !== undefined || prescribed !== undefined
        ? await generationOf(candidate, fd)
        : undefined;
    const known = { ...candidate, ...(generation !== undefined && { generation }) };
    const plan = planNow(candidate, { size, extents, generation: generation ?? 0 }, context);
    if (typeof plan === 'string') return leftAlone(known, plan);
    const refused =
      candidate.earlier === undefined && share === undefined && known.generation !== undefined
        ? memory?.refuses({ inode: file.inode, generation: known.generation, fragments: before.fragments })
        : undefined;
    if (refused !== undefined) return leftAlone(known, refused);
    toClose = undefined;
    return { candidate: known, fd, size, sizeBlocks, plan, layout: extents, before };
  } catch (error) {
    return trouble(candidate, error);
  } finally {
    if (toClose !== undefined) {
      await early?.end();
      await leases.close(toClose);
    }
  }
}

/** What is to be moved of a file as it is now. */
function planNow(
  { prescribed, share, plan, file }: Candidate,
  now: FileNow,
  { planOptions, filesystem: { blockSize } }: BatchContext,
): FilePlan | Reason {
  const { longestRun } = planOptions;
  const sizeBlocks = toBlocks(now.size, blockSize);
  if (share !== undefined) return followShare(share, now.extents, sizeBlocks, longestRun);
  if (prescribed === undefined) {
    const same = plan !== undefined && file.size === now.size && file.extents.equals(now.extents);
    return same ? plan : planFile(now.extents, sizeBlocks, planOptions);
  }
  return followStep(prescribed.kind, prescribed.step, now, blockSize, longestRun);
}

const generationOf = async ({ file, generation }: Candidate, fd: number): Promise<number> =>
  generation ?? file.handle?.generation ?? (await inodeGeneration(fd));

function jobOf(opened: Opened, plan: FilePlan): Job {
  return {
    ...opened,
    plan,
    path: opened.candidate.file.path,
    segments: placesOf(opened.candidate) ?? [],
    cut: plan.blocks < opened.plan.blocks,
    why: undefined,
    secondsBefore: undefined,
    moved: 0,
    error: undefined,
    writeFailed: false,
    stopped: undefined,
    toDrop: [],
  };
}

/** What an error makes of a candidate. */
function trouble(candidate: Candidate, error: unknown): Outcome {
  const reason = reasonOf(error);
  if (reason !== undefined) return leftAlone(candidate, reason);
  if (!isSystemFailure(error)) throw error;
  return { kind: 'failed', candidate, error, moved: movedEarlier(candidate) };
}
