import { appendMerged, EXTENT_FLAG, ExtentTable, shorten } from '../layout/extents.ts';
import { firstIndex } from '../layout/firstIndex.ts';
import { fragmentLengths, fragmentStarts, idealFragments } from '../layout/fragments.ts';
import { blocks, type Blocks } from '../layout/units.ts';
import type { Reason } from '../scan/reasons.ts';

/** What a plan is made for. */
export interface PlanOptions {
  /** Fragments at least this long stay where they are; Infinity moves the whole file into one. */
  readonly fragmentBlocks: number;
  /** The longest contiguous run that the filesystem's geometry allows. */
  readonly longestRun: Blocks;
  /** A range of at least so many blocks is to begin at a multiple of them. */
  readonly align?: Blocks | undefined;
}

/** A run of consecutive fragments that become one. */
export interface Range {
  /** Fragment numbers, the end not included. */
  readonly firstFragment: number;
  readonly endFragment: number;
  /** Mapped blocks to move. */
  readonly blocks: Blocks;
}

/** What is to be moved in a file, over its layout at that moment. */
export interface FilePlan {
  /** The merged layout up to the end of the file: blocks preallocated behind it cannot be exchanged. */
  readonly extents: ExtentTable;
  /** As {@link fragmentStarts} of `extents`. */
  readonly starts: Uint32Array;
  /** In logical order. */
  readonly ranges: readonly Range[];
  readonly blocks: Blocks;
  readonly fragmentsBefore: number;
  /** When every range finds a place as contiguous as the filesystem allows. */
  readonly fragmentsAfter: number;
  readonly longestRun: Blocks;
  /** As in {@link PlanOptions}. */
  readonly align?: Blocks | undefined;
}

/**
 * Chooses the ranges of a file that are worth moving, or says why none is.
 *
 * A fragment costs as much as writing `2 * fragmentBlocks`, which makes two neighbours that are both shorter than
 * `fragmentBlocks` always worth joining, a lone short one never worth moving, and a longer neighbour worth pulling
 * in exactly when it is short enough for the fragments that disappear. The cheapest set of ranges is found by
 * dynamic programming over "stays" and "moves", in one pass over the fragments.
 *
 * @param merged the file's merged extents
 * @param sizeBlocks the file's size, a begun block counting whole
 */
export function planFile(merged: ExtentTable, sizeBlocks: Blocks, options: PlanOptions): FilePlan | Reason {
  const extents = clip(merged, sizeBlocks);
  if (extents.count === 0) return 'no-blocks';
  const mapped = extents.blocks;
  const starts = fragmentStarts(extents);
  const fragmentsBefore = starts.length - 1;
  if (mapped === 1) return 'one-block';
  if (fragmentsBefore <= idealFragments(mapped, options.longestRun)) return 'already-contiguous';
  const lengths = fragmentLengths(extents, starts);
  const ranges = options.fragmentBlocks === Infinity ? [whole(lengths)] : cheapestRanges(lengths, options);
  if (ranges.length === 0) return 'large-fragments';
  const { longestRun, align } = options;
  return withRanges({ extents, starts, fragmentsBefore, longestRun, align }, ranges);
}

/** Whether there is no hole in a range. */
export function isSolid(
  { extents: { logical, length }, starts }: Pick<FilePlan, 'extents' | 'starts'>,
  { firstFragment, endFragment, blocks }: Range,
): boolean {
  const last = starts[endFragment] - 1;
  return logical[last] + length[last] - logical[starts[firstFragment]] === blocks;
}

/** The plan that moves these ranges of a layout. */
export function withRanges(
  layout: Pick<FilePlan, 'extents' | 'starts' | 'fragmentsBefore' | 'longestRun' | 'align'>,
  ranges: readonly Range[],
): FilePlan {
  const { extents, starts, fragmentsBefore, longestRun, align } = layout;
  let [fragmentsAfter, moved] = [fragmentsBefore, 0];
  for (const range of ranges) {
    fragmentsAfter -= range.endFragment - range.firstFragment;
    fragmentsAfter += idealFragments(range.blocks, longestRun);
    moved += range.blocks;
  }
  const sums = { blocks: blocks(moved), fragmentsBefore, fragmentsAfter };
  return { extents, starts, ranges, ...sums, longestRun, ...(align !== undefined && { align }) };
}

/** The plan that moves some fragments elsewhere, each in one piece as it is: for who needs their place. */
export function displace(
  extents: ExtentTable,
  starts: Uint32Array,
  fragments: readonly number[],
  longestRun: Blocks,
): FilePlan {
  const lengths = fragmentLengths(extents, starts);
  const fragmentsBefore = starts.length - 1;
  const ranges = fragments.map((fragment) => rangeOf(lengths, fragment, fragment + 1));
  return withRanges({ extents, starts, fragmentsBefore, longestRun }, ranges);
}

const whole = (lengths: Float64Array): Range => rangeOf(lengths, 0, lengths.length);

/** @param endFragment not included */
export function rangeOf(lengths: Float64Array, firstFragment: number, endFragment: number): Range {
  let sum = 0;
  for (let i = firstFragment; i < endFragment; i++) sum += lengths[i];
  return { firstFragment, endFragment, blocks: blocks(sum) };
}

function cheapestRanges(lengths: Float64Array, { fragmentBlocks }: PlanOptions): Range[] {
  const perFragment = 2 * fragmentBlocks;
  const count = lengths.length;
  // For each fragment, whether its predecessor moves in the cheapest plan where it stays, and where it moves.
  const movesBeforeStay = new Uint8Array(count);
  const movesBeforeMove = new Uint8Array(count);
  let stay = 0;
  let move = Infinity;
  for (let i = 0; i < count; i++) {
    const stayed = stay;
    const moved = move;
    movesBeforeStay[i] = moved < stayed ? 1 : 0;
    stay = Math.min(stayed, moved) + perFragment;
    // To go on with the range at hand costs the blocks, to begin a new one a fragment as well.
    movesBeforeMove[i] = moved <= stayed + perFragment ? 1 : 0;
    move = lengths[i] < perFragment ? Math.min(moved, stayed + perFragment) + lengths[i] : Infinity;
  }
  const ranges: Range[] = [];
  let end = move < stay ? count : -1;
  for (let i = count - 1; i >= 0; i--) {
    const moves = end !== -1;
    const predecessorMoves = i > 0 && (moves ? movesBeforeMove[i] : movesBeforeStay[i]) === 1;
    if (moves && !predecessorMoves) {
      ranges.push(rangeOf(lengths, i, end));
      end = -1;
    } else if (!moves && predecessorMoves) {
      end = i;
    }
  }
  return ranges.reverse();
}

/** The extents that a plan moves, where they lie. */
export function* movedExtents({
  extents,
  starts,
  ranges,
}: FilePlan): Iterable<{ physical: number; length: number }> {
  for (const { firstFragment, endFragment } of ranges) {
    for (let i = starts[firstFragment]; i < starts[endFragment]; i++) {
      yield { physical: extents.physical[i], length: extents.length[i] };
    }
  }
}

/** The part of a layout before a logical block. */
export function clip(extents: ExtentTable, end: Blocks): ExtentTable {
  if (extents.end <= end) return extents;
  const kept: { logical: number; physical: number; length: number; flags: number }[] = [];
  for (const extent of extents) {
    if (extent.logical >= end) break;
    kept.push({ ...extent, length: Math.min(extent.length, end - extent.logical) });
  }
  return ExtentTable.from(kept);
}

/** A mapped stretch of a file and the place it gets. */
export interface Relocation {
  readonly logical: Blocks;
  readonly physical: Blocks;
  readonly length: Blocks;
}

/** The merged layout after relocations, which are in logical order, apart, and cover mapped blocks only. */
export function relocate(extents: ExtentTable, relocations: readonly Relocation[]): ExtentTable {
  // Each cuts at most two extents in two.
  const result = new ExtentTable(extents.count + 2 * relocations.length);
  let count = 0;
  eachPiece(extents, relocations, (logical, physical, length, flags) => {
    count = appendMerged(result, count, logical, physical, length, flags & EXTENT_FLAG.UNWRITTEN);
  });
  return shorten(result, count);
}

/** Fragments of a layout after relocations. */
export function fragmentsAfter(extents: ExtentTable, relocations: readonly Relocation[]): number {
  let fragments = 0;
  // Of what comes before: by the rule of continues(), for which it does not matter what has been merged.
  let [logicalEnd, physicalEnd] = [-1, -1];
  const visit = (logical: number, physical: number, length: number) => {
    const goesOn = physical === physicalEnd || physical - physicalEnd === logical - logicalEnd;
    if (fragments === 0 || !goesOn) fragments++;
    logicalEnd = logical + length;
    physicalEnd = physical + length;
  };
  // Within a relocation everything goes on from what comes before.
  eachPiece(extents, relocations, visit, true);
  return fragments;
}

/**
 * Calls back for each extent, or part of one, and where it lies after relocations.
 *
 * @param endsOnly of what a relocation moves, only the first and the last
 */
function eachPiece(
  { count, logical, physical, length, flags }: ExtentTable,
  relocations: readonly Relocation[],
  visit: (logical: number, physical: number, length: number, flags: number) => void,
  endsOnly = false,
): void {
  let next = 0;
  for (let i = 0; i < count; i++) {
    const start = logical[i];
    const end = start + length[i];
    for (let at = start; at < end;) {
      while (next < relocations.length && relocations[next].logical + relocations[next].length <= at) next++;
      const move = relocations[next] as Relocation | undefined;
      const inside = move !== undefined && move.logical <= at;
      const stop = Math.min(
        end,
        move === undefined ? end : inside ? move.logical + move.length : move.logical,
      );
      const place = inside ? move.physical + (at - move.logical) : physical[i] + (at - start);
      visit(at, place, stop - at, flags[i]);
      at = stop;
      if (endsOnly && inside && stop === end) {
        const moveEnd = move.logical + move.length;
        i = Math.max(i, firstIndex(count, (other) => logical[other] >= moveEnd) - 2);
      }
    }
  }
}

/**
 * The first part of a plan that moves at most so many blocks, or undefined when not even two fragments fit: for a
 * file whose new place does not fit beside its old one.
 */
export function limitPlan(plan: FilePlan, most: Blocks): FilePlan | undefined {
  const lengths = fragmentLengths(plan.extents, plan.starts);
  const ranges: Range[] = [];
  let left: number = most;
  for (const range of plan.ranges) {
    let end = range.firstFragment;
    for (; end < range.endFragment && lengths[end] <= left; end++) left -= lengths[end];
    if (end - range.firstFragment >= 2) ranges.push(rangeOf(lengths, range.firstFragment, end));
    if (end < range.endFragment) break;
  }
  if (ranges.length === 0) return undefined;
  return withRanges(plan, ranges);
}
