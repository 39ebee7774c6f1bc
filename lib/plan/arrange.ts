import { EXTENT_FLAG, ExtentTable, type Extent } from '../layout/extents.ts';
import { countFragments, fragmentStarts } from '../layout/fragments.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import type { Segment } from '../place/assign.ts';
import type { Reason } from '../scan/reasons.ts';
import { clip, displace, fragmentsAfter, planFile, type FilePlan, type PlanOptions } from './plan.ts';

const MiB = 1024 * 1024;

/**
 * Which files of a directory are packed together, up to how many bytes of them in one run, and how long, in bytes, what
 * lies together already has to be to stay. To read past a jump costs less than the device could have read meanwhile,
 * and that is little beside a larger file.
 */
export const CLUSTER = { file: 1 * MiB, run: 64 * MiB, together: 1 * MiB };

/** Up to how many bytes of an order list get one run: they are held free until all of it has been moved. */
export const ORDER_RUN = 1024 * MiB;

/** Files one behind the other, seen as one file whose blocks are those of all of them. */
export interface Sequence {
  /** Not merged: an extent is one file's. */
  readonly extents: ExtentTable;
  /** Of each file, the first block that it has in the sequence. A multiple of the blocks of a page. */
  readonly bases: readonly number[];
}

/**
 * Puts files one behind the other.
 *
 * @param files the layouts up to the end of each file: what is preallocated behind it cannot be exchanged
 * @param blocksPerPage what EXT4_IOC_MOVE_EXT wants to lie alike in its page begins with one
 */
export function sequenceOf(files: readonly ExtentTable[], blocksPerPage: number): Sequence {
  const rows: { logical: number; physical: number; length: number; flags: number }[] = [];
  const bases: number[] = [];
  let end = 0;
  for (const extents of files) {
    bases.push(end);
    for (const { logical, physical, length, flags } of extents) {
      rows.push({ logical: end + logical, physical, length, flags: flags & EXTENT_FLAG.UNWRITTEN });
    }
    end += Math.ceil(extents.end / blocksPerPage) * blocksPerPage;
  }
  return { extents: ExtentTable.from(rows), bases };
}

/** How often who reads the files of a sequence has to go elsewhere on the device. */
export const countJumps = ({ extents }: Sequence): number => Math.max(0, countFragments(extents) - 1);

/**
 * What of a sequence is worth moving, as {@link planFile} has it for a file; or why nothing is.
 *
 * @param whole it is to be in as few runs as possible; otherwise what lies together already may stay
 */
export function planSequence(
  { extents }: Sequence,
  whole: boolean,
  options: PlanOptions,
  blockSize: Bytes,
): FilePlan | Reason {
  const full = whole || options.fragmentBlocks === Infinity;
  const fragmentBlocks = full ? Infinity : Math.min(CLUSTER.together / blockSize, options.fragmentBlocks);
  return planFile(extents, extents.end, { ...options, fragmentBlocks });
}

/**
 * Gives each file of a sequence its segments, in its own blocks. It gets none, and stays, where it would have more
 * fragments than before: with blocks smaller than pages a long hole cannot be left out.
 */
export function shareOut(
  files: readonly ExtentTable[],
  sequence: Sequence,
  segments: readonly Segment[],
): Segment[][] {
  return cutAtFiles(sequence, segments).map((share, i) =>
    fragmentsAfter(files[i], share) > countFragments(files[i]) ? [] : share,
  );
}

function cutAtFiles({ bases }: Sequence, segments: readonly Segment[]): Segment[][] {
  const shares: Segment[][] = bases.map(() => []);
  let file = 0;
  for (const { donorFd, logical, donor, physical, length } of segments) {
    for (let done = 0; done < length;) {
      const at = logical + done;
      while (file + 1 < bases.length && bases[file + 1] <= at) file++;
      const stop = Math.min(logical + length, bases.at(file + 1) ?? Infinity);
      shares[file].push({
        donorFd,
        logical: blocks(at - bases[file]),
        donor: blocks(donor + done),
        physical: blocks(physical + done),
        length: blocks(stop - at),
      });
      done = stop - logical;
    }
  }
  return shares;
}

/** The numbers of the files of a sequence of which a plan moves anything. */
export function filesMoved({ bases }: Sequence, { extents, starts, ranges }: FilePlan): Set<number> {
  const moved = new Set<number>();
  let file = 0;
  for (const { firstFragment, endFragment } of ranges) {
    for (let i = starts[firstFragment]; i < starts[endFragment]; i++) {
      while (file + 1 < bases.length && bases[file + 1] <= extents.logical[i]) file++;
      moved.add(file);
    }
  }
  return moved;
}

/** Where a file goes that is moved together with others. */
export interface Share {
  /** Of the layout that this is for, merged and whole. */
  readonly fingerprint: string;
  /** In logical order; they cover whole fragments. */
  readonly segments: readonly Segment[];
}

/** What a share moves, over the file's layout; or why it cannot be followed. */
export function followShare(
  share: Share,
  now: ExtentTable,
  sizeBlocks: Blocks,
  longestRun: Blocks,
): FilePlan | Reason {
  if (fingerprint(now) !== share.fingerprint) return 'changed-since-plan';
  const extents = clip(now, sizeBlocks);
  const starts = fragmentStarts(extents);
  const moved: number[] = [];
  let next = 0;
  for (let fragment = 0; fragment < starts.length - 1; fragment++) {
    const first = extents.logical[starts[fragment]];
    while (next < share.segments.length && endOf(share.segments[next]) <= first) next++;
    if (next < share.segments.length && share.segments[next].logical <= first) moved.push(fragment);
  }
  return displace(extents, starts, moved, longestRun);
}

const endOf = ({ logical, length }: Segment): number => logical + length;

/**
 * What puts a file back that has been moved, or as much of it as was: its blocks lie now where the file is to lie again.
 *
 * @param before the layout as it was, merged
 * @param after as it is now: what has not got the place of its segment has its old one still
 */
export function backAgain(segments: readonly Segment[], before: ExtentTable, after: ExtentTable): Segment[] {
  const back: Segment[] = [];
  for (const { donorFd, logical, donor, physical, length } of segments) {
    for (const was of before) {
      const [first, end] = overlap(was, logical, logical + length);
      if (first >= end) continue;
      for (const is of after) {
        const [from, to] = overlap(is, first, end);
        if (from >= to || is.physical - is.logical !== physical - logical) continue;
        back.push({
          donorFd,
          logical: blocks(from),
          donor: blocks(donor + from - logical),
          physical: blocks(was.physical + from - was.logical),
          length: blocks(to - from),
        });
      }
    }
  }
  return back;
}

/** The logical blocks of an extent from one to another. */
const overlap = ({ logical, length }: Extent, from: number, to: number): [number, number] => [
  Math.max(from, logical),
  Math.min(to, logical + length),
];

/** Cuts files into groups of at most so many bytes, in order. A larger file is a group of its own. */
export function* groupsOf<F extends { readonly size: Bytes }>(
  files: Iterable<F>,
  most: number,
): Iterable<F[]> {
  let group: F[] = [];
  let sum = 0;
  for (const file of files) {
    if (group.length > 0 && sum + file.size > most) {
      yield group;
      [group, sum] = [[], 0];
    }
    group.push(file);
    sum += file.size;
  }
  if (group.length > 0) yield group;
}
