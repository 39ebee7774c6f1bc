import { allocateBeside, FALLOC, fallocate, openDirectTemporary } from '../kernel/allocate.ts';
import { errorCode } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { fsmap } from '../kernel/fsmap.ts';
import { closeFd, truncateFd } from '../kernel/handle.ts';
import { mergeExtents, type Extent } from '../layout/extents.ts';
import { blocks, bytes, type Blocks, type Bytes } from '../layout/units.ts';
import { exchange } from '../move/exchange.ts';
import type { Run } from './assign.ts';
import { LONGEST_UNWRITTEN, spendableBlocks } from './donors.ts';
import { usualGeometry, type FreeRun, type Geometry } from './freeMap.ts';

const MiB = 1024 * 1024;

/** A block of a file that is open for reading and writing. */
export interface FileBlock {
  readonly fd: number;
  readonly logical: Blocks;
}

/**
 * Free blocks that are wanted, and what has the block beside them: `before` has block `start - 1`, `behind` has block
 * `start + length`. That block is borrowed for a moment and given back.
 */
export type Site = FreeRun & ({ readonly before: FileBlock } | { readonly behind: FileBlock });

export interface ExactOptions {
  readonly blockSize: Bytes;
  readonly blocksPerPage: number;
  /** Commits the journal: what was given back, or freed, is so only then. */
  readonly commit: () => Promise<void>;
  /** What mke2fs makes, unless said otherwise. */
  readonly geometry?: Geometry;
  /** Of the filesystem, that stays free, as {@link spendableBlocks} has it. */
  readonly reserveShare?: number;
  /** Told of each borrowed block that could not be given back: it lies elsewhere now, its content is whole. */
  readonly notGivenBack?: (block: FileBlock) => void;
}

/** What {@link placeExactly} got. */
export interface ExactPlacement {
  /** The temporary files that hold all of it, for the caller to close. */
  readonly files: readonly number[];
  /** For each site the blocks of it that are held, in the order of the device; in one run when all went well. */
  readonly got: readonly (readonly Run[])[];
  /** What is held besides: blocks that landed elsewhere, and those that stood in for borrowed ones. */
  readonly elsewhere: readonly Run[];
  /** For each site that is not held whole, why. */
  readonly why: ReadonlyMap<Site, string>;
}

/**
 * Sites in which a stand-in landed are tried again beside it. Each round leaves fewer of them: it takes a block of each.
 */
const ROUNDS = 6;

/**
 * Allocates blocks at places of one's choice, which no system call does. The block beside the place is exchanged into a
 * temporary file, one logical block before (or behind) a hole; what is allocated in the hole then goes beside it, since
 * that is where the allocator tries first. Works also for runs longer than one allocation, window by window.
 *
 * Where the neighbour's file is somebody's and not one of ours, the caller holds its lease, and commits before it closes
 * the temporary files.
 *
 * @param dirFd a directory where temporary files can be made
 * @param sites disjoint, and free when asked; what is not any more is not got
 * @throws a system error; nothing is held then, and what was borrowed is given back as far as possible
 */
export async function placeExactly(
  dirFd: number,
  sites: readonly Site[],
  options: ExactOptions,
): Promise<ExactPlacement> {
  const files: number[] = [];
  const round: Round = { dirFd, files, why: new Map(), sites, ...withDefaults(options) };
  try {
    let left = sites.map((site): Wanted => ({ site, part: site }));
    for (let i = 0; i < ROUNDS && left.length > 0; i++) left = await placeRound(left, i > 0, round);
    for (const { site } of left) round.why.set(site, 'the allocator gave its blocks away');
    const { got, elsewhere } = byStretch(await held(files, options.blockSize), sites);
    for (const [i, site] of sites.entries()) {
      if (got[i].reduce((sum, { length }) => sum + length, 0) === site.length) round.why.delete(site);
      else if (!round.why.has(site)) round.why.set(site, NOT_BESIDE);
    }
    return { files, got, elsewhere, why: round.why };
  } catch (error) {
    // Blocks that were somebody's must not be given to others before that is on disk.
    await options.commit().catch(() => undefined);
    await Promise.all(files.map(closeFd));
    throw error;
  }
}

const NOT_BESIDE = 'not all of it is free, or the allocator does not take it';

interface Round extends Required<Omit<ExactOptions, 'reserveShare'>> {
  readonly dirFd: number;
  readonly files: number[];
  readonly why: Map<Site, string>;
  readonly sites: readonly Site[];
  readonly reserveShare: number | undefined;
}

const withDefaults = ({ geometry, notGivenBack, reserveShare, ...options }: ExactOptions) => ({
  ...options,
  geometry: geometry ?? usualGeometry(options.blockSize),
  notGivenBack: notGivenBack ?? (() => undefined),
  reserveShare,
});

/** A site, and what is still to be got of it. */
interface Wanted {
  readonly site: Site;
  readonly part: Site;
}

interface Slotted extends Wanted {
  readonly slot: Slot;
}

/** @returns what is to be tried again */
async function placeRound(wanted: readonly Wanted[], again: boolean, round: Round): Promise<Wanted[]> {
  const { dirFd, blockSize, why, reserveShare } = round;
  const room = { blocks: (await spendableBlocks(dirFd, reserveShare)) as number, extents: 0 };
  const filesOf: Slotted[][] = [];
  // The long ones first: where the stand-ins of others come they would be cut. So few of them, and of those that failed,
  // come into a file that their stand-ins are from elsewhere.
  const isShy = ({ length }: Site) => (again && wanted.length <= FEW) || length > windowBlocks(blockSize);
  let shy = true;
  for (const { site, part } of wanted.toSorted((a, b) => b.part.length - a.part.length)) {
    const extents = extentsOf(part.length);
    const isFull = shy && standInsOf(filesOf.at(-1) ?? []).length + 2 > MOST_SHIFTED;
    if (extents > room.extents || isFull || shy !== isShy(part)) {
      filesOf.push([]);
      room.extents = leafExtents(blockSize) - DUMMIES.length;
    }
    shy = isShy(part);
    const file = filesOf[filesOf.length - 1];
    const slot = slotFor(part, file.at(-1)?.slot.end ?? FIRST_SLOT, round);
    if (typeof slot === 'string') why.set(site, slot);
    else if (part.length + slot.standIns.length + DUMMIES.length > room.blocks) why.set(site, AT_RESERVE);
    else {
      room.blocks -= part.length + slot.standIns.length + (file.length === 0 ? DUMMIES.length : 0);
      room.extents -= extents;
      file.push({ site, part, slot });
    }
  }
  const left: Wanted[] = [];
  for (const slots of filesOf) {
    if (slots.length > 0) left.push(...(await placeInFile(slots, round)));
  }
  return left;
}

/** Sites that may have a file for two or three of them. */
const FEW = 32;

const standInsOf = (slots: readonly Slotted[]): Blocks[] => slots.flatMap(({ slot }) => slot.standIns);

const AT_RESERVE = 'free space is at its reserve';

/** @returns what is to be tried again */
async function placeInFile(slots: readonly Slotted[], round: Round): Promise<Wanted[]> {
  const { dirFd, blockSize, files } = round;
  const extents = slots.reduce((sum, { part }) => sum + extentsOf(part.length), 0);
  const fd = await (extents > INODE_EXTENTS
    ? openWithLeaf(slots, round)
    : openForGrowth(dirFd, slots[slots.length - 1].slot.end, blockSize));
  if (fd === undefined) {
    // One site's extents fit into an inode, so that there is no leaf.
    const again: Wanted[] = [];
    for (const slot of slots) again.push(...(await placeInFile([slot], round)));
    return again;
  }
  files.push(fd);
  await allocateStandIns(fd, standInsOf(slots), slots[slots.length - 1].slot.end, blockSize);
  const standIns = [...mergeExtents(await fiemap(fd, blockSize))];
  const again: Wanted[] = [];
  for (const { site, part, slot } of slots) {
    const rest = partsWithout(part, standIns, fd);
    if (rest !== undefined) {
      again.push(...rest.map((piece) => ({ site, part: piece })));
    } else {
      await placeOne(fd, part, slot, round);
    }
  }
  return again;
}

/** Extents that an inode holds itself, in i_block. */
const INODE_EXTENTS = 4;
/** So many that they do not fit into the inode, with holes between them. */
const DUMMIES = [0, 2, 4, 6, 8];
/** Logical block behind them. */
export const FIRST_SLOT = 10;

/** Logical blocks below which those of a file come near its inode: mb_stream_req of ext4's sysfs, which is 16. */
const SMALL = 16;

/** Stand-ins that fit there. */
const MOST_SHIFTED = SMALL - FIRST_SLOT;

/**
 * Allocates single blocks. Those of a large file come where somebody else was last (fs/ext4/mballoc.c,
 * EXT4_MB_STREAM_ALLOC), and that may be in the very sites that they are for. So a few are allocated while the file is
 * small, and shifted to where they belong.
 *
 * @param size of the file when it is done, in blocks
 */
async function allocateStandIns(fd: number, standIns: readonly Blocks[], size: number, blockSize: Bytes) {
  if (standIns.length > MOST_SHIFTED) {
    for (const logical of standIns) await allocateAt(fd, logical, 1, blockSize);
    return;
  }
  await truncateFd(fd, FIRST_SLOT * blockSize);
  await allocateAt(fd, FIRST_SLOT, standIns.length, blockSize);
  let at = FIRST_SLOT;
  for (const logical of standIns.toSorted((a, b) => a - b)) {
    if (logical > at) {
      const range = [bytes(at * blockSize), bytes((logical - at) * blockSize)] as const;
      await fallocate(fd, FALLOC.INSERT_RANGE, ...range);
    }
    at = logical + 1;
  }
  await setSize(fd, size, blockSize);
}

/** Of a file shorter than two windows the allocator takes smaller ones. */
const setSize = (fd: number, size: number, blockSize: Bytes): Promise<void> =>
  truncateFd(fd, Math.max(size * blockSize, 16 * MiB));

/** A temporary file with so many blocks in its size, none of them allocated. */
export async function openForGrowth(dirFd: number, size: number, blockSize: Bytes): Promise<number> {
  const fd = await openDirectTemporary(dirFd);
  try {
    await setSize(fd, size, blockSize);
    return fd;
  } catch (error) {
    await closeFd(fd);
    throw error;
  }
}

/** Extents that a block of an extent tree holds: struct ext4_extent is as long as the header and the checksum. */
const leafExtents = (blockSize: Bytes): number => Math.floor(blockSize / 12) - 2;

/** Extents that a site makes at most: its own, one for each stand-in, and one while a block is borrowed. */
const extentsOf = (length: number): number => 3 + Math.ceil(length / LONGEST_UNWRITTEN);

/**
 * Makes the kernel allocate a leaf for the file's extent tree now, and not in the middle of a run that is being
 * allocated: it puts it beside what the file's next blocks are. A leaf is enough for what goes into one file.
 */
export async function makeLeaf(fd: number, blockSize: Bytes): Promise<void> {
  for (const logical of DUMMIES) await allocateAt(fd, logical, 1, blockSize);
}

/** Files that are tried until one's leaf is in nobody's way. */
const LEAF_TRIES = 4;
/** Blocks that the first of them allocates at once, the next twice as many: so that the leaf comes into another group. */
const LEAF_ROOM = 64;

/**
 * A temporary file with a leaf that is not in a site: what is there cannot be got while the file is open. For a single
 * block the allocator likes small holes best, which the sites may be all of.
 *
 * @returns undefined when it always is, and the sites can have files of their own
 */
async function openWithLeaf(
  slots: readonly Slotted[],
  { dirFd, blockSize, commit, reserveShare, sites }: Round,
): Promise<number | undefined> {
  const separable = slots.length > 1 && slots.every(({ part }) => extentsOf(part.length) <= INODE_EXTENTS);
  const inOrder = sites.toSorted((a, b) => a.start - b.start);
  const size = slots[slots.length - 1].slot.end;
  const before = await freeWithin(inOrder, dirFd, blockSize);
  const files: number[] = [];
  try {
    for (let room = LEAF_ROOM; ; room *= 2) {
      const fd = await openForGrowth(dirFd, size, blockSize);
      files.push(fd);
      if (room <= (await spendableBlocks(dirFd, reserveShare))) await allocateAt(fd, 0, room, blockSize);
      await makeLeaf(fd, blockSize);
      for (const logical of DUMMIES) await freeAt(fd, logical + 1, 1, blockSize);
      await freeAt(fd, FIRST_SLOT, room, blockSize);
      const inTheWay = (await freeWithin(inOrder, dirFd, blockSize)) < before;
      // The others keep their places taken until one has another.
      if (!inTheWay) return files.pop();
      if (files.length === LEAF_TRIES) return separable ? undefined : files.pop();
    }
  } finally {
    await Promise.all(files.map(closeFd));
    // What they had can be allocated when that is committed.
    if (files.length > 0) await commit();
  }
}

/** How many blocks of some stretches are free, which are in the order of the device. */
async function freeWithin(stretches: readonly FreeRun[], dirFd: number, blockSize: Bytes): Promise<number> {
  const last = stretches[stretches.length - 1];
  const records = await fsmap(dirFd, blockSize, stretches[0].start, blocks(last.start + last.length));
  let free = 0;
  let next = 0;
  for (const { start, length, use } of records) {
    if (use !== 'free') continue;
    while (next < stretches.length && stretches[next].start + stretches[next].length <= start) next++;
    for (let i = next; i < stretches.length && stretches[i].start < start + length; i++) {
      const [from, to] = [stretches[i].start, stretches[i].start + stretches[i].length];
      free += Math.min(to, start + length) - Math.max(from, start);
    }
  }
  return free;
}

async function placeOne(
  fd: number,
  part: Site,
  slot: Slot,
  { blockSize, notGivenBack }: Round,
): Promise<void> {
  const { owner, physical } = neighbourOf(part);
  const standIn = [...(await mapped(fd, slot.anchor, 1, blockSize))].at(0)?.physical;
  if (standIn === undefined) return;
  const swap = async (at: Blocks) => {
    const segment = {
      donorFd: fd,
      logical: owner.logical,
      donor: slot.anchor,
      physical: at,
      length: blocks(1),
    };
    return (await exchange(owner.fd, segment, blockSize)).moved === 1;
  };
  if (!(await swap(standIn))) return;
  try {
    if ('before' in part) await growForward(fd, slot.logical, part, blockSize);
    else await growBackward(fd, slot.logical, part, blockSize);
  } catch (error) {
    // Somebody else took the space.
    if (!['ENOSPC', 'EDQUOT'].includes(errorCode(error) ?? '')) throw error;
  } finally {
    if (!(await swap(physical))) notGivenBack(owner);
  }
}

const neighbourOf = (site: Site): { owner: FileBlock; physical: Blocks } =>
  'before' in site
    ? { owner: site.before, physical: blocks(site.start - 1) }
    : { owner: site.behind, physical: blocks(site.start + site.length) };

/** What is left of a site between blocks that landed in it, or undefined when none did. */
function partsWithout(part: Site, standIns: readonly Extent[], fd: number): Site[] | undefined {
  const end = part.start + part.length;
  const inside: { physical: number; logical: number }[] = [];
  for (const { logical, physical, length } of standIns) {
    for (let i = 0; i < length; i++) {
      if (physical + i >= part.start && physical + i < end)
        inside.push({ physical: physical + i, logical: logical + i });
    }
  }
  if (inside.length === 0) return undefined;
  inside.sort((a, b) => a.physical - b.physical);
  const rest: Site[] = [];
  const add = (start: number, stop: number, neighbour: { before: FileBlock } | { behind: FileBlock }) => {
    if (stop > start) rest.push({ start: blocks(start), length: blocks(stop - start), ...neighbour });
  };
  const blockOf = ({ logical }: { logical: number }): FileBlock => ({ fd, logical: blocks(logical) });
  if ('before' in part) {
    add(part.start, inside[0].physical, { before: part.before });
    for (const [i, block] of inside.entries()) {
      add(block.physical + 1, inside.at(i + 1)?.physical ?? end, { before: blockOf(block) });
    }
  } else {
    for (const [i, block] of inside.entries()) {
      add(i === 0 ? part.start : inside[i - 1].physical + 1, block.physical, { behind: blockOf(block) });
    }
    add(inside[inside.length - 1].physical + 1, end, { behind: part.behind });
  }
  return rest;
}

/** Where a site's blocks come in the temporary file. */
export interface Slot {
  /** The logical block of the site's first. */
  readonly logical: Blocks;
  /** Where the borrowed block comes. */
  readonly anchor: Blocks;
  /** Blocks to allocate first: the one that is given for it, and, where the request must be cut off, one behind. */
  readonly standIns: readonly Blocks[];
  /** The next free logical block. */
  readonly end: number;
}

/**
 * Blocks of a request at most that the allocator puts beside its neighbour: it makes of any a window of the file, aligned
 * to this length and cut off at what is mapped in it (fs/ext4/mballoc.c, ext4_mb_normalize_request; the same for blocks
 * of 1, 2 and 4 KiB in files of more than 8 MiB).
 */
export const windowBlocks = (blockSize: Bytes): number => Math.min(2048, (8 * MiB) / blockSize);

/**
 * Chooses logical blocks for a site so that the windows of the file come out right: none may go over the border of two
 * block groups, and the last (with the neighbour behind, the first) must end where the site does. Pure.
 *
 * @param from the first free logical block
 * @returns or why it is not possible
 */
export function slotFor(
  site: Site,
  from: number,
  { geometry, blockSize, blocksPerPage }: Pick<Round, 'geometry' | 'blockSize' | 'blocksPerPage'>,
): Slot | string {
  const window = windowBlocks(blockSize);
  const up = (value: number) => Math.ceil(value / window) * window;
  // A block between this and what comes before stays a hole, or it would be taken for the neighbour.
  const base = up(from + 1);
  const inGroup = site.start - geometry.firstDataBlock;
  const crosses =
    Math.floor(inGroup / geometry.blocksPerGroup) !==
    Math.floor((inGroup + site.length - 1) / geometry.blocksPerGroup);
  if (crosses && geometry.blocksPerGroup % window !== 0) {
    return 'it goes over the border of block groups of an unusual size';
  }
  const phase = crosses ? inGroup % window : 0;
  const remainder = (logical: number) => modulo(logical, blocksPerPage);
  const end = (last: number) => up(last + 1);
  if ('behind' in site) {
    if (phase !== 0)
      return 'it goes over the border of block groups, and only the block behind it can be had';
    const anchor = base + site.length;
    if (remainder(anchor) !== remainder(site.behind.logical)) return NOT_CONGRUENT;
    return {
      logical: blocks(base),
      anchor: blocks(anchor),
      standIns: [blocks(anchor)],
      end: end(anchor),
    };
  }
  // Within a group it ends with a window, so that nothing has to be allocated behind it.
  let logical = crosses ? base + window + phase : base + window + up(site.length) - site.length;
  const off = modulo(logical - 1 - site.before.logical, blocksPerPage);
  if (off !== 0) {
    if (crosses) return NOT_CONGRUENT;
    logical -= off;
  }
  const behind = logical + site.length;
  const anchor = blocks(logical - 1);
  return {
    logical: blocks(logical),
    anchor,
    standIns: behind % window === 0 ? [anchor] : [anchor, blocks(behind)],
    end: end(behind),
  };
}

const NOT_CONGRUENT =
  'blocks are smaller than pages, and its neighbour lies at another place in its page than the kernel exchanges';

const modulo = (value: number, divisor: number): number => ((value % divisor) + divisor) % divisor;

/**
 * Allocates a hole of a temporary file, each window behind the one before, the first behind the block mapped before the
 * hole. It ends where something does not come to lie as it should; what has been allocated stays.
 *
 * @param fd opened by openDirectTemporary, its size beyond the hole
 * @param logical the hole's first block
 * @param run where it should come to lie
 * @returns how many blocks do, in whole windows
 * @throws a system error ENOSPC, EDQUOT
 */
export async function growForward(
  fd: number,
  logical: Blocks,
  run: FreeRun,
  blockSize: Bytes,
): Promise<Blocks> {
  const window = windowBlocks(blockSize);
  const end = logical + run.length;
  const windows: Window[] = [];
  for (let from = logical as number, to; from < end; from = to) {
    to = Math.min(end, (Math.floor(from / window) + 1) * window);
    windows.push({ from, to, physical: run.start + from - logical });
  }
  return fillWindows(fd, windows, blockSize);
}

/**
 * As {@link growForward}, from the block mapped behind the hole towards its beginning, which must be a window's.
 *
 * @returns how many blocks, counted from the end
 */
export async function growBackward(
  fd: number,
  logical: Blocks,
  run: FreeRun,
  blockSize: Bytes,
): Promise<Blocks> {
  const window = windowBlocks(blockSize);
  const windows: Window[] = [];
  for (let to = logical + run.length, from; to > logical; to = from) {
    from = (Math.ceil(to / window) - 1) * window;
    windows.push({ from, to, physical: run.start + from - logical });
  }
  return fillWindows(fd, windows, blockSize);
}

/** A part of a hole that one request of the allocator fills, and where it should come to lie. */
interface Window {
  readonly from: number;
  readonly to: number;
  readonly physical: number;
}

/** So many windows at most are filled before it is looked where they lie: where one went right, the next ones mostly do. */
const UNSEEN = 8;

/** Fills windows that follow each other, upwards or downwards. @returns how many blocks of them lie right */
async function fillWindows(fd: number, windows: readonly Window[], blockSize: Bytes): Promise<Blocks> {
  let right = 0;
  for (let i = 0, count = 1; i < windows.length; i += count, count = Math.min(2 * count, UNSEEN)) {
    const some = windows.slice(i, i + count);
    for (const { from, to, physical } of some) {
      // The first block comes beside its neighbour, and draws the rest. Where it does not, nothing of the hole would.
      await allocateBeside(fd, bytes(from * blockSize));
      if (i === 0 && !(await liesAt(fd, from, 1, physical, blockSize))) return blocks(0);
      if (to > from + 1) await allocateAt(fd, from + 1, to - from - 1, blockSize);
    }
    const [low, high] =
      some[0].from <= some[some.length - 1].from ? [some[0], some.at(-1)!] : [some.at(-1)!, some[0]];
    if (await liesAt(fd, low.from, high.to - low.from, low.physical, blockSize)) {
      right += high.to - low.from;
      continue;
    }
    for (const { from, to, physical } of some) {
      if (!(await liesAt(fd, from, to - from, physical, blockSize))) return blocks(right);
      right += to - from;
    }
  }
  return blocks(right);
}

/** Whether so many blocks from `logical` on are mapped, in one run from `physical` on. */
export async function liesAt(
  fd: number,
  logical: number,
  length: number,
  physical: number,
  blockSize: Bytes,
): Promise<boolean> {
  const [first, ...others] = await mapped(fd, logical, length, blockSize);
  const isWhole = others.length === 0 && first?.logical === logical && first.length === length;
  return isWhole && first.physical === physical;
}

/** What is mapped of so many blocks from `logical` on. */
export async function mapped(
  fd: number,
  logical: number,
  length: number,
  blockSize: Bytes,
): Promise<FreeExtent[]> {
  const range = { start: bytes(logical * blockSize), length: bytes(length * blockSize) };
  const found: FreeExtent[] = [];
  for (const extent of mergeExtents(await fiemap(fd, blockSize, range))) {
    // FIEMAP answers whole extents.
    const start = Math.max(logical, extent.logical);
    const end = Math.min(logical + length, extent.logical + extent.length);
    if (start >= end) continue;
    found.push({
      logical: start,
      physical: blocks(extent.physical + start - extent.logical),
      length: end - start,
    });
  }
  return found;
}

export interface FreeExtent {
  readonly logical: number;
  readonly physical: Blocks;
  readonly length: number;
}

/** Frees so many blocks of a file from `logical` on. */
export const freeAt = (fd: number, logical: number, length: number, blockSize: Bytes): Promise<void> =>
  fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, bytes(logical * blockSize), bytes(length * blockSize));

const allocateAt = (fd: number, logical: number, length: number, blockSize: Bytes): Promise<void> =>
  fallocate(fd, 0, bytes(logical * blockSize), bytes(length * blockSize));

/** All that temporary files hold, in the order of the device. */
async function held(files: readonly number[], blockSize: Bytes): Promise<Run[]> {
  const runs: Run[] = [];
  for (const donorFd of files) {
    for (const { logical, physical, length } of mergeExtents(await fiemap(donorFd, blockSize))) {
      runs.push({ donorFd, start: logical, physical, length });
    }
  }
  return runs.sort((a, b) => a.physical - b.physical);
}

/**
 * Which runs lie in which of some disjoint stretches, and what lies in none. Pure.
 *
 * @param runs in the order of the device
 */
export function byStretch(
  runs: readonly Run[],
  stretches: readonly FreeRun[],
): { got: Run[][]; elsewhere: Run[] } {
  const got = stretches.map((): Run[] => []);
  const elsewhere: Run[] = [];
  const inOrder = [...stretches.keys()].sort((a, b) => stretches[a].start - stretches[b].start);
  let next = 0;
  for (const run of runs) {
    const end = run.physical + run.length;
    let at = run.physical as number;
    const take = (stop: number, into: Run[]) => {
      if (stop <= at) return;
      const { donorFd, start, physical } = run;
      into.push({
        donorFd,
        start: blocks(start + at - physical),
        physical: blocks(at),
        length: blocks(stop - at),
      });
      at = stop;
    };
    for (; next < inOrder.length && at < end; next++) {
      const { start, length } = stretches[inOrder[next]];
      take(Math.min(end, start), elsewhere);
      if (at < start) break;
      take(Math.min(end, start + length), got[inOrder[next]]);
      // The next run may go on in the same stretch.
      if (at < start + length) break;
    }
    take(end, elsewhere);
  }
  return { got, elsewhere };
}
