import { isSystemFailure } from '../kernel/errors.ts';
import { AT_FDCWD, closeFd, filesystemUuid, O, openAt, openByHandle, statFd } from '../kernel/handle.ts';
import { inspectHandles, inspectNames, type Inspected } from '../kernel/inspect.ts';
import { countFragments } from '../layout/fragments.ts';
import { bytes } from '../layout/units.ts';
import { OwnerMap } from '../place/owners.ts';
import { isUnchanged } from '../plan/follow.ts';
import { readPlanFile, totalsOf, type FilesystemPlan, type Plan, type PlanStep } from '../plan/planFile.ts';
import type { ApplyEvent, ApplySummary, DefragSummary, MovingEvent, PlanSums } from '../report/events.ts';
import { CONFINED } from '../scan/confined.ts';
import { readMounts, UnsupportedTarget } from '../scan/filesystem.ts';
import { deviceName, mountOf } from '../scan/mounts.ts';
import type { ScanItem, Scanner } from '../scan/scan.ts';
import { eachOpened, targetEvent, type TargetPath } from '../scan/session.ts';
import { join, openWhole, type Target } from '../scan/targets.ts';
import type { BatchContext } from './batch.ts';
import type { Candidate } from './candidate.ts';
import { inRun, type DefragmentOptions, type Run } from './defragment.ts';
import { Gathering } from './gathering.ts';
import { PrescribedPlacer } from './prescribed.ts';
import { restore } from './restore.ts';

/** What a plan file does not say. */
export interface ApplyOptions extends Omit<
  DefragmentOptions,
  | 'exclude'
  | 'minSize'
  | 'maxSize'
  | 'fragmentSize'
  | 'full'
  | 'everyFile'
  | 'align'
  | 'deviceProfile'
  | 'cluster'
  | 'order'
  | 'orderFile'
  | 'state'
  | 'ignoreHistory'
  | 'makeRoom'
> {
  /** Anything on the filesystem that is meant, where several mounted ones have the UUID that the plan names. */
  readonly target?: TargetPath | undefined;
}

/**
 * Carries out a plan file that {@link plan} has written, or an undo file of {@link defragment}. A file that is not as it
 * was when its step was written down is left alone, and the others are moved; to the places that the plan names, where
 * these are free. The last event is the summary.
 *
 * @throws PlanFileError for what is no plan file, RangeError for an option that makes no sense; whatever else is wrong is
 *   an event
 */
export async function* apply(
  file: TargetPath,
  options: ApplyOptions = {},
): AsyncGenerator<ApplyEvent, void, void> {
  const { target, ...others } = options;
  const read = await readPlanFile(file).catch((error: unknown) => {
    if (isSystemFailure(error)) return error;
    throw error;
  });
  const plan = read instanceof Error ? undefined : read;
  const sections = plan?.filesystems ?? [];
  // What the plan does not name stays where it is.
  const named = { ...others, makeRoom: false };
  yield* inRun<ApplyEvent>(named, target === undefined ? sections.length : 1, async function* (run) {
    if (read instanceof Error) yield run.tally.fail(Buffer.from(file), read);
    else if (yield* run.begin()) {
      const events = target === undefined ? eachFilesystem(run, read) : oneFilesystem(run, read, target);
      for await (const event of events) {
        if (read.kind === 'undo' && event.type === 'defragmented') yield { ...event, type: 'restored' };
        else yield event;
      }
      yield* run.end();
    }
    yield summaryOf(run.summary(), plan);
  });
}

/** Each filesystem of a plan, where it is mounted. */
async function* eachFilesystem(
  run: Run,
  { kind, filesystems }: Plan,
): AsyncGenerator<MovingEvent, void, void> {
  for (const section of filesystems) {
    const place = await mountPointOf(section.uuid);
    if (typeof place === 'string') {
      yield run.tally.unsupport(Buffer.from(section.mountPoint), place);
      continue;
    }
    yield* eachOpened([place], run.options.signal, run.tally, (target) =>
      onFilesystem(run, target, section, kind),
    );
  }
}

/** The one filesystem that is meant. */
function oneFilesystem(
  run: Run,
  { kind, filesystems }: Plan,
  path: TargetPath,
): AsyncGenerator<MovingEvent, void, void> {
  return eachOpened([path], run.options.signal, run.tally, async function* (target) {
    const uuid = await filesystemUuid(target.dirFd);
    const section = filesystems.find((one) => one.uuid === uuid);
    if (section === undefined) {
      const uuids = filesystems.map((one) => one.uuid).join(', ');
      throw new UnsupportedTarget(
        `the plan is not for this filesystem (its UUID is ${uuid ?? 'not to be had'}; the plan has ${uuids || 'none'}): name the one that it was made for`,
      );
    }
    yield* onFilesystem(run, target, section, kind);
  });
}

async function* onFilesystem(
  run: Run,
  target: Target,
  section: FilesystemPlan,
  kind: Plan['kind'],
): AsyncGenerator<MovingEvent, void, void> {
  const { fragmentSize, deviceProfile, steps, blockSize } = section;
  const options = {
    ...run.options,
    ...(fragmentSize === Infinity ? { full: true } : { fragmentSize }),
    deviceProfile,
  };
  yield { ...targetEvent(target, options), method: 'plan' };
  const whole = await openWhole(target);
  if (typeof whole === 'string') throw new UnsupportedTarget(whole);
  try {
    if (blockSize !== whole.filesystem.blockSize) {
      throw new UnsupportedTarget(
        `its blocks have ${whole.filesystem.blockSize} bytes, those of the plan ${blockSize}: make the plan anew`,
      );
    }
    run.account.bytesPlanned += totalsOf(steps).bytesToMove;
    yield* run.at(whole, false, options, async function* (context) {
      const inOrder = steps.toSorted((a, b) => placesMissing(a) - placesMissing(b));
      const candidates = candidatesOf(run, whole, inOrder, kind, context);
      yield* kind === 'undo' ? putBack(run, candidates, context) : carryOut(run, candidates, steps, context);
    });
  } finally {
    if (whole !== target) await closeFd(whole.dirFd);
  }
}

/** 1 for a step that looks for places itself, and must not find those that the plan has for others. */
const placesMissing = ({ ranges }: PlanStep): number =>
  ranges.some(({ destination }) => destination === undefined) ? 1 : 0;

/** Puts files where they lay. */
async function* putBack(
  run: Run,
  candidates: AsyncIterable<Candidate | MovingEvent>,
  context: BatchContext,
): AsyncGenerator<MovingEvent, void, void> {
  const all: Candidate[] = [];
  for await (const found of candidates) {
    if ('type' in found) yield found;
    else all.push(found);
  }
  yield* restore(all, run, context);
}

/** Moves files to their new places, as a plan has it. */
async function* carryOut(
  run: Run,
  candidates: AsyncIterable<Candidate | MovingEvent>,
  steps: readonly PlanStep[],
  surroundings: BatchContext,
): AsyncGenerator<MovingEvent, void, void> {
  const context = { ...surroundings, placer: new PrescribedPlacer(surroundings, steps).placer };
  const gathering = new Gathering();
  /** Where the files lie that have been gathered. */
  let occupied = new OwnerMap();
  for await (const found of candidates) {
    if ('type' in found) {
      yield found;
      continue;
    }
    // What is to go where one of them lies has to wait until that has gone.
    const conflicts = found.prescribed!.step.ranges.some(
      ({ destination: to }) => to && occupied.within(to.start, to.start + to.length).length > 0,
    );
    if (conflicts) {
      yield* run.move(gathering.take(), context);
      occupied = new OwnerMap();
    }
    const { inode, extents } = found.file;
    for (const { logical, physical, length } of extents) occupied.set({ inode, logical, physical, length });
    for (const batch of gathering.add(found)) yield* run.move(batch, context);
  }
  yield* run.move(gathering.take(), context);
}

/** The files of steps that are as they were when the steps were written down, and what is to be told of the others. */
async function* candidatesOf(
  run: Run,
  target: Target,
  steps: readonly PlanStep[],
  kind: Plan['kind'],
  context: BatchContext,
): AsyncGenerator<Candidate | MovingEvent, void, void> {
  const { signal } = context.budget;
  let met = 0;
  for await (const inspected of inspectSteps(target, steps, signal)) {
    if (signal.aborted) break;
    met++;
    const { step } = inspected;
    const item = await itemOf(run.scanner, target, inspected);
    run.tally.files++;
    const path = join(target.dirPath, step.path);
    if (item.kind === 'failed') {
      yield run.tally.fail(path, item.error);
      continue;
    }
    if (item.kind === 'skip') {
      yield run.tally.skip(path, item.reason === 'vanished' ? 'changed-since-plan' : item.reason);
      continue;
    }
    const { extents, size, inode, handle } = item;
    // The generation of one found by its name is looked at when it is open.
    const now = { size, extents, generation: handle?.generation ?? step.generation };
    const same = inode === step.inode && isUnchanged(step, now);
    const refused = same ? item.immovable : 'changed-since-plan';
    if (refused !== undefined) {
      const fragments = countFragments(extents);
      run.account.count(fragments);
      yield run.tally.skip(path, refused, fragments);
      continue;
    }
    yield {
      file: { ...item, path, relative: step.path },
      planned: bytes(step.bytesToMove),
      prescribed: { kind, step },
    };
  }
  const left = steps.slice(met);
  run.tally.leave(context.ending(), left.length);
  for (const { bytesToMove, fragmentsBefore } of left) {
    run.account.leave(bytesToMove);
    run.account.count(fragmentsBefore);
  }
}

/** Files looked at by one call. */
const LOOK = 64;
const ROOT_INODE = 2;

interface InspectedStep {
  readonly step: PlanStep;
  readonly found: Inspected;
  /** The file was opened by its number, whatever it is called. */
  readonly byNumber: boolean;
}

/** The files of steps as they are now, in the order of the steps. Ends early when the signal is aborted. */
async function* inspectSteps(
  { dirFd, filesystem }: Target,
  steps: readonly PlanStep[],
  signal: AbortSignal,
): AsyncGenerator<InspectedStep, void, void> {
  const { blockSize } = filesystem;
  const byNumber = await opensByNumber(dirFd);
  for (let from = 0; from < steps.length && !signal.aborted; from += LOOK) {
    const some = steps.slice(from, from + LOOK);
    const inodes = Uint32Array.from(some, ({ inode }) => inode);
    const generations = Uint32Array.from(some, ({ generation }) => generation);
    const names = some.map(({ path }) => path);
    const found = byNumber
      ? await inspectHandles(dirFd, inodes, generations, blockSize)
      : await inspectNames(dirFd, names, blockSize, CONFINED);
    for (const [i, step] of some.entries()) yield { step, found: found[i], byNumber };
  }
}

const itemOf = (
  scanner: Scanner,
  target: Target,
  { step, found, byNumber }: InspectedStep,
): Promise<ScanItem> =>
  byNumber
    ? scanner.byHandle(target, step.inode, step.generation, found)
    : scanner.byName(target, step.path, found);

/** Whether files can be opened by their inode numbers here: that takes CAP_DAC_READ_SEARCH. */
async function opensByNumber(dirFd: number): Promise<boolean> {
  try {
    await closeFd(await openByHandle(dirFd, ROOT_INODE, 0, O.RDONLY | O.DIRECTORY));
    return true;
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return false;
  }
}

/** Where the filesystem with a UUID is mounted, or why that cannot be said. */
async function mountPointOf(uuid: string): Promise<Buffer | string> {
  const mounts = await readMounts();
  const devices = new Set(mounts.filter(({ type }) => type === 'ext4').map(({ device }) => device));
  const found: Buffer[] = [];
  for (const device of devices) {
    const mountPoint = mountOf(mounts, device)?.mountPoint;
    if (mountPoint !== undefined && (await hasUuid(mountPoint, device, uuid))) found.push(mountPoint);
  }
  if (found.length === 1) return found[0];
  return found.length === 0
    ? `no ext4 with the UUID ${uuid} is mounted: mount it first`
    : `several mounted filesystems have the UUID ${uuid}: name the one that is meant behind the plan file`;
}

async function hasUuid(mountPoint: Buffer, device: string, uuid: string): Promise<boolean> {
  const fd = await openAt(AT_FDCWD, mountPoint, O.RDONLY | O.DIRECTORY).catch(() => undefined);
  // It cannot be reached, or is no directory.
  if (fd === undefined) return false;
  try {
    // Another filesystem may be mounted over it.
    return deviceName((await statFd(fd)).dev) === device && (await filesystemUuid(fd)) === uuid;
  } finally {
    await closeFd(fd);
  }
}

function summaryOf({ defragmented, ...summary }: DefragSummary, plan: Plan | undefined): ApplySummary {
  const { bytesToMove, ...predicted } = totalsOf((plan?.filesystems ?? []).flatMap(({ steps }) => steps));
  const { gained } = summary;
  const achieved: PlanSums = {
    files: defragmented,
    bytes: summary.bytesMoved,
    fragmentsBefore: gained.fragmentsBefore,
    fragmentsAfter: gained.fragmentsAfter,
    savedSeconds: gained.readSecondsBefore - gained.readSecondsAfter,
  };
  return {
    ...summary,
    command: 'apply',
    kind: plan?.kind ?? 'plan',
    applied: defragmented,
    predicted: { ...predicted, bytes: bytesToMove },
    achieved,
  };
}
