import { idealFragments } from '../layout/fragments.ts';
import { fragmentsAfter, type FilePlan } from '../plan/plan.ts';
import { blocks, type Blocks } from '../layout/units.ts';
import type { Reason } from '../scan/reasons.ts';
import { assign, demand, RunPool, type Segment } from './assign.ts';
import type { DonorStock } from './donors.ts';

/** Where a file goes, or why nowhere. */
export type Placement = readonly Segment[] | Reason;

/** Ranges that get a donor of their own when one donor for all came out in pieces. */
const MOST_OWN_DONORS = 64;
const ROUNDS_OF_OWN_DONORS = 3;

/**
 * Finds places for the plans of a batch. What was allocated and does not do is held while the next step is tried,
 * so that the allocator cannot answer with the same holes again: first one donor for all; then one of a rounded
 * size; then, for the ranges still in pieces, donors of their own, several times. It stops at the first step that
 * leaves no range in pieces, or when free space reaches its reserve.
 */
export async function place(
  plans: readonly FilePlan[],
  stock: DonorStock,
  blocksPerPage: number,
): Promise<Placement[]> {
  const needs = plans.flatMap((plan) => plan.ranges.map((range) => demand(plan, range, blocksPerPage)));
  const all = blocks(needs.reduce((sum, need) => sum + need, 0));
  const least = leastRun(plans);
  let proposal: Proposal | undefined;
  let allocated = false;
  const isDone = () => proposal?.perfect === true;
  for (const rounded of [false, true]) {
    if (isDone() || !(await stock.add(all, rounded))) break;
    allocated = true;
    // Where every run is too short there is no need to look closer before the next step.
    if (stock.longestRun >= least) proposal = propose(plans, stock, blocksPerPage);
  }
  if (allocated) proposal ??= propose(plans, stock, blocksPerPage);
  // That there is no room for one large donor says nothing about the smaller ones.
  for (let round = 0; round < ROUNDS_OF_OWN_DONORS && !isDone(); round++) {
    const broken = proposal?.broken ?? plans;
    const ranges = broken.flatMap((plan) => plan.ranges.map((range) => demand(plan, range, blocksPerPage)));
    if (!(await addOwn(ranges, stock))) break;
    proposal = propose(plans, stock, blocksPerPage);
  }
  if (proposal === undefined) return plans.map(() => 'no-space');
  await stock.keepOnly(
    new Set(proposal.placements.flatMap((p) => (typeof p === 'string' ? [] : p.map((s) => s.donorFd)))),
  );
  return proposal.placements;
}

/** Blocks that the longest run must have at least, or some range comes out in more pieces than it has to. */
function leastRun(plans: readonly FilePlan[]): number {
  let least = 0;
  for (const { ranges, longestRun } of plans) {
    for (const range of ranges)
      least = Math.max(least, range.blocks / idealFragments(range.blocks, longestRun));
  }
  return least;
}

/** A donor for each of the largest ranges. @returns false when there is no room for all of them */
async function addOwn(needs: Blocks[], stock: DonorStock): Promise<boolean> {
  for (const need of needs.sort((a, b) => b - a).slice(0, MOST_OWN_DONORS)) {
    if (!(await stock.add(need, true)) && !(await stock.add(need, false))) return false;
  }
  return true;
}

interface Proposal {
  readonly placements: Placement[];
  /** The plans that did not get every range in one piece. */
  readonly broken: readonly FilePlan[];
  readonly perfect: boolean;
}

function propose(plans: readonly FilePlan[], stock: DonorStock, blocksPerPage: number): Proposal {
  const pool = new RunPool(stock.runs());
  const broken: FilePlan[] = [];
  const placements = plans.map((plan): Placement => {
    pool.begin();
    const segments = assign(plan, pool, blocksPerPage);
    const after = fragmentsAfter(plan.extents, segments);
    if (after > plan.fragmentsAfter) broken.push(plan);
    if (after < plan.fragmentsBefore) return segments;
    // Another file may do better with these runs.
    pool.giveUp();
    return 'no-better-place';
  });
  return { placements, broken, perfect: broken.length === 0 };
}
