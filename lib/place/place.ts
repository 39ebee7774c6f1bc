import { idealFragments } from '../layout/fragments.ts';
import { fragmentsAfter, type FilePlan } from '../plan/plan.ts';
import { blocks, type Blocks } from '../layout/units.ts';
import type { Reason } from '../scan/reasons.ts';
import type { PlacementStep } from '../report/events.ts';
import { counted, formatSize } from '../report/format.ts';
import { assign, demand, RunPool, type Segment } from './assign.ts';
import { choose, type Choice } from './choice.ts';
import type { DonorStock } from './donors.ts';
import { FreeMap, type Geometry } from './freeMap.ts';
import { allocateLong } from './longRun.ts';
import type { SearchDepth } from './searchDepth.ts';

/** Where a file goes, or why nowhere. */
export type Placement = readonly Segment[] | Reason;

/** Ranges that get a donor of their own when one donor for all came out in pieces. */
const MOST_OWN_DONORS = 64;
const ROUNDS_OF_OWN_DONORS = 3;

type Told = (step: PlacementStep, reason: string) => void;

export interface PlaceOptions {
  /** Told of each step before it is taken, and why. */
  readonly told?: Told;
  /** What it takes to choose runs from free space. Without it the ladder ends before that. */
  readonly deep?: Deep | undefined;
}

export interface Deep {
  readonly depth: SearchDepth;
  /** Commits the journal: what was freed can be allocated only then. */
  readonly commit: () => Promise<void>;
  readonly geometry?: Geometry;
  /** What is free near a large file, while nothing is allocated. */
  readonly near?: FreeMap | undefined;
}

/**
 * Finds places for the plans of a batch. Where it is known what is free near a large file, runs of that are tried
 * first: what is longer than one allocation hardly comes in one piece by itself. Then what was allocated and does not do
 * is held while the next step is tried, so that the allocator cannot answer with the same holes again: one donor for
 * all; one of a rounded size; then, for the ranges still in pieces, runs that are chosen from a map of free space; or,
 * where that cannot be done, donors of their own, several times. It stops at the first step that leaves no range in
 * pieces, or when free space reaches its reserve.
 */
export async function place(
  plans: readonly FilePlan[],
  stock: DonorStock,
  blocksPerPage: number,
  options: PlaceOptions = {},
): Promise<Placement[]> {
  const { told = () => undefined, deep } = options;
  const all = sum(demandsOf(plans, blocksPerPage));
  const size = (count: number) => formatSize(count * stock.blockSize);
  const least = leastRun(plans);
  let proposal: Proposal | undefined;
  let allocated = false;
  const isDone = () => proposal?.perfect === true;
  if (deep?.near !== undefined && (await addNear(plans, deep.near, stock, blocksPerPage, deep, told))) {
    proposal = propose(plans, stock, blocksPerPage);
    if (!isDone()) {
      // Somebody else got there first.
      proposal = undefined;
      await stock.keepOnly(new Set());
      await deep.commit();
    }
  }
  // To ask for the same again would only hold more.
  for (const rounded of isPowerOfTwo(all) ? [false] : [false, true]) {
    if (isDone()) break;
    if (rounded && allocated)
      told('rounded', `${size(all)} came in ${counted([...stock.runs()].length, 'piece')}`);
    if (!(await stock.add(all, rounded))) break;
    allocated = true;
    // Where every run is too short there is no need to look closer before the next step.
    if (stock.longestRun >= least) proposal = propose(plans, stock, blocksPerPage);
  }
  if (allocated) proposal ??= propose(plans, stock, blocksPerPage);
  /** @returns whether there is nothing more to be tried */
  const choose = async (last: boolean): Promise<boolean> => {
    if (proposal === undefined || isDone() || deep === undefined) return isDone();
    const before: Proposal = proposal;
    const refused = await addChosen(before, stock, blocksPerPage, deep, told);
    if (refused !== undefined) {
      if (last || !refused.tooMany) told('give-up', refused.why);
      return !refused.tooMany;
    }
    proposal = propose(plans, stock, blocksPerPage);
    if (proposal.total <= before.total) return true;
    // Somebody else got there first, and what was let go of was better.
    await stock.keepOnly(inOneRun(before));
    await deep.commit();
    await stock.add(sum(demandsOf(before.broken, blocksPerPage)), false);
    proposal = propose(plans, stock, blocksPerPage);
    return true;
  };
  // Where free space itself says what there is, trying on would take time and only fill it with pieces.
  if (!(await choose(false))) {
    // That there is no room for one large donor says nothing about the smaller ones.
    const rounds = deep === undefined ? ROUNDS_OF_OWN_DONORS : 1;
    for (let round = 0; round < rounds && !isDone(); round++) {
      const broken = proposal?.broken ?? plans;
      if (round === 0) told('own-donors', inPieces(broken, proposal, stock));
      if (!(await addOwn(demandsOf(broken, blocksPerPage), stock))) break;
      proposal = propose(plans, stock, blocksPerPage);
    }
    await choose(true);
  }
  if (proposal === undefined) return plans.map(() => 'no-space');
  await stock.keepOnly(donorsOf(proposal.placements));
  return proposal.placements;
}

const sum = (counts: readonly Blocks[]): Blocks => blocks(counts.reduce((total, count) => total + count, 0));

const isPowerOfTwo = (count: number): boolean => Number.isInteger(Math.log2(count));

const demandsOf = (plans: readonly FilePlan[], blocksPerPage: number): Blocks[] =>
  plans.flatMap((plan) => plan.ranges.map((range) => demand(plan, range, blocksPerPage)));

const donorsOf = (placements: readonly Placement[]): Set<number> =>
  new Set(placements.flatMap((p) => (typeof p === 'string' ? [] : p.map((s) => s.donorFd))));

/** The donors of the plans that got every range in one piece. */
const inOneRun = ({ placements, plans, broken }: Proposal): Set<number> =>
  donorsOf(placements.filter((_, i) => !broken.includes(plans[i])));

function inPieces(broken: readonly FilePlan[], proposal: Proposal | undefined, stock: DonorStock): string {
  const wanted = broken.reduce((sum, plan) => sum + plan.blocks, 0);
  const subject = `${counted(broken.length, 'file')} with ${formatSize(wanted * stock.blockSize)} to be moved`;
  if (proposal === undefined) return `${subject}: there is no room for all at once`;
  const best = formatSize(stock.longestRun * stock.blockSize);
  return `${subject} would have ${counted(proposal.fragments, 'fragment')}; the longest run got is ${best}`;
}

/**
 * Allocates runs chosen from free space for what is still in pieces, when that makes fewer of them. What was held for
 * it is let go of before: it may be a part of the very runs that are chosen.
 *
 * @returns why not, when it did not: free space has nothing better, or the runs would be too many
 */
async function addChosen(
  proposal: Proposal,
  stock: DonorStock,
  blocksPerPage: number,
  { depth, commit, geometry }: Deep,
  told: Told,
): Promise<{ readonly tooMany: boolean; readonly why: string } | undefined> {
  const { broken, fragments } = proposal;
  const size = (count: number) => formatSize(count * stock.blockSize);
  const used = inOneRun(proposal);
  // The ends that were cut off donors are free only then.
  await commit();
  const map = await FreeMap.read(stock.dirFd, stock.blockSize, geometry);
  const held = [...stock.runs()].filter(({ donorFd }) => !used.has(donorFd));
  const free = map.with(held.map(({ physical, length }) => ({ start: physical, length })));
  const needs = demandsOf(broken, blocksPerPage);
  const choices = choose(needs, free, MOST_OWN_DONORS);
  const ideal = broken.reduce((sum, plan) => sum + plan.fragmentsAfter, 0);
  if (choices === undefined || ideal + choices.length - needs.length >= fragments) {
    const wanted = `runs of up to ${size(Math.max(...needs))} are wanted`;
    const why = `${wanted}; the longest free one is ${size(free.longestRun)}, and there are no better ones`;
    return { tooMany: choices === undefined, why };
  }
  const what = `${counted(fragments, 'fragment')} would be left; free space has`;
  tellOf(choices, what, stock, told);
  await stock.keepOnly(used);
  await commit();
  await allocate(choices, free, stock, blocksPerPage, { depth, commit });
  return undefined;
}

/** Allocates runs that lie near, when there is one for each range. @returns whether there is */
async function addNear(
  plans: readonly FilePlan[],
  near: FreeMap,
  stock: DonorStock,
  blocksPerPage: number,
  deep: Deep,
  told: Told,
): Promise<boolean> {
  const needs = demandsOf(plans, blocksPerPage);
  const choices = needs.length > MOST_OWN_DONORS ? undefined : choose(needs, near, needs.length);
  if (choices === undefined) return false;
  tellOf(choices, 'free space nearby has', stock, told);
  await allocate(choices, near, stock, blocksPerPage, deep);
  return true;
}

function tellOf(choices: readonly Choice[], what: string, { blockSize }: DonorStock, told: Told): void {
  const single = choices.filter(({ long }) => !long);
  const long = choices.filter((choice) => choice.long);
  const ofUpTo = (some: readonly Choice[]) =>
    `${counted(some.length, 'run')} of up to ${formatSize(some[0].length * blockSize)}`;
  if (single.length > 0) told('search-depth', `${what} ${ofUpTo(single)}`);
  if (long.length > 0) told('long-run', `${what} ${ofUpTo(long)}, longer than one allocation`);
}

/** Allocates runs of free space, as far as they are to be had. */
async function allocate(
  choices: readonly Choice[],
  free: FreeMap,
  stock: DonorStock,
  blocksPerPage: number,
  { depth, commit }: Deep,
): Promise<void> {
  for (const choice of choices) {
    if (choice.long) await allocateLong(choice, free, stock, depth, commit, blocksPerPage);
    else if (!(await stock.add(choice.length, false, depth))) break;
  }
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
  readonly plans: readonly FilePlan[];
  readonly placements: Placement[];
  /** The plans that did not get every range in one piece. */
  readonly broken: readonly FilePlan[];
  /** That these would have. */
  readonly fragments: number;
  /** That all of them would have. */
  readonly total: number;
  readonly perfect: boolean;
}

function propose(plans: readonly FilePlan[], stock: DonorStock, blocksPerPage: number): Proposal {
  const pool = new RunPool(stock.runs());
  const broken: FilePlan[] = [];
  let [fragments, total] = [0, 0];
  const placements = plans.map((plan): Placement => {
    pool.begin();
    const segments = assign(plan, pool, blocksPerPage);
    const after = fragmentsAfter(plan.extents, segments);
    const left = Math.min(after, plan.fragmentsBefore);
    total += left;
    if (after > plan.fragmentsAfter) {
      broken.push(plan);
      fragments += left;
    }
    if (after < plan.fragmentsBefore) return segments;
    // Another file may do better with these runs.
    pool.giveUp();
    return 'no-better-place';
  });
  return { plans, placements, broken, fragments, total, perfect: broken.length === 0 };
}
