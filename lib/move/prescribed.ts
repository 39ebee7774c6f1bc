import { blocks } from '../layout/units.ts';
import { assign, demand, RunPool, type Segment } from '../place/assign.ts';
import type { FreeRun } from '../place/freeMap.ts';
import { TOKENS, type Tokens } from '../place/tokens.ts';
import { clip, fragmentsAfter, withRanges, type Range } from '../plan/plan.ts';
import type { PlanStep } from '../plan/planFile.ts';
import type { Reason } from '../scan/reasons.ts';
import { placeWhereFree, type BatchContext, type Placed, type Placer, type PlacingContext } from './batch.ts';
import type { Outcome } from './candidate.ts';
import { ExactPlaces } from './exactPlaces.ts';
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

/** Puts files where a plan says, as far as that is still free. The rest of them goes where the allocator finds room. */
export class PrescribedPlacer {
  readonly #places: ExactPlaces;

  /** @param steps all that will be asked for */
  constructor(context: Pick<BatchContext, 'filesystem' | 'dirFd'>, steps: readonly PlanStep[]) {
    this.#places = new ExactPlaces(context, destinationsOf(steps));
  }

  readonly placer: Placer = (jobs, context) => this.#place(jobs, context);

  async *#place(jobs: readonly Job[], context: PlacingContext): AsyncGenerator<Outcome, Placed, void> {
    const wants = jobs.flatMap((job) => wantsOf(job, context));
    const found = wants.length === 0 ? NOTHING_WANTED : await this.#find(wants, context);
    const incomplete: Job[] = [];
    for (const job of jobs) {
      const mine = wants.filter((want) => want.job === job);
      const missing = mine.filter((want) => !found.segments.has(want));
      job.segments = mine.flatMap((want) => found.segments.get(want) ?? []);
      if (mine.length - missing.length < job.plan.ranges.length) incomplete.push(job);
      if (missing.length === 0) continue;
      const taken = missing.some((want) => found.taken.has(want));
      const why = taken ? 'they are not free any more' : found.why;
      const reason = `${missing.length} of the ${mine.length} places that the plan has for it cannot be had: ${why}`;
      yield { kind: 'placing', path: job.path, step: 'elsewhere', reason };
    }
    const refused = yield* placeRest(incomplete, wants, found, context);
    const gone = new Set(refused.map(({ job }) => job));
    const placed = jobs.filter((job) => !gone.has(job));
    for (const { segments, candidate } of placed) {
      for (const { logical, physical, length } of segments) {
        this.#places.note(candidate.file.inode, logical, physical, length);
      }
    }
    return { jobs: placed, refused };
  }

  /** Takes hold of what is wanted. */
  async #find(wants: readonly Want[], context: PlacingContext): Promise<Found> {
    const { filesystem, pageSize, stock } = context;
    const open = new Map(
      wants.map(({ job: { candidate, fd, layout, sizeBlocks } }) => [
        candidate.file.inode,
        { fd, layout: clip(layout, sizeBlocks) },
      ]),
    );
    const { tokens, files, taken, why } = await this.#places.take(wants, context, { open });
    stock.adopt(files);
    const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
    const segments = new Map<Want, readonly Segment[]>();
    for (const want of wants) {
      const some = taken.has(want) ? undefined : segmentsFor(want, tokens, blocksPerPage);
      if (some !== undefined) segments.set(want, some);
    }
    return { segments, taken, why };
  }
}

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
  const { step } = candidate.prescribed;
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

/** The segments that put a range where it is wanted; undefined when not all of that is held. */
function segmentsFor(want: Want, tokens: Tokens, blocksPerPage: number): Segment[] | undefined {
  const { job, range, start, length } = want;
  const { plan } = job;
  const logical = blocks(plan.extents.logical[plan.starts[range.firstFragment]]);
  const whole = { donorFd: TOKENS, donor: start, logical, physical: start, length };
  const pieces = tokens.segments(whole);
  if (pieces.reduce((sum, piece) => sum + piece.length, 0) < length) return undefined;
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
