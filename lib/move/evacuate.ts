import { fallocate, openTemporary } from '../kernel/allocate.ts';
import { errorCode, isSystemFailure } from '../kernel/errors.ts';
import { fiemap, FIEMAP_FLAG_SYNC } from '../kernel/fiemap.ts';
import { closeFd, inodeFlags, inodeGeneration, O, openAt, openByHandle, statFd } from '../kernel/handle.ts';
import { filesAtOnce } from '../kernel/openFiles.ts';
import { mergeExtents, type ExtentTable } from '../layout/extents.ts';
import { countFragments, fragmentStarts } from '../layout/fragments.ts';
import { blocks, bytes, toBlocks, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import type { Run, Segment } from '../place/assign.ts';
import { placeExactly, type Site } from '../place/exact.ts';
import { FreeMap } from '../place/freeMap.ts';
import type { OwnerMap } from '../place/owners.ts';
import { Refuge } from '../place/refuge.ts';
import { Tokens } from '../place/tokens.ts';
import type { Window } from '../place/window.ts';
import { clip, displace, movedExtents, type FilePlan } from '../plan/plan.ts';
import { immovable } from '../scan/eligibility.ts';
import { nameless, reasonOf } from '../scan/scan.ts';
import { allOf } from './allOf.ts';
import { readingContext, type BatchContext } from './batch.ts';
import type { Outcome } from './candidate.ts';
import { dropCached, putBack, syncAll } from './judge.ts';
import { Leases } from './lease.ts';
import { exchangeAll, type MovingFile } from './pipeline.ts';
import { ReadAhead, readableOf } from './readAhead.ts';

/** Files that are open, and exchanged, at a time. */
const GROUP = filesAtOnce(64);

/** A stretch of the device that nobody but us has anything in. */
export interface Cleared {
  /** What holds it: released when these are closed, after a commit. */
  readonly fds: readonly number[];
  readonly tokens: Tokens;
}

/** Why a window could not be cleared after all. Nothing is held, and every file is where it was or as well off. */
export interface Blocked {
  /** A file that stays where it is. */
  readonly inode?: number;
  /** In words. */
  readonly why: string;
}

export interface Surroundings {
  readonly owners: OwnerMap;
  /** Files that are open for moving already, by inode: opening them again would break their leases. */
  readonly open: ReadonlyMap<number, number>;
  /**
   * Whether a file may go out of the way was judged by its names at this time (milliseconds): one whose inode has changed
   * since may have got another.
   */
  readonly named?: number | undefined;
}

/** A file that has something in the way. */
interface Occupant extends MovingFile {
  segments: readonly Segment[];
  readonly inode: number;
  /** The descriptor is somebody else's. */
  readonly borrowed: boolean;
  /** 0 where nobody wants to know. */
  readonly generation: number;
  readonly size: Bytes;
  readonly sizeBlocks: Blocks;
  /** Merged, and whole. */
  readonly layout: ExtentTable;
  readonly plan: FilePlan;
}

/**
 * Clears a window: moves what files have in it elsewhere, each fragment in one piece, and takes hold of what is free.
 * It goes on file by file, commits before it lets go of any, and puts back what did not come out as well as before.
 *
 * @param least a run of so many blocks in it is good enough
 */
export async function* evacuate(
  window: Window,
  least: number,
  around: Surroundings,
  context: BatchContext,
): AsyncGenerator<Outcome, Cleared | Blocked, void> {
  const { filesystem, dirFd, barrier, searchDepth, reserveShare } = context;
  if (window.extents.length === 0) return claim(window, least, context);
  const refuge = new Refuge(dirFd, filesystem.blockSize, window, reserveShare);
  const plugs: number[] = [];
  const held = () => [...refuge.fds, ...plugs];
  let cleared = false;
  try {
    const lengths = window.extents.map((extent) => extent.length);
    const allocate = () => refuge.allocate(lengths, window.packing.bins);
    const places = await (searchDepth?.raisedDuring(allocate) ?? allocate());
    if (typeof places === 'number') return { why: 'what is in it finds no place elsewhere' };
    const placeOf = new Map(window.extents.map(({ physical }, i) => [physical, places[i]]));
    const inodes = [...new Set(window.extents.map(({ inode }) => inode))];
    for (let from = 0; from < inodes.length; from += GROUP) {
      const group = inodes.slice(from, from + GROUP);
      const blocked = yield* evacuateGroup(group, window, placeOf, around, context);
      if (blocked !== undefined) return blocked;
      // At once, before the kernel puts something there.
      plugs.push(...(await plug(window, held(), context)));
    }
    const [start, end] = [window.start, window.start + window.length];
    const tokens = await Tokens.within(held(), filesystem.blockSize, start, end);
    if (tokens.longestRun < least) {
      const had = tokens.runs.reduce((sum, { length }) => sum + length, 0);
      return {
        why: `of its ${window.length} blocks ${window.length - had} were taken meanwhile, or cannot move`,
      };
    }
    cleared = true;
    around.owners.clear(window.start, window.length);
    return { fds: held(), tokens };
  } finally {
    if (!cleared) {
      // What was vacated may be given to others now, and that the files have left it is on disk.
      await barrier.commit().catch(() => undefined);
      await Promise.all(held().map(closeFd));
    }
  }
}

/** Takes hold of a window that is free already, or of another run that is as long. */
async function claim(
  { length }: Window,
  least: number,
  { dirFd, searchDepth, filesystem: { blockSize } }: BatchContext,
): Promise<Cleared | Blocked> {
  const fd = await openTemporary(dirFd);
  let claimed = false;
  try {
    const allocate = () => fallocate(fd, 0, bytes(0), bytes(length * blockSize));
    await (searchDepth?.raisedDuring(allocate) ?? allocate());
    const tokens = await Tokens.within([fd], blockSize, 0, Infinity);
    claimed = tokens.longestRun >= least;
    return claimed ? { fds: [fd], tokens } : { why: 'what is free was not to be had in one piece' };
  } catch (error) {
    if (!['ENOSPC', 'EDQUOT'].includes(errorCode(error) ?? '')) throw error;
    return { why: 'somebody else took the space' };
  } finally {
    if (!claimed) await closeFd(fd);
  }
}

async function* evacuateGroup(
  inodes: readonly number[],
  window: Window,
  /** By the block that an extent begins with. */
  placeOf: ReadonlyMap<number, Run>,
  { owners, open, named }: Surroundings,
  context: BatchContext,
): AsyncGenerator<Outcome, Blocked | undefined, void> {
  const { barrier, filesystem, pace, budget } = context;
  const { blockSize } = filesystem;
  const files: Occupant[] = [];
  let readAhead: ReadAhead | undefined;
  /** Those that may have been exchanged and are not known to be well. */
  let unjudged: readonly Occupant[] = [];
  using leases = new Leases(() => barrier.commit());
  try {
    const opened = await allOf(
      inodes.map((inode) =>
        openOccupant(inode, { already: open.get(inode), named }, window, leases, context),
      ),
    );
    for (const found of opened) if (typeof found === 'object') files.push(found);
    for (const [i, found] of opened.entries()) {
      if (typeof found === 'string') return { inode: inodes[i], why: found };
      if (found !== undefined) continue;
      for (const extent of window.extents) {
        if (extent.inode === inodes[i]) owners.clear(extent.physical, extent.length);
      }
    }
    for (const file of files) {
      const segments = segmentsFor(file.plan, placeOf);
      if (segments === undefined) {
        // What was known of it was not true any more.
        for (const { logical, physical, length } of file.plan.extents) {
          owners.set({ inode: file.inode, logical, physical, length });
        }
        return { why: 'files in it have changed' };
      }
      file.segments = segments;
    }
    readAhead = new ReadAhead(readableOf(files, blockSize), readingContext(context, files));
    void readAhead.start();
    unjudged = files;
    let before = 0;
    const blocksPerPage = Math.max(1, context.pageSize / blockSize);
    const pipeline = { blockSize, blocksPerPage, barrier, leases, readAhead, pace, signal: budget.signal };
    for await (const step of exchangeAll(files, pipeline)) {
      if ('paused' in step) yield { kind: 'pause', pause: step };
      else {
        const moved = files.reduce((sum, file) => sum + file.moved, 0);
        yield { kind: 'evacuated', path: step.path, moved: blocks(moved - before) };
        before = moved;
      }
    }
    await allOf(files.map((file) => syncAll(file, toBytes(file.sizeBlocks, blockSize))));
    await barrier.commit();
    const verdicts = await allOf(files.map((file) => settle(file, context)));
    unjudged = [];
    const failed = verdicts.findIndex((well) => !well);
    if (budget.signal.aborted) return { why: 'the run was stopped' };
    if (failed !== -1) return { inode: files[failed].inode, why: 'a file in it did not move, or not whole' };
    for (const { inode, plan, segments } of files) {
      for (const extent of movedExtents(plan)) owners.clear(extent.physical, extent.length);
      for (const { logical, physical, length } of segments) owners.set({ inode, logical, physical, length });
    }
    return undefined;
  } finally {
    if (unjudged.length > 0) {
      await barrier.commit().catch(() => undefined);
      await Promise.allSettled(unjudged.map((file) => settle(file, context)));
    }
    await readAhead?.close();
    await leases.settled();
    await Promise.allSettled(files.filter(({ borrowed }) => !borrowed).map(({ fd }) => leases.close(fd)));
  }
}

/**
 * Opens a file that has something in the window.
 *
 * @param already its descriptor, where it is open
 * @param named as {@link Surroundings.named}
 * @returns why it stays, or undefined when it has nothing there after all
 */
async function openOccupant(
  inode: number,
  { already, named = Infinity }: { already: number | undefined; named: number | undefined },
  window: Window,
  leases: Leases,
  { dirFd, filesystem, exclusive, undo }: BatchContext,
): Promise<Occupant | string | undefined> {
  const { blockSize, longestRun } = filesystem;
  let toClose: number | undefined;
  try {
    const found =
      already === undefined ? await openWhatever(dirFd, inode) : { fd: already, executable: false };
    if (found === undefined) return undefined;
    const { fd, executable } = found;
    if (already === undefined) {
      toClose = fd;
      const taken = await leases.take(fd, exclusive || executable ? 'stop' : 'release');
      if (!taken && exclusive) return 'a file in it is open elsewhere';
    }
    const { size, blocks: sectors, ctimeMs } = await statFd(fd);
    if (already === undefined && Number(ctimeMs) >= named)
      return 'a file in it may have got an excluded name';
    const flags = await inodeFlags(fd);
    const facts = { regular: true, size: bytes(Number(size)), hasBlocks: sectors > 0n, flags, swap: false };
    if (immovable(facts) !== undefined) return 'a file in it cannot be moved';
    const all = mergeExtents(await fiemap(fd, blockSize, { flags: FIEMAP_FLAG_SYNC }));
    const sizeBlocks = toBlocks(facts.size, blockSize);
    if (touchesBehind(all, sizeBlocks, window)) return 'a file in it is preallocated beyond its end';
    const extents = clip(all, sizeBlocks);
    const starts = fragmentStarts(extents);
    const fragments = fragmentsWithin(extents, starts, window);
    if (fragments.length === 0) return undefined;
    const generation = undo === undefined ? 0 : await inodeGeneration(fd);
    toClose = undefined;
    return {
      inode,
      borrowed: already !== undefined,
      path: nameless(inode),
      fd,
      generation,
      size: facts.size,
      sizeBlocks,
      layout: all,
      plan: displace(extents, starts, fragments, longestRun),
      segments: [],
      moved: 0,
      error: undefined,
      writeFailed: false,
      stopped: undefined,
      toDrop: [],
    };
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return `a file in it cannot be opened: ${error.message}`;
  } finally {
    if (toClose !== undefined) await leases.close(toClose);
  }
}

/** Opens the regular file that has an inode number now; undefined when none has. */
export async function openWhatever(
  dirFd: number,
  inode: number,
): Promise<{ fd: number; executable: boolean } | undefined> {
  let pathFd: number;
  try {
    pathFd = await openByHandle(dirFd, inode, 0, O.PATH);
  } catch (error) {
    if (reasonOf(error) === 'vanished') return undefined;
    throw error;
  }
  try {
    const stat = await statFd(pathFd);
    if (!stat.isFile()) return undefined;
    const fd = await openAt(pathFd, Buffer.from(`/proc/self/fd/${pathFd}`), O.RDWR | O.NONBLOCK);
    return { fd, executable: (stat.mode & 0o111n) !== 0n };
  } finally {
    await closeFd(pathFd);
  }
}

/** The fragments that touch a window. */
function fragmentsWithin(extents: ExtentTable, starts: Uint32Array, { start, length }: Window): number[] {
  const { physical, length: sizes } = extents;
  const found: number[] = [];
  for (let fragment = 0; fragment < starts.length - 1; fragment++) {
    for (let i = starts[fragment]; i < starts[fragment + 1]; i++) {
      if (physical[i] >= start + length || physical[i] + sizes[i] <= start) continue;
      found.push(fragment);
      break;
    }
  }
  return found;
}

/** Whether anything behind a logical block, which cannot be exchanged, touches a window. */
const touchesBehind = (extents: ExtentTable, behind: Blocks, { start, length }: Window): boolean =>
  extents.end > behind &&
  [...extents].some(
    (extent) =>
      extent.logical + extent.length > behind &&
      extent.physical < start + length &&
      extent.physical + extent.length > start,
  );

/**
 * What a plan moves, exchanged with the places that were found for it; undefined when it is not what was known: places
 * are for whole fragments that are one extent each.
 */
function segmentsFor({ extents, starts, ranges }: FilePlan, placeOf: ReadonlyMap<number, Run>) {
  const segments: Segment[] = [];
  for (const { firstFragment, blocks: length } of ranges) {
    const first = starts[firstFragment];
    const place = placeOf.get(extents.physical[first]);
    if (starts[firstFragment + 1] !== first + 1 || place?.length !== length) return undefined;
    segments.push({
      donorFd: place.donorFd,
      donor: place.start,
      logical: blocks(extents.logical[first]),
      physical: place.physical,
      length,
    });
  }
  return segments;
}

/** @returns whether a file has gone where it should, and is no worse off; if not, it is put back */
async function settle(file: Occupant, context: BatchContext): Promise<boolean> {
  const planned = file.segments.reduce((sum, { length }) => sum + length, 0);
  const layoutNow = async () => mergeExtents(await fiemap(file.fd, context.filesystem.blockSize));
  let layout = await layoutNow();
  const whole = file.error === undefined && file.stopped === undefined && file.moved === planned;
  const well = whole && countFragments(clip(layout, file.sizeBlocks)) <= file.plan.fragmentsBefore;
  if (well) await dropCached(file);
  else if (file.moved > 0) {
    await putBack(file, context);
    layout = await layoutNow();
  }
  if (file.moved > 0)
    context.undo?.moved(file, undefined, { before: file.layout, after: layout, size: file.size });
  return well;
}

/** Takes hold of what is free in a window, beside what is held. @returns the temporary files that have it */
async function plug(
  window: Window,
  fds: readonly number[],
  { dirFd, filesystem, barrier, pageSize, reserveShare }: BatchContext,
): Promise<readonly number[]> {
  const { blockSize, geometry } = filesystem;
  const [start, end] = [blocks(window.start), blocks(window.start + window.length)];
  const free = await FreeMap.read(dirFd, blockSize, geometry, start, end);
  if (free.count === 0) return [];
  const { pieces } = await Tokens.within(fds, blockSize, start, end);
  const endingAt = new Map(pieces.map((piece) => [piece.physical + piece.length, piece]));
  const startingAt = new Map(pieces.map((piece) => [piece.physical as number, piece]));
  const sites: Site[] = [];
  for (const run of free.runs()) {
    const before = endingAt.get(run.start);
    const behind = startingAt.get(run.start + run.length);
    if (before !== undefined) {
      const logical = blocks(before.start + before.length - 1);
      sites.push({ ...run, before: { fd: before.donorFd, logical } });
    } else if (behind !== undefined) {
      sites.push({ ...run, behind: { fd: behind.donorFd, logical: behind.start } });
    }
  }
  const blocksPerPage = Math.max(1, pageSize / blockSize);
  const options = { blockSize, blocksPerPage, commit: () => barrier.commit(), geometry, reserveShare };
  const { files } = await placeExactly(dirFd, sites, options);
  return files;
}
