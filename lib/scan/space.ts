import type { FileLayout } from '../ext4/files.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd, statFilesystem } from '../kernel/handle.ts';
import { pageSize } from '../kernel/page.ts';
import { countFragments, idealFragments } from '../layout/fragments.ts';
import { blocks, toBytes, type Blocks } from '../layout/units.ts';
import { Barrier } from '../move/barrier.ts';
import { reserveOf, spendableOf } from '../place/donors.ts';
import { FreeMap } from '../place/freeMap.ts';
import { named, type LargestFileEvent, type SpaceReportEvent } from '../report/events.ts';
import { ClearableWindows, runsToMake } from './clearable.ts';
import { sysfsBlocks, type Filesystem } from './filesystem.ts';
import { fewestPieces, freeSpaceOf } from './freeSpace.ts';
import { Scanner, type ScannedFile } from './scan.ts';
import { eachOpened, listOf, Tally, type TargetPath } from './session.ts';
import { TableScan } from './tableScan.ts';
import { openWhole, type Target } from './targets.ts';

/** What {@link space} can be told. */
export interface SpaceOptions {
  /** Ends the run before the next target. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Says what free space the filesystem of each target has, in what pieces, and what they would do for its largest file;
 * and what could be cleared; each filesystem once, whatever part of it is named. It changes nothing, but has the journal committed: what is being
 * freed is free afterwards. Takes no privilege; what only the device tells is left out with the reason where it cannot
 * be read. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a target is an event
 */
export async function* space(
  targets: Iterable<TargetPath>,
  options: SpaceOptions = {},
): AsyncGenerator<SpaceReportEvent, void, void> {
  const tally = new Tally();
  const seen = new Set<string>();
  const sum = { filesystems: 0, bytes: 0, runs: 0, spendable: 0, largestRun: 0 };
  yield* eachOpened(listOf(targets), options.signal, tally, async function* (target) {
    const { id } = target.filesystem;
    if (seen.has(id)) return;
    seen.add(id);
    for await (const event of spaceOf(target, options, tally)) {
      if (event.type === 'space') {
        sum.filesystems++;
        for (const key of ['bytes', 'runs', 'spendable'] as const) sum[key] += event[key];
        sum.largestRun = Math.max(sum.largestRun, event.largestRun);
      }
      yield event;
    }
  });
  yield {
    type: 'summary',
    command: 'space',
    ...sum,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted: options.signal?.aborted ?? false,
    seconds: tally.seconds,
  };
}

type Events<T = void> = AsyncGenerator<SpaceReportEvent, T, void>;

async function* spaceOf(target: Target, options: SpaceOptions, tally: Tally): Events {
  // Before the group descriptors are read, so that they and the bitmaps are of one time.
  await settle(target);
  const whole = await openWhole(target);
  if (typeof whole === 'string') {
    yield* freeRoom(target, whole, options);
    return;
  }
  try {
    yield* spaceOfWhole(whole, options, tally);
  } finally {
    if (whole.dirFd !== target.dirFd) await closeFd(whole.dirFd);
  }
}

async function* spaceOfWhole(whole: Target, options: SpaceOptions, tally: Tally): Events {
  const tables = await TableScan.openWhole(whole, new Scanner({}, false), options);
  if (typeof tables === 'string') {
    yield* freeRoom(whole, tables, options);
    return;
  }
  try {
    const room = yield* freeRoom(whole, tables, options);
    yield* surveyFiles(whole, tables, room, options, tally);
  } finally {
    await tables.close();
  }
}

/**
 * Has the journal committed, so that what is being freed becomes free. Where that is not allowed, before Linux 6.12 to
 * those who may not write to the directory, what is not committed counts as held back.
 */
export async function settle({ dirFd, filesystem }: Target): Promise<void> {
  try {
    const barrier = await Barrier.open(dirFd, filesystem.kernel);
    await barrier.commit().finally(() => barrier.close());
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
  }
}

/** Free space, as something to move files to. */
interface Room {
  readonly map: FreeMap;
  readonly spendable: Blocks;
}

/** @param tables of the whole filesystem, or why they cannot be read */
async function* freeRoom(target: Target, tables: TableScan | string, { signal }: SpaceOptions): Events<Room> {
  const { filesystem, dirFd } = target;
  const { blockSize, geometry } = filesystem;
  const map = await FreeMap.read(dirFd, blockSize, geometry);
  const statistics = await statFilesystem(dirFd);
  const spendable = spendableOf(statistics);
  const promised = await promisedBlocks(filesystem);
  const held =
    typeof tables === 'string'
      ? heldBackByCounters(statistics.free, promised, map)
      : await tables.heldBack(map);
  const inBytes = (count: Blocks) => toBytes(count, blockSize);
  if (!signal?.aborted) {
    yield {
      type: 'space',
      ...named(target.argument),
      device: filesystem.device,
      mountPoint: filesystem.mountPoint.toString(),
      blockSize,
      ...freeSpaceOf(map, blockSize),
      reserve: inBytes(reserveOf(statistics)),
      spendable: inBytes(spendable),
      largestAllocation: inBytes(map.longestPiece),
      ...(held !== undefined && { heldBack: inBytes(held) }),
      ...(promised !== undefined && { promised: inBytes(promised) }),
      ...(typeof tables === 'string' && { unreadable: tables }),
    };
  }
  return { map, spendable };
}

/** What is promised to delayed allocation; undefined where sysfs does not tell. */
const promisedBlocks = (filesystem: Filesystem): Promise<Blocks | undefined> =>
  sysfsBlocks(filesystem, 'delayed_allocation_blocks');

/**
 * What is held back, without the bitmaps: statfs(2) calls free what is free in them less what is promised (fs/ext4/super.c,
 * ext4_statfs). The numbers are not of one moment.
 */
function heldBackByCounters(free: Blocks, promised: Blocks | undefined, map: FreeMap): Blocks | undefined {
  return promised === undefined ? undefined : blocks(Math.max(0, free + promised - map.freeBlocks));
}

/** Goes over all files, for the largest and for what could be cleared. */
async function* surveyFiles(
  whole: Target,
  tables: TableScan,
  room: Room,
  options: SpaceOptions,
  tally: Tally,
): Events {
  const { blockSize, longestRun } = whole.filesystem;
  const clearable = (await canClear(whole, room))
    ? new ClearableWindows(tables.blocksCount, blockSize)
    : undefined;
  let largest: FileLayout | undefined;
  let fragmentedFiles = 0;
  for await (const { files, done, total } of tables.unconfirmed(clearable?.visit)) {
    for (let row = 0; row < files.count; row++) {
      if (files.fragments[row] > idealFragments(blocks(files.blocks[row]), longestRun)) fragmentedFiles++;
      if (files.blocks[row] > (largest?.blocks ?? 0)) largest = files.at(row);
    }
    clearable?.addFiles(files);
    tally.files += files.count;
    yield {
      type: 'scanning',
      inodes: done,
      inodesTotal: total,
      files: tally.files,
      fragmentedFiles,
      seconds: tally.seconds,
    };
  }
  if (largest !== undefined) yield* largestFile(largest, whole, tables, room, tally);
  if (clearable === undefined || options.signal?.aborted) return;
  const windows = clearable.windows(room.map, room.spendable);
  yield { type: 'windows', ...named(whole.argument), windows };
}

/** Whether files could be moved out of the way of a run that is longer than all there are. */
async function canClear({ filesystem: { blockSize } }: Target, { map, spendable }: Room): Promise<boolean> {
  // Where several blocks share a page, not every place fits every block.
  return runsToMake(map, spendable, blockSize).length > 0 && blockSize === (await pageSize());
}

async function* largestFile(
  { inode, generation }: FileLayout,
  whole: Target,
  tables: TableScan,
  room: Room,
  tally: Tally,
): Events {
  const names = await tables.namesOf([inode]);
  for await (const { item } of tables.inspect([{ inode, generation }])) {
    const path = names.pathOf(whole, inode);
    if (item.kind === 'skip') yield tally.skip(path, item.reason);
    else if (item.kind === 'failed') yield tally.fail(path, item.error);
    else yield describe(item, path, room);
  }
}

function describe({ extents, inode, target }: ScannedFile, path: Buffer, room: Room): LargestFileEvent {
  const { blockSize, longestRun } = target.filesystem;
  const { map, spendable } = room;
  const pieces = extents.blocks <= spendable ? fewestPieces(map, extents.blocks) : undefined;
  return {
    type: 'largestFile',
    ...named(path),
    inode,
    bytes: toBytes(extents.blocks, blockSize),
    fragments: countFragments(extents),
    idealFragments: idealFragments(extents.blocks, longestRun),
    pieces: pieces ?? null,
    largestPiece: toBytes(blocks(Math.min(map.longestRun, extents.blocks, spendable)), blockSize),
  };
}
