import { closeFd } from '../kernel/handle.ts';
import type { ExtentTable } from '../layout/extents.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { blocks, bytes, toBlocks, toBytes, type Blocks } from '../layout/units.ts';
import { countUnaligned, type Segment } from '../place/assign.ts';
import { DonorStock } from '../place/donors.ts';
import { place } from '../place/place.ts';
import { backAgain, countJumps, planSequence, sequenceOf, shareOut, type Sequence } from '../plan/arrange.ts';
import { layoutsOf, type Group } from '../plan/groups.ts';
import { clip, limitPlan, type FilePlan } from '../plan/plan.ts';
import type { Reason } from '../scan/reasons.ts';
import { openParent, type ScannedFile } from '../scan/scan.ts';
import { moveBatch, type BatchContext } from './batch.ts';
import { Budget } from './budget.ts';
import type { Candidate, Outcome, Verdict } from './candidate.ts';
import { Gathering } from './gathering.ts';
import { noAlignedPlace } from './judge.ts';
import { watched, Watchdog } from './watchdog.ts';

/** What became of a group. */
export interface Arranged {
  readonly kind: 'arranged';
  readonly group: Group;
  /** How many of its files were moved, and stay where they are now. */
  readonly files: number;
  /** As {@link countJumps}. */
  readonly jumpsBefore: number;
  readonly jumpsAfter: number;
  readonly moved: Blocks;
  /** Why it is not all that was planned, if so. */
  readonly reason: Reason | undefined;
  /** More of that, in words. */
  readonly why: string | undefined;
}

/** What of a group is going to be moved. */
export interface Planned {
  readonly kind: 'planned';
  readonly blocks: Blocks;
}

/**
 * Lays the files of a group one behind the other: all of them get blocks first, in as few runs as there are, and are then
 * moved there a batch at a time. It is the group that is judged: if reading it takes no fewer jumps than before, the files
 * that are no better by themselves go back.
 *
 * @param verdicts gets what became of the files that were moved, or failed. It is final when this ends, however it does
 */
export async function* arrange(
  group: Group,
  surroundings: BatchContext,
  verdicts: Verdict[],
): AsyncGenerator<Exclude<Outcome, { kind: 'again' }> | Planned | Arranged, void, void> {
  let arranged: Arranged;
  {
    using watchdog = await Watchdog.start(surroundings);
    arranged = yield* watchdog.guard(carryOut(group, surroundings, verdicts, watchdog));
  }
  // Whoever takes his time with the result keeps no space from others.
  yield arranged;
}

async function* carryOut(
  group: Group,
  surroundings: BatchContext,
  verdicts: Verdict[],
  watchdog: Watchdog,
): AsyncGenerator<Exclude<Outcome, { kind: 'again' }> | Planned, Arranged, void> {
  const context = watched(surroundings, watchdog);
  const { filesystem, dirFd, budget, reserveShare } = context;
  const { blockSize } = filesystem;
  const sequence = sequenceOf(layoutsOf(group), blocksPerPage(context));
  const jumpsBefore = countJumps(sequence);
  const result = (changes: Partial<Arranged> = {}): Arranged => ({
    kind: 'arranged',
    group,
    files: 0,
    jumpsBefore,
    jumpsAfter: jumpsBefore,
    moved: blocks(0),
    reason: undefined,
    why: undefined,
    ...changes,
  });
  const planned = planSequence(sequence, group.whole, context.planOptions, blockSize);
  // That nothing is to be done is nothing to tell of.
  if (typeof planned === 'string') return result();
  const nearFd = await openParent(group.files[0]);
  const stock = new DonorStock([nearFd ?? dirFd, dirFd], blockSize, reserveShare);
  try {
    const room = { space: await stock.spendable(), budget: budget.bytesLeft / blockSize };
    const most = blocks(Math.floor(Math.min(room.space, room.budget)));
    const plan = planned.blocks <= most ? planned : limitPlan(planned, most);
    const scarce: Reason = room.budget < room.space ? context.ending() : 'no-space';
    if (plan === undefined) return result({ reason: scarce });
    let placed = yield* placeSequence(plan, group, stock, context);
    // Rather anywhere than nowhere: an aligned place takes more space while it is looked for.
    if (placed.segments === 'no-space' && plan.align !== undefined)
      placed = yield* placeSequence({ ...plan, align: undefined }, group, stock, context);
    if (typeof placed.segments === 'string') return result({ reason: placed.segments, why: placed.why });
    const count = placed.segments.reduce((sum, { length }) => sum + length, 0);
    yield { kind: 'planned', blocks: blocks(count) };
    yield* exchangeShares(sharesOf(group, sequence, placed.segments, context), context, verdicts);
    let jumpsAfter = jumpsNow(group, verdicts, context);
    // Who stops the run, or wants the space, does not wait for that; and the next run may go on from here.
    if (jumpsAfter >= jumpsBefore && !budget.signal.aborted) {
      yield* putBack(verdicts, context);
      jumpsAfter = jumpsNow(group, verdicts, context);
    }
    const moved = verdicts.reduce((sum, verdict) => sum + ('moved' in verdict ? verdict.moved : 0), 0);
    const files = verdicts.filter(({ kind }) => kind === 'defragmented').length;
    const cut = plan !== planned ? scarce : undefined;
    const ended = budget.signal.aborted ? context.ending() : undefined;
    const reason = ended ?? cut ?? (jumpsAfter < jumpsBefore ? undefined : 'not-improved');
    // What is left is too little for another fragment.
    if (cut === 'budget') surroundings.budget.giveUp();
    return result({ files, jumpsAfter, moved: blocks(moved), reason, why: watchdog.why ?? placed.why });
  } finally {
    // Each batch has committed what it exchanged.
    await stock.close();
    if (nearFd !== undefined) await closeFd(nearFd);
  }
}

const blocksPerPage = ({ pageSize, filesystem }: BatchContext): number =>
  Math.max(1, pageSize / filesystem.blockSize);

/** Finds blocks for a sequence as for a file. */
async function* placeSequence(
  plan: FilePlan,
  group: Group,
  stock: DonorStock,
  context: BatchContext,
): AsyncGenerator<
  Outcome & { kind: 'placing' },
  { segments: readonly Segment[] | Reason; why: string | undefined },
  void
> {
  const { barrier, filesystem, searchDepth: depth } = context;
  const steps: (Outcome & { kind: 'placing' })[] = [];
  const [segments] = await place([plan], stock, blocksPerPage(context), {
    told: (step, reason) => steps.push({ kind: 'placing', path: group.files[0].path, step, reason }),
    deep: depth && { depth, commit: () => barrier.commit(), geometry: filesystem.geometry },
  });
  yield* steps;
  const { align } = plan;
  const unaligned = align !== undefined && typeof segments === 'object' && countUnaligned(plan, segments) > 0;
  const why =
    steps.find(({ step }) => step === 'give-up')?.reason ??
    (unaligned ? noAlignedPlace(align, context) : undefined);
  return { segments, why };
}

/** The files that segments of their sequence belong to, to be moved there. */
function sharesOf(
  group: Group,
  sequence: Sequence,
  segments: readonly Segment[],
  context: BatchContext,
): Candidate[] {
  return shareOut(layoutsOf(group), sequence, segments).flatMap((mine, i) => {
    if (mine.length === 0) return [];
    const file = group.files[i];
    return [candidateFor(file, file.extents, mine, context)];
  });
}

/** @param layout where the file lies now, merged and whole */
function candidateFor(
  file: ScannedFile,
  layout: ExtentTable,
  segments: readonly Segment[],
  { filesystem }: BatchContext,
): Candidate {
  const moves = segments.reduce((sum, { length }) => sum + length, 0);
  const share = { fingerprint: fingerprint(layout), segments };
  return { file, planned: bytes(toBytes(blocks(moves), filesystem.blockSize)), share };
}

/** Moves files to their shares, as other files are moved. */
async function* exchangeShares(
  candidates: readonly Candidate[],
  context: BatchContext,
  verdicts: Verdict[],
): AsyncGenerator<Exclude<Outcome, Verdict | { kind: 'again' }>, void, void> {
  const { pace, budget } = context;
  const gathering = new Gathering();
  const batches = candidates.flatMap((candidate) => gathering.add(candidate));
  for (
    let batch: readonly Candidate[] | undefined;
    (batch = batches.shift() ?? gathering.take()).length > 0;
  ) {
    // Before anything is opened: a pause holds up nobody.
    for await (const pause of pace.wait(0, budget.signal)) yield { kind: 'pause', pause };
    if (budget.signal.aborted) return;
    for await (const outcome of moveBatch(batch, context)) {
      if (outcome.kind === 'defragmented' || outcome.kind === 'failed') verdicts.push(outcome);
      // That a file stays will be found again, and told, when it is looked at by itself.
      else if (outcome.kind !== 'skip' && outcome.kind !== 'again') yield outcome;
    }
  }
}

/** The jumps as the files lie now. */
function jumpsNow(group: Group, verdicts: readonly Verdict[], context: BatchContext): number {
  const { blockSize } = context.filesystem;
  const now = new Map(
    verdicts.flatMap((verdict): [ScannedFile, ExtentTable][] => {
      if (verdict.kind !== 'defragmented') return [];
      const { after, size } = verdict.layouts;
      return [[verdict.candidate.file, clip(after, toBlocks(size, blockSize))]];
    }),
  );
  const layouts = layoutsOf(group).map((layout, i) => now.get(group.files[i]) ?? layout);
  return countJumps(sequenceOf(layouts, blocksPerPage(context)));
}

/** Exchanges files back that have not become better by themselves, whatever has been moved so far. */
async function* putBack(
  verdicts: Verdict[],
  context: BatchContext,
): AsyncGenerator<Exclude<Outcome, Verdict | { kind: 'again' }>, void, void> {
  const candidates: Candidate[] = [];
  const kept: Verdict[] = [];
  for (const verdict of verdicts) {
    const segments = verdict.candidate.share?.segments ?? [];
    if (verdict.kind !== 'defragmented' || verdict.gain.fragmentsAfter < verdict.gain.fragmentsBefore) {
      kept.push(verdict);
      continue;
    }
    const { before, after } = verdict.layouts;
    candidates.push(candidateFor(verdict.candidate.file, after, backAgain(segments, before, after), context));
  }
  const moved = verdicts.filter((verdict) => !kept.includes(verdict));
  // Not what may still be moved counts, but who ends the work.
  using budget = new Budget(context.budget.signal, {});
  const back: Verdict[] = [];
  yield* exchangeShares(candidates, { ...context, budget }, back);
  const isBack = new Set(back.flatMap((verdict) => (liesAsBefore(verdict) ? verdict.candidate.file : [])));
  // What could not go back, or not whole, stays moved, and is told of as such.
  verdicts.splice(0, Infinity, ...kept, ...moved.filter(({ candidate }) => !isBack.has(candidate.file)));
}

/** Whether a file that was moved lies where the scan found it. */
const liesAsBefore = (verdict: Verdict): boolean =>
  verdict.kind === 'defragmented' &&
  fingerprint(verdict.layouts.after) === fingerprint(verdict.candidate.file.extents);
