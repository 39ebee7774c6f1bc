import type { ExtentTable } from './extents.ts';
import type { Blocks } from './units.ts';

/**
 * Whether extent `i` goes on where `i - 1` ended, by filefrag's rule (e2fsprogs misc/filefrag.c): it lies right
 * behind it, or as far behind as the hole between them is long.
 */
export function continues(extents: ExtentTable, i: number): boolean {
  const { logical, physical, length } = extents;
  const behind = physical[i - 1] + length[i - 1];
  return physical[i] === behind || physical[i] === physical[i - 1] + logical[i] - logical[i - 1];
}

/** Fragments of a merged table: physically contiguous runs, as filefrag counts them. */
export function countFragments(extents: ExtentTable): number {
  let count = extents.count === 0 ? 0 : 1;
  for (let i = 1; i < extents.count; i++) if (!continues(extents, i)) count++;
  return count;
}

/** The index of each fragment's first extent, and the extent count as the last element. */
export function fragmentStarts(extents: ExtentTable): Uint32Array {
  const { count } = extents;
  const starts = new Uint32Array(count + 1);
  let next = 0;
  for (let i = 0; i < count; i++) if (i === 0 || !continues(extents, i)) starts[next++] = i;
  starts[next] = count;
  return next === count ? starts : starts.slice(0, next + 1);
}

/**
 * The fewest fragments that so many blocks can have.
 *
 * @param longestRun the longest contiguous run the filesystem's geometry allows
 */
export function idealFragments(mapped: Blocks, longestRun: Blocks): number {
  return Math.ceil(mapped / longestRun);
}

/**
 * The longest contiguous run of data blocks: a flex group's, whose metadata lies packed at its start, or a block
 * group's without flex_bg (Documentation/filesystems/ext4/blockgroup.rst). It is also what e4defrag assumes.
 */
export function longestRun(blocksPerGroup: number, groupsPerFlex: number): Blocks {
  return (blocksPerGroup * groupsPerFlex) as Blocks;
}

/** The mapped blocks of each fragment, in logical order. */
export function fragmentLengths(extents: ExtentTable, starts = fragmentStarts(extents)): Float64Array {
  const lengths = new Float64Array(starts.length - 1);
  const { length } = extents;
  for (let fragment = 0; fragment < lengths.length; fragment++) {
    let sum = 0;
    for (let i = starts[fragment]; i < starts[fragment + 1]; i++) sum += length[i];
    lengths[fragment] = sum;
  }
  return lengths;
}
