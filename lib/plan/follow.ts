import { ExtentTable } from '../layout/extents.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { countFragments, fragmentLengths, fragmentStarts } from '../layout/fragments.ts';
import { blocks, toBlocks, type Blocks, type Bytes } from '../layout/units.ts';
import type { Reason } from '../scan/reasons.ts';
import { clip, rangeOf, relocate, withRanges, type FilePlan, type Range, type Relocation } from './plan.ts';
import type { PlanKind, PlanStep } from './planFile.ts';

/** A file as it is now. */
export interface FileNow {
  readonly size: Bytes;
  readonly generation: number;
  /** Merged, and whole. */
  readonly extents: ExtentTable;
}

/** Whether a file is as it was when a step was written down. */
export const isUnchanged = (step: PlanStep, { size, generation, extents }: FileNow): boolean =>
  generation === step.generation && size === step.size && fingerprint(extents) === step.fingerprint;

/** What a step of a plan file moves, over the file's layout; or why the step cannot be carried out. */
export function followStep(
  kind: PlanKind,
  step: PlanStep,
  now: FileNow,
  blockSize: Bytes,
  longestRun: Blocks,
): FilePlan | Reason {
  if (!isUnchanged(step, now)) return 'changed-since-plan';
  const extents = clip(now.extents, toBlocks(now.size, blockSize));
  const plan =
    kind === 'undo'
      ? undoPlan(extents, relocationsOf(step, blockSize), longestRun)
      : rangesPlan(extents, step, blockSize, longestRun);
  // Somebody has made up the ranges: they are not those of this layout.
  return plan ?? 'changed-since-plan';
}

/** Where the ranges of an undo step lay, and are to lie again. */
export function relocationsOf({ ranges }: PlanStep, blockSize: Bytes): Relocation[] {
  return ranges.flatMap(({ offset, destination: to }) =>
    to === undefined ? [] : [{ logical: blocks(offset / blockSize), physical: to.start, length: to.length }],
  );
}

function rangesPlan(
  extents: ExtentTable,
  step: PlanStep,
  blockSize: Bytes,
  longestRun: Blocks,
): FilePlan | undefined {
  const starts = fragmentStarts(extents);
  const count = starts.length - 1;
  const lengths = fragmentLengths(extents, starts);
  const startOf = (fragment: number) => extents.logical[starts[fragment]];
  const endOf = (fragment: number) => {
    const last = starts[fragment + 1] - 1;
    return extents.logical[last] + extents.length[last];
  };
  const ranges: Range[] = [];
  let fragment = 0;
  for (const { offset, length } of step.ranges) {
    const [start, end] = [offset / blockSize, (offset + length) / blockSize];
    while (fragment < count && startOf(fragment) < start) fragment++;
    const first = fragment;
    while (fragment < count && endOf(fragment) <= end) fragment++;
    const fits = fragment > first && startOf(first) === start && endOf(fragment - 1) === end;
    if (!fits) return undefined;
    ranges.push(rangeOf(lengths, first, fragment));
  }
  return withRanges({ extents, starts, fragmentsBefore: count, longestRun }, ranges);
}

/** A plan for pieces that need not be whole fragments: each of its "fragments" moves, or stays, as a whole. */
function undoPlan(
  extents: ExtentTable,
  pieces: readonly Relocation[],
  longestRun: Blocks,
): FilePlan | undefined {
  const rows: { logical: number; physical: number; length: number; flags: number }[] = [];
  const ranges: Range[] = [];
  let covered = 0;
  let first = 0;
  for (const { logical, physical, length, flags } of extents) {
    for (let at: number = logical; at < logical + length;) {
      const piece = pieces.at(ranges.length);
      const inside = piece !== undefined && piece.logical <= at;
      const border = piece === undefined ? Infinity : piece.logical + (inside ? piece.length : 0);
      const end = Math.min(logical + length, border);
      if (inside && covered === 0) first = rows.length;
      rows.push({ logical: at, physical: physical + at - logical, length: end - at, flags });
      if (inside) covered += end - at;
      // A piece over a hole is not one that was written down.
      if (inside && end === border && covered < piece.length) return undefined;
      if (inside && end === border) {
        ranges.push({ firstFragment: first, endFragment: rows.length, blocks: piece.length });
        covered = 0;
      }
      at = end;
    }
  }
  if (ranges.length < pieces.length) return undefined;
  return {
    extents: ExtentTable.from(rows),
    starts: Uint32Array.from({ length: rows.length + 1 }, (_, i) => i),
    ranges,
    blocks: blocks(ranges.reduce((sum, range) => sum + range.blocks, 0)),
    fragmentsBefore: countFragments(extents),
    fragmentsAfter: countFragments(relocate(extents, pieces)),
    longestRun,
  };
}

/**
 * What would put a file back where it lay before: its pieces that lie elsewhere now, each with its old place. What the
 * file has got or lost meanwhile is left out.
 */
export function undoRanges(before: ExtentTable, after: ExtentTable): Relocation[] {
  const ranges: Relocation[] = [];
  let row = 0;
  for (const { logical, physical, length } of before) {
    const end = logical + length;
    while (row < after.count && after.logical[row] + after.length[row] <= logical) row++;
    for (let i = row; i < after.count && after.logical[i] < end; i++) {
      const from = Math.max(logical, after.logical[i]);
      const to = Math.min(end, after.logical[i] + after.length[i]);
      const old = physical + from - logical;
      if (old === after.physical[i] + from - after.logical[i]) continue;
      const last = ranges.at(-1);
      const joins = last && last.logical + last.length === from && last.physical + last.length === old;
      if (joins) ranges[ranges.length - 1] = { ...last, length: blocks(last.length + to - from) };
      else ranges.push({ logical: blocks(from), physical: blocks(old), length: blocks(to - from) });
    }
  }
  return ranges;
}
