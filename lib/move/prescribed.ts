import { isSystemFailure } from '../kernel/errors.ts';
import { fiemap, FIEMAP_FLAG_SYNC } from '../kernel/fiemap.ts';
import { inodeFlags, statFd } from '../kernel/handle.ts';
import { mergeExtents, type ExtentTable } from '../layout/extents.ts';
import { blocks, bytes, toBlocks, type Blocks } from '../layout/units.ts';
import { assign, demand, RunPool, type Run, type Segment } from '../place/assign.ts';
import { LONGEST_UNWRITTEN } from '../place/donors.ts';
import { placeExactly, type FileBlock, type Site } from '../place/exact.ts';
import { FreeMap, piecesOf, type FreeRun } from '../place/freeMap.ts';
import { Neighbours } from '../place/neighbours.ts';
import { SearchDepth } from '../place/searchDepth.ts';
import { Tokens, TOKENS } from '../place/tokens.ts';
import { relocationsOf } from '../plan/follow.ts';
import { clip, fragmentsAfter, withRanges, type Range } from '../plan/plan.ts';
import type { PlanStep } from '../plan/planFile.ts';
import { immovable } from '../scan/eligibility.ts';
import type { Reason } from '../scan/reasons.ts';
import { placeWhereFree, type BatchContext, type Placed, type Placer, type PlacingContext } from './batch.ts';
import type { Outcome } from './candidate.ts';
import { openWhatever } from './evacuate.ts';
import { Leases } from './lease.ts';
import type { Job } from './opening.ts';

/** A range of a file, and the blocks that it is to get. */
interface Want extends FreeRun {
  readonly job: Job;
  readonly range: Range;
}

/** What was found of what is wanted. */
interface Found {
  readonly segments: ReadonlyMap<Want, readonly Segment[]>;
  /** Wants whose blocks are not free. */
  readonly taken: ReadonlySet<Want>;
  /** Why the others were not got. */
  readonly why: string;
}

const NOTHING_WANTED: Found = { segments: new Map(), taken: new Set(), why: '' };

const isUndo = ({ candidate }: Job): boolean => candidate.prescribed?.kind === 'undo';

/**
 * Puts files where a plan says, as far as that is still free. The rest of them goes where the allocator finds room; but
 * a file that is to be put back stays where it is rather than to lie in a third place.
 */
export class PrescribedPlacer {
  readonly #neighbours: Neighbours;
  readonly #steps: readonly PlanStep[];
  #learnt = false;

  /** @param steps all that will be asked for: who has the blocks beside their destinations is found in one pass */
  constructor({ filesystem, dirFd }: Pick<BatchContext, 'filesystem' | 'dirFd'>, steps: readonly PlanStep[]) {
    this.#neighbours = new Neighbours(filesystem, dirFd);
    this.#steps = steps;
  }

  readonly placer: Placer = (jobs, context) => this.#place(jobs, context);

  async *#place(jobs: readonly Job[], context: PlacingContext): AsyncGenerator<Outcome, Placed, void> {
    const wants = jobs.flatMap((job) => wantsOf(job, context));
    const found = wants.length === 0 ? NOTHING_WANTED : await this.#find(wants, context);
    const refused: { job: Job; reason: Reason }[] = [];
    const incomplete: Job[] = [];
    for (const job of jobs) {
      const mine = wants.filter((want) => want.job === job);
      const missing = mine.filter((want) => !found.segments.has(want));
      job.segments = mine.flatMap((want) => found.segments.get(want) ?? []);
      const taken = missing.some((want) => found.taken.has(want));
      const why = taken ? 'they are not free any more' : found.why;
      if (!isUndo(job)) {
        if (mine.length - missing.length < job.plan.ranges.length) incomplete.push(job);
        if (missing.length === 0) continue;
        const reason = `${missing.length} of the ${mine.length} places that the plan has for it cannot be had: ${why}`;
        yield { kind: 'placing', path: job.path, step: 'elsewhere', reason };
      } else if (missing.length > 0) {
        if (!taken) job.why = why;
        refused.push({ job, reason: taken ? 'place-taken' : 'not-put-back' });
      }
    }
    refused.push(...(yield* placeRest(incomplete, wants, found, context)));
    const gone = new Set(refused.map(({ job }) => job));
    const placed = jobs.filter((job) => !gone.has(job));
    for (const { segments, candidate } of placed) {
      for (const { logical, physical, length } of segments) {
        this.#neighbours.note(candidate.file.inode, logical, physical, length);
      }
    }
    return { jobs: placed, refused };
  }

  /** Takes hold of what is wanted. */
  async #find(wants: readonly Want[], context: PlacingContext): Promise<Found> {
    const { dirFd, filesystem, barrier, budget, pageSize, reserveShare } = context;
    const { blockSize, geometry } = filesystem;
    // What was vacated before is free only when that is committed.
    await barrier.commit();
    const free = await FreeMap.read(dirFd, blockSize, geometry);
    const { taken } = spotsIn(free, wants);
    const hopeless = new Set([...taken].map(({ job }) => job).filter(isUndo));
    const hopeful = wants.filter((want) => !hopeless.has(want.job) && !taken.has(want));
    const ahead = this.#learnt ? [] : spotsIn(free, destinationsOf(this.#steps)).spots;
    this.#learnt = true;
    const blocksPerPage = Math.max(1, pageSize / blockSize);
    const reserve = reserveShare === undefined ? {} : { reserveShare };
    const exactly = { blockSize, blocksPerPage, geometry, ...reserve };
    const jobs = [...new Set(wants.map(({ job }) => job))];
    const anchors = new Anchors(jobs, this.#neighbours, context);
    let tokens = new Tokens([]);
    let why: string | undefined;
    try {
      // What came to lie beside what is wanted, or was in its way for a moment, helps with the rest.
      for (let pass = 0; pass < PASSES; pass++) {
        const gaps = hopeful.flatMap((want) => gapsIn(want, tokens));
        const map = pass === 0 ? free : await FreeMap.read(dirFd, blockSize, geometry);
        const { spots } = spotsIn(map, gaps);
        if (spots.length === 0) break;
        anchors.lend(tokens);
        const borders = [...spots, ...(pass === 0 ? ahead : [])].flatMap(bordersOf);
        why = await this.#neighbours.learn(
          borders.filter((block) => heldBlock(tokens, block) === undefined),
          budget.signal,
        );
        if (why !== undefined) break;
        const sites: Site[] = [];
        const alone: Spot<FreeRun>[] = [];
        for (const spot of spots) {
          const site = await siteFor(spot, anchors);
          if (site === undefined) alone.push(spot);
          else sites.push(site);
        }
        // First, while these runs are as long as they are known to be.
        const whole = await takeWhole(alone, context);
        const placed = await placeExactly(dirFd, sites, exactly);
        context.stock.adopt(placed.files);
        tokens = new Tokens([...tokens.pieces, ...whole, ...placed.got.flat()]);
        [why] = placed.why.values();
      }
      const segments = new Map<Want, readonly Segment[]>();
      for (const want of hopeful) {
        const some = segmentsFor(want, tokens, blocksPerPage);
        if (some !== undefined) segments.set(want, some);
      }
      return { segments, taken, why: why ?? 'what lies beside them cannot be moved' };
    } finally {
      await anchors.close();
    }
  }
}

/** How often it is tried to get what is wanted. */
const PASSES = 4;

/** What is wanted and not held. */
function gapsIn({ start, length }: FreeRun, tokens: Tokens): FreeRun[] {
  const gaps: FreeRun[] = [];
  let at: number = start;
  const until = (end: number) => {
    if (at < end) gaps.push({ start: blocks(at), length: blocks(end - at) });
  };
  for (const piece of tokens.segments({ ...NOWHERE, physical: start, length })) {
    until(piece.physical);
    at = piece.physical + piece.length;
  }
  until(start + length);
  return gaps;
}

/** A block of a temporary file of ours. */
function heldBlock(tokens: Tokens, physical: number): FileBlock | undefined {
  const [piece] = tokens.segments({ ...NOWHERE, physical: blocks(physical), length: blocks(1) });
  return piece && { fd: piece.donorFd, logical: piece.donor };
}

/** For a segment of which only the place matters. */
const NOWHERE = { donorFd: TOKENS, donor: blocks(0), logical: blocks(0) };

/** Finds places for what the plan has none for, or none that can be had. @returns the files that stay, and why */
async function* placeRest(
  jobs: readonly Job[],
  wants: readonly Want[],
  found: Found,
  context: PlacingContext,
): AsyncGenerator<Outcome, Placed['refused'], void> {
  const placedRanges = new Set(wants.filter((want) => found.segments.has(want)).map(({ range }) => range));
  const whose = new Map<Job, Job>();
  for (const job of jobs) {
    const ranges = job.plan.ranges.filter((range) => !placedRanges.has(range));
    whose.set({ ...job, plan: withRanges(job.plan, ranges), segments: [] }, job);
  }
  const placed = yield* placeWhereFree([...whose.keys()], context);
  for (const rest of placed.jobs) {
    const job = whose.get(rest)!;
    job.segments = [...job.segments, ...rest.segments].sort((a, b) => a.logical - b.logical);
  }
  const refused: { job: Job; reason: Reason }[] = [];
  for (const [rest, job] of whose) {
    job.why = rest.why;
    const refusal = placed.refused.find((other) => other.job === rest);
    if (fragmentsAfter(job.plan.extents, job.segments) < job.plan.fragmentsBefore) continue;
    refused.push({ job, reason: refusal?.reason ?? 'no-better-place' });
  }
  return refused;
}

/** What a job's plan has destinations for. */
function wantsOf(job: Job, { filesystem, pageSize }: PlacingContext): Want[] {
  const { plan, candidate } = job;
  const { blockSize } = filesystem;
  if (candidate.prescribed === undefined) return [];
  const { kind, step } = candidate.prescribed;
  if (kind === 'undo') {
    return relocationsOf(step, blockSize).map(({ physical: start, length }, i) => ({
      job,
      range: plan.ranges[i],
      start,
      length,
    }));
  }
  const blocksPerPage = Math.max(1, pageSize / blockSize);
  const destinations = new Map(
    step.ranges.map(({ offset, destination }) => [offset / blockSize, destination]),
  );
  return plan.ranges.flatMap((range) => {
    const destination = destinations.get(plan.extents.logical[plan.starts[range.firstFragment]]);
    const length = demand(plan, range, blocksPerPage);
    if (destination === undefined || destination.length < length) return [];
    return [{ job, range, start: destination.start, length }];
  });
}

const destinationsOf = (steps: readonly PlanStep[]): FreeRun[] =>
  steps.flatMap(({ ranges }) => ranges.flatMap(({ destination }) => destination ?? []));

/** Blocks that are wanted in one free run, in the order of the device. */
export interface Spot<W extends FreeRun> {
  readonly run: FreeRun;
  readonly wants: W[];
}

/** Finds the free runs in which what is wanted lies. What is not free, or wanted twice, is taken. Pure. */
export function spotsIn<W extends FreeRun>(
  free: Pick<FreeMap, 'count' | 'start' | 'length'>,
  wants: readonly W[],
): { spots: Spot<W>[]; taken: Set<W> } {
  const spots: Spot<W>[] = [];
  const taken = new Set<W>();
  let row = 0;
  let end = 0;
  for (const want of wants.toSorted((a, b) => a.start - b.start)) {
    const stop = want.start + want.length;
    while (row < free.count && free.start[row] + free.length[row] < stop) row++;
    if (row === free.count || free.start[row] > want.start || want.start < end) {
      taken.add(want);
      continue;
    }
    end = stop;
    const last = spots.at(-1);
    if (last?.run.start === free.start[row]) last.wants.push(want);
    else {
      spots.push({
        run: { start: blocks(free.start[row]), length: blocks(free.length[row]) },
        wants: [want],
      });
    }
  }
  return { spots, taken };
}

/** The blocks before and behind a free run. */
const bordersOf = ({ run }: Spot<FreeRun>): number[] => [run.start - 1, run.start + run.length];

/**
 * What has to be allocated to get what is wanted in a free run: from one of its ends on, where it is the least and the
 * file that lies there lends a block.
 */
async function siteFor({ run, wants }: Spot<FreeRun>, anchors: Anchors): Promise<Site | undefined> {
  const last = wants[wants.length - 1];
  const [start, end] = [wants[0].start, last.start + last.length];
  const fromBefore = async () => {
    const before = await anchors.block(blocks(run.start - 1));
    return before && { start: run.start, length: blocks(end - run.start), before };
  };
  const fromBehind = async () => {
    const behind = await anchors.block(blocks(run.start + run.length));
    return behind && { start, length: blocks(run.start + run.length - start), behind };
  };
  const ways = [fromBefore, fromBehind];
  if (end - run.start > run.start + run.length - start) ways.reverse();
  return (await ways[0]()) ?? (await ways[1]());
}

/** How often a run is asked for. What is answered is held, so each answer is another. */
const TRIES = 256;

/**
 * Allocates runs beside which nobody lends a block: asked for as a whole, since few other runs are as long, and when it
 * looks through all of them the allocator takes the one that fits best.
 *
 * @returns what was got, of these runs and of others
 */
async function takeWhole(spots: readonly Spot<FreeRun>[], context: PlacingContext): Promise<Run[]> {
  const { filesystem, dirFd } = context;
  const depth = spots.length === 0 ? undefined : await SearchDepth.of(filesystem, dirFd);
  if (depth === undefined) return [];
  const stock = context.anotherStock();
  const holds = (start: number, end: number) =>
    [...stock.runs()].some(({ physical, length }) => physical <= start && end <= physical + length);
  for (const { run, wants } of spots) {
    for (const piece of piecesOf([run], filesystem.geometry)) {
      const length = blocks(Math.min(piece.length, LONGEST_UNWRITTEN));
      const end = piece.start + length;
      if (!wants.some((want) => want.start < end && piece.start < want.start + want.length)) continue;
      for (let attempt = 0; attempt < TRIES && !holds(piece.start, end); attempt++) {
        if (!(await stock.add(length, false, depth))) break;
      }
    }
    // The others are wanted by nobody, and whoever comes next needs the room.
    const wanted = [...stock.runs()].filter(({ physical, length }) =>
      spots.some(({ run: { start, length: size } }) => physical < start + size && start < physical + length),
    );
    await stock.keepOnly(new Set(wanted.map(({ donorFd }) => donorFd)));
  }
  return [...stock.runs()];
}

/** The segments that put a range where it is wanted; undefined when not all of that is held. */
function segmentsFor(want: Want, tokens: Tokens, blocksPerPage: number): Segment[] | undefined {
  const { job, range, start, length } = want;
  const { plan } = job;
  const logical = blocks(plan.extents.logical[plan.starts[range.firstFragment]]);
  const whole = { donorFd: TOKENS, donor: start, logical, physical: start, length };
  const pieces = tokens.segments(whole);
  if (pieces.reduce((sum, piece) => sum + piece.length, 0) < length) return undefined;
  if (isUndo(job)) {
    // Where blocks are smaller than pages the kernel exchanges only what lies alike in its page.
    return pieces.every((piece) => (piece.donor - piece.logical) % blocksPerPage === 0) ? pieces : undefined;
  }
  const [first] = pieces;
  if (pieces.length > 1 && blocksPerPage > 1) return undefined;
  const run =
    pieces.length > 1
      ? { donorFd: TOKENS, start, physical: start, length }
      : { donorFd: first.donorFd, start: first.donor, physical: start, length };
  const assigned = assign(withRanges(plan, [range]), new RunPool([run]), blocksPerPage);
  if (assigned.reduce((sum, segment) => sum + segment.length, 0) < range.blocks) return undefined;
  return pieces.length > 1 ? assigned.flatMap((segment) => tokens.segments(segment)) : assigned;
}

/** Lends blocks of files that lie beside free runs: opened, with a lease, and asked whether it is theirs. */
class Anchors {
  readonly #neighbours: Neighbours;
  readonly #context: BatchContext;
  readonly #leases: Leases;
  readonly #files = new Map<number, { readonly fd: number; readonly layout: ExtentTable } | undefined>();
  readonly #opened: number[] = [];
  #tokens = new Tokens([]);

  /** @param jobs files that are open already */
  constructor(jobs: readonly Job[], neighbours: Neighbours, context: BatchContext) {
    this.#neighbours = neighbours;
    this.#context = context;
    this.#leases = new Leases(() => context.barrier.commit());
    for (const { candidate, fd, layout, sizeBlocks } of jobs) {
      this.#files.set(candidate.file.inode, { fd, layout: clip(layout, sizeBlocks) });
    }
  }

  /** Blocks of temporary files of ours can be lent as well. */
  lend(tokens: Tokens): void {
    this.#tokens = tokens;
  }

  async block(physical: Blocks): Promise<FileBlock | undefined> {
    const held = heldBlock(this.#tokens, physical);
    if (held !== undefined) return held;
    const owner = this.#neighbours.ownerOf(physical);
    if (owner === undefined) return undefined;
    if (!this.#files.has(owner.inode)) this.#files.set(owner.inode, await this.#open(owner.inode));
    const file = this.#files.get(owner.inode);
    return file && has(file.layout, owner.logical, physical)
      ? { fd: file.fd, logical: blocks(owner.logical) }
      : undefined;
  }

  async #open(inode: number) {
    const { dirFd, filesystem, exclusive } = this.#context;
    const { blockSize } = filesystem;
    let toClose: number | undefined;
    try {
      const found = await openWhatever(dirFd, inode);
      if (found === undefined) return undefined;
      toClose = found.fd;
      const { fd, executable } = found;
      const leased = await this.#leases.take(fd, exclusive || executable ? 'stop' : 'release');
      const { size, blocks: sectors } = await statFd(fd);
      const flags = await inodeFlags(fd);
      const facts = { regular: true, size: bytes(Number(size)), hasBlocks: sectors > 0n, flags, swap: false };
      if ((exclusive && !leased) || immovable(facts) !== undefined) return undefined;
      const extents = mergeExtents(await fiemap(fd, blockSize, { flags: FIEMAP_FLAG_SYNC }));
      this.#opened.push(fd);
      toClose = undefined;
      // What is preallocated behind the end cannot be exchanged.
      return { fd, layout: clip(extents, toBlocks(facts.size, blockSize)) };
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return undefined;
    } finally {
      if (toClose !== undefined) await this.#leases.close(toClose);
    }
  }

  /** Closes what was opened, when what was lent and given back is committed. */
  async close(): Promise<void> {
    try {
      if (this.#files.size > 0) await this.#context.barrier.commit();
    } finally {
      await this.#leases.settled();
      await Promise.all(this.#opened.map((fd) => this.#leases.close(fd)));
    }
  }
}

/** Whether a file has a block at a place. */
function has({ count, logical, physical, length }: ExtentTable, block: number, at: number): boolean {
  for (let i = 0; i < count; i++) {
    if (logical[i] <= block && block < logical[i] + length[i]) return physical[i] + block - logical[i] === at;
  }
  return false;
}
