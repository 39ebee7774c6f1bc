import { isSolid, type FilePlan, type Range, type Relocation } from '../plan/plan.ts';
import { firstIndex } from '../layout/firstIndex.ts';
import { blocks, type Blocks } from '../layout/units.ts';

/** A contiguous run of a donor file's blocks. */
export interface Run {
  readonly donorFd: number;
  /** Logical block in the donor. */
  readonly start: Blocks;
  readonly physical: Blocks;
  readonly length: Blocks;
}

/** A mapped stretch of a file, and the donor blocks it is exchanged with. */
export interface Segment extends Relocation {
  readonly donorFd: number;
  /** Logical block in the donor. */
  readonly donor: Blocks;
}

/** Donor runs to take from, shortest first. */
export class RunPool {
  readonly #runs: Run[];
  /** Since {@link begin}: what was in the pool then and is not now, and the reverse. */
  readonly #taken = new Set<Run>();
  readonly #given = new Set<Run>();

  constructor(runs: Iterable<Run>) {
    this.#runs = [...runs].sort((a, b) => a.length - b.length);
  }

  /** Removes and answers the shortest run of at least that length, else the longest there is. */
  take(least: number): Run | undefined {
    const at = this.#firstAtLeast(least);
    const run = at < this.#runs.length ? this.#runs.splice(at, 1)[0] : this.#runs.pop();
    if (run !== undefined && !this.#given.delete(run)) this.#taken.add(run);
    return run;
  }

  /** Puts a run, or what is left of it, back. */
  give(run: Run): void {
    if (run.length === 0) return;
    if (!this.#taken.delete(run)) this.#given.add(run);
    this.#insert(run);
  }

  /** Starts something that may be given up. */
  begin(): void {
    this.#taken.clear();
    this.#given.clear();
  }

  /** Makes the pool what it was at {@link begin}. */
  giveUp(): void {
    for (const run of this.#given) this.#runs.splice(this.#runs.indexOf(run), 1);
    for (const run of this.#taken) this.#insert(run);
    this.begin();
  }

  #insert(run: Run): void {
    this.#runs.splice(this.#firstAtLeast(run.length), 0, run);
  }

  #firstAtLeast(length: number): number {
    return firstIndex(this.#runs.length, (i) => this.#runs[i].length >= length);
  }
}

/** Holes up to this long are left open in the donor too where blocks are smaller than pages. */
const MIRRORED_HOLE = 64;

/**
 * How many donor blocks to leave between two stretches that a hole parts. EXT4_IOC_MOVE_EXT wants both offsets
 * congruent modulo the page. With a block a page the hole vanishes; with smaller blocks a short hole is mirrored,
 * which keeps the run unbroken, and of a long one the remainder is left.
 */
const gapFor = (hole: number, blocksPerPage: number): number =>
  blocksPerPage === 1 ? 0 : hole <= MIRRORED_HOLE ? hole : hole % blocksPerPage;

/**
 * Lays the fragments of a range from `first` on out along a run, as far as they fit.
 *
 * @param from blocks of the run that are left out at its beginning
 */
function layOut(plan: FilePlan, first: number, range: Range, run: Run, blocksPerPage: number, from = 0) {
  const { logical, length } = plan.extents;
  const { starts } = plan;
  const origin = logical[starts[first]];
  const segments: Segment[] = [];
  let used = from + modulo(origin - run.start - from, blocksPerPage);
  let fragment = first;
  // The segment being made: so many blocks up to `logicalEnd`, which lie up to `used` in the run.
  let open = 0;
  let logicalEnd = origin;
  const close = () => {
    if (open === 0) return;
    segments.push({
      donorFd: run.donorFd,
      logical: blocks(logicalEnd - open),
      donor: blocks(run.start + used - open),
      physical: blocks(run.physical + used - open),
      length: blocks(open),
    });
    open = 0;
  };
  const { blocks: all, firstFragment, endFragment: end } = range;
  if (first === firstFragment && used + all <= run.length && isSolid(plan, range)) {
    // Fragment by fragment it would come to the same.
    [fragment, open, used, logicalEnd] = [end, all, used + all, origin + all];
  }
  for (; fragment < end; fragment++) {
    // Only whole fragments: one that is begun must fit.
    let need = used;
    let at = logicalEnd;
    for (let i = starts[fragment]; i < starts[fragment + 1]; i++) {
      need += gapFor(logical[i] - at, blocksPerPage) + length[i];
      at = logical[i] + length[i];
    }
    if (need > run.length) break;
    for (let i = starts[fragment]; i < starts[fragment + 1]; i++) {
      const hole = logical[i] - logicalEnd;
      if (hole > 0) {
        close();
        used += gapFor(hole, blocksPerPage);
      }
      open += length[i];
      used += length[i];
      logicalEnd = logical[i] + length[i];
    }
  }
  close();
  return { segments, used, fragments: fragment - first };
}

const modulo = (number: number, by: number): number => ((number % by) + by) % by;

/** What a range is to begin at a multiple of, in blocks; 1 for anywhere. */
export const alignmentOf = ({ align = blocks(1) }: FilePlan, range: Range): number =>
  range.blocks < align ? 1 : align;

/**
 * The first block of a run at which a range may begin that is to be aligned on the device. Where blocks are smaller than
 * pages there may be none.
 */
function alignedStart(run: Run, origin: number, align: number, blocksPerPage: number): number | undefined {
  const first = modulo(0 - run.physical, align);
  for (let at = first; at < first + align * blocksPerPage; at += align) {
    if (modulo(origin - run.start - at, blocksPerPage) === 0) return at;
  }
  return undefined;
}

/** How many ranges of a plan are to be aligned and have got a place that is not. */
export function countUnaligned(plan: FilePlan, segments: readonly Segment[]): number {
  const { extents, starts } = plan;
  return plan.ranges.filter((range) => {
    const align = alignmentOf(plan, range);
    const start = extents.logical[starts[range.firstFragment]];
    const end =
      starts[range.endFragment] < extents.count ? extents.logical[starts[range.endFragment]] : Infinity;
    const first = segments.find(({ logical }) => logical >= start && logical < end);
    return first !== undefined && first.physical % align !== 0;
  }).length;
}

/** Donor blocks that a range needs at most, wherever its run begins. */
export function demand(plan: FilePlan, range: Range, blocksPerPage: number): Blocks {
  const slack = alignmentOf(plan, range) - 1;
  if (blocksPerPage === 1) return blocks(range.blocks + slack);
  const run: Run = { donorFd: -1, start: blocks(0), physical: blocks(0), length: blocks(Infinity) };
  const { used } = layOut(plan, range.firstFragment, range, run, blocksPerPage);
  return blocks(used + blocksPerPage - 1 + slack);
}

/**
 * Gives each range of a plan a place in the pool: one run for the whole where one is long enough; else the longest
 * runs in turn, each for as many whole fragments as it holds. A run that would hold fewer than two fragments is not
 * used and the fragment stays where it is, so a file never comes out worse.
 */
export function assign(plan: FilePlan, pool: RunPool, blocksPerPage: number): Segment[] {
  const segments: Segment[] = [];
  for (const range of plan.ranges) {
    let need: number = demand(plan, range, blocksPerPage);
    for (let first = range.firstFragment; first < range.endFragment;) {
      const run = pool.take(need);
      if (run === undefined) return segments;
      const laid = layOutAligned(plan, first, range, run, blocksPerPage);
      if (laid.fragments < 2) {
        pool.give(run);
        first++;
        continue;
      }
      for (const segment of laid.segments) segments.push(segment);
      pool.give(rest(run, laid.used));
      pool.give({ ...run, length: blocks(laid.from) });
      first += laid.fragments;
      need = Math.max(1, need - laid.used);
    }
  }
  return segments;
}

/** Lays the rest of a range out along a run, aligned where it is to be and no less of it fits then. */
function layOutAligned(plan: FilePlan, first: number, range: Range, run: Run, blocksPerPage: number) {
  const align = alignmentOf(plan, range);
  const plain = () => ({ ...layOut(plan, first, range, run, blocksPerPage), from: 0 });
  const origin = plan.extents.logical[plan.starts[first]];
  const from = align === 1 ? undefined : alignedStart(run, origin, align, blocksPerPage);
  if (from === undefined) return plain();
  const aligned = { ...layOut(plan, first, range, run, blocksPerPage, from), from };
  if (first + aligned.fragments === range.endFragment) return aligned;
  const other = plain();
  return other.fragments > aligned.fragments ? other : aligned;
}

const rest = (run: Run, used: number): Run => ({
  donorFd: run.donorFd,
  start: blocks(run.start + used),
  physical: blocks(run.physical + used),
  length: blocks(run.length - used),
});
