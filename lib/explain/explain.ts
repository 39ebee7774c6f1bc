import { access, constants } from 'node:fs/promises';
import { errorCode } from '../kernel/errors.ts';
import { AT_FDCWD, closeFd, inodeFlags, O, openAt, statFd, statFilesystem } from '../kernel/handle.ts';
import { EXTENT_FLAG } from '../layout/extents.ts';
import { fragmentStarts, idealFragments } from '../layout/fragments.ts';
import { readSeconds } from '../layout/readCost.ts';
import { e4defragScore } from '../layout/score.ts';
import { bytes, toBlocks, toBytes } from '../layout/units.ts';
import { planFile, type FilePlan } from '../plan/plan.ts';
import { describePlan } from '../plan/planTargets.ts';
import { choose } from '../place/choice.ts';
import { spendableOf } from '../place/donors.ts';
import { FreeMap } from '../place/freeMap.ts';
import {
  named,
  type ExplainedMove,
  type ExplainEvent,
  type ExplainingEvent,
  type Obstacle,
} from '../report/events.ts';
import { immovableReasons } from '../scan/eligibility.ts';
import { UnsupportedTarget } from '../scan/filesystem.ts';
import { Scanner, type ScannedFile } from '../scan/scan.ts';
import {
  deviceProfileFor,
  eachOpened,
  listOf,
  planOptionsFor,
  Tally,
  targetEvent,
  type CommonOptions,
  type TargetPath,
} from '../scan/session.ts';
import type { History } from '../state/history.ts';
import { holdersOf } from './holders.ts';
import { fileObstacle, filesystemObstacles, holderObstacles, spaceObstacles } from './obstacles.ts';
import { openState, pastOf, type Past } from './past.ts';

/** What decides as in {@link defragment}. */
export interface ExplainOptions extends Pick<
  CommonOptions,
  'full' | 'fragmentSize' | 'align' | 'deviceProfile' | 'signal'
> {
  /**
   * Where earlier runs keep what they learned, a file's path, or true for the usual place (see
   * {@link defaultStatePath}). Without it nothing is said of them.
   */
  readonly state?: string | true | undefined;
}

/**
 * Says of each file where it lies, whether something of it is worth moving and why, what that would cost and gain, and
 * what stands in the way. It changes nothing, and works without privileges on what can be read. The last event is the
 * summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a file is an event
 */
export async function* explain(
  targets: Iterable<TargetPath>,
  options: ExplainOptions = {},
): AsyncGenerator<ExplainingEvent, void, void> {
  const tally = new Tally();
  const sum = { worthMoving: 0, movable: 0 };
  const scanner = new Scanner({ signal: options.signal }, false);
  yield* eachOpened(listOf(targets), options.signal, tally, async function* (target) {
    if (target.kind !== 'file') {
      throw new UnsupportedTarget('explain is about files: name one; check lists those that are fragmented');
    }
    yield { ...targetEvent(target, options), method: 'walk' as const };
    const state = await openState(target.dirFd, options.state);
    if (state?.ignored !== undefined) yield { type: 'notice', about: 'state', message: state.ignored };
    for await (const item of scanner.scan(target)) {
      if (item.kind === 'skip') yield tally.skip(item.path, item.reason);
      else if (item.kind === 'failed') yield tally.fail(item.path, item.error);
      else {
        tally.files++;
        const event = await explainFile(item, options, state?.history);
        if (event.move !== undefined) sum.worthMoving++;
        if (event.move !== undefined && !event.inTheWay.some(({ prevents }) => prevents)) sum.movable++;
        yield event;
      }
    }
  });
  yield {
    type: 'summary',
    command: 'explain',
    files: tally.files,
    ...sum,
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted: options.signal?.aborted ?? false,
    seconds: tally.seconds,
  };
}

async function explainFile(
  file: ScannedFile,
  options: ExplainOptions,
  known: History | undefined,
): Promise<ExplainEvent> {
  const { target, extents, inode, size } = file;
  const { blockSize, longestRun } = target.filesystem;
  const device = deviceProfileFor(target, options);
  const starts = fragmentStarts(extents);
  const fragments = starts.length - 1;
  const ideal = idealFragments(extents.blocks, longestRun);
  const mapped = toBytes(extents.blocks, blockSize);
  const sizeBlocks = toBlocks(size, blockSize);
  const planned = planFile(extents, sizeBlocks, planOptionsFor(target, options));
  const move = typeof planned === 'string' ? undefined : await explainMove(file, planned, options);
  const past = known && (await pastOf(file, fragments, known));
  return {
    type: 'explain',
    ...named(file.path),
    inode,
    size,
    bytes: mapped,
    extents: describeExtents(file, starts),
    fragments,
    idealFragments: ideal,
    score: e4defragScore(fragments, ideal, extents.blocks),
    readSeconds: readSeconds(mapped, fragments, device),
    idealReadSeconds: readSeconds(mapped, ideal, device),
    ...(typeof planned === 'string' ? { notWorth: planned } : { move }),
    inTheWay: await obstacles(file, move, past),
    ...(past && { history: past.history }),
  };
}

function describeExtents({ extents, target }: ScannedFile, starts: Uint32Array): ExplainEvent['extents'] {
  const { blockSize } = target.filesystem;
  let fragment = 0;
  return Array.from(extents, ({ logical, physical, length, flags }, i) => {
    if (starts[fragment] === i) fragment++;
    return {
      offset: toBytes(logical, blockSize),
      physical: toBytes(physical, blockSize),
      length: toBytes(length, blockSize),
      fragment,
      unwritten: (flags & EXTENT_FLAG.UNWRITTEN) !== 0,
    };
  });
}

async function explainMove(
  file: ScannedFile,
  planned: FilePlan,
  options: ExplainOptions,
): Promise<ExplainedMove> {
  const { target } = file;
  const { blockSize, geometry } = target.filesystem;
  const device = deviceProfileFor(target, options);
  const { ranges, bytesToMove, fragmentsBefore, fragmentsAfter, savedSeconds } = describePlan(
    file,
    planned,
    device,
  );
  const moved = ranges.reduce((sum, { fragments }) => sum + fragments, 0);
  const costSeconds =
    readSeconds(bytes(bytesToMove), moved, device) + readSeconds(bytes(bytesToMove), ranges.length, device);
  const free = await FreeMap.read(target.dirFd, blockSize, geometry);
  const spendable = spendableOf(await statFilesystem(target.dirFd));
  const needs = planned.ranges.map((range) => range.blocks);
  const fits = planned.blocks <= spendable ? choose(needs, free, Infinity) : undefined;
  return {
    ranges,
    bytesToMove,
    fragmentsBefore,
    fragmentsAfter,
    savedSeconds,
    costSeconds,
    readsToRegain: savedSeconds > 0 ? Math.ceil(costSeconds / savedSeconds) : null,
    spendable: toBytes(spendable, blockSize),
    largestRun: toBytes(free.longestRun, blockSize),
    pieces: fits?.length ?? null,
  };
}

/** All that stands in the way, what prevents a move first. */
async function obstacles(
  file: ScannedFile,
  move: ExplainedMove | undefined,
  past: Past | undefined,
): Promise<Obstacle[]> {
  const moved = move?.ranges.reduce((sum, { fragments }) => sum + fragments, 0) ?? 0;
  const all = [
    ...filesystemObstacles(file.target.filesystem),
    ...(await fileObstacles(file)),
    ...(await permissionObstacles(file)),
    ...(past?.obstacles ?? []),
    ...(move === undefined ? [] : spaceObstacles(move, moved)),
  ];
  return [...all.filter(({ prevents }) => prevents), ...all.filter(({ prevents }) => !prevents)];
}

/** Of the file itself: its attributes, and who has it in use. */
async function fileObstacles({ path, immovable }: ScannedFile): Promise<Obstacle[]> {
  const fd = await openAt(AT_FDCWD, path, O.RDONLY | O.NONBLOCK);
  try {
    const reasons = immovableReasons({ flags: await inodeFlags(fd), swap: immovable === 'swap-file' });
    return [...reasons.map(fileObstacle), ...holderObstacles(await holdersOf(await statFd(fd)))];
  } finally {
    await closeFd(fd);
  }
}

/** A file is opened for writing, and a temporary one is made beside it. */
async function permissionObstacles({ path, target }: ScannedFile): Promise<Obstacle[]> {
  const found: Obstacle[] = [];
  const need = async (what: Buffer, message: string) => {
    try {
      await access(what, constants.R_OK | constants.W_OK);
    } catch (error) {
      // A read-only filesystem is told of already, and what is immutable is so by its attribute.
      if (errorCode(error) !== 'EACCES') return;
      found.push({ prevents: true, reason: 'no-permission', message });
    }
  };
  await need(path, 'this user may not write to it; run as its owner or as root');
  await need(target.dirPath, 'this user may make no temporary file in its directory; run as root');
  return found;
}
