import { isSystemFailure } from '../kernel/errors.ts';
import { pageSize } from '../kernel/page.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { toBytes, blocks, bytes } from '../layout/units.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import {
  named,
  type ArrangementEvent,
  type FailedEvent,
  type PlanEvent,
  type PlanningEvent,
  type SkipEvent,
} from '../report/events.ts';
import { countFragments } from '../layout/fragments.ts';
import { alignmentOf, demand } from '../place/assign.ts';
import type { Reason } from '../scan/reasons.ts';
import { generationOf, reasonOf, Scanner, type ScannedFile } from '../scan/scan.ts';
import {
  deviceProfileFor,
  eachTarget,
  listOf,
  planOptionsFor,
  Tally,
  type CommonOptions,
  type TargetPath,
} from '../scan/session.ts';
import type { Target } from '../scan/targets.ts';
import { Discovery, type DiscoveryContext } from './discovery.ts';
import { countJumps, filesMoved, planSequence, sequenceOf } from './arrange.ts';
import { groupsIn, layoutsOf, type Group, type GroupOptions } from './groups.ts';
import { checkOrderOptions, OrderList } from './orderList.ts';
import type { FilePlan, PlanOptions } from './plan.ts';
import { PlanRecorder } from './planRecorder.ts';
import { planScanned } from './planScanned.ts';

/** What {@link plan} can be told. */
export interface PlanTargetsOptions extends CommonOptions, GroupOptions {
  /** Where to write a plan file, for {@link apply}. It is written at the end, unless the run is stopped. */
  readonly output?: string | undefined;
}

/**
 * Says what {@link defragment} would move, and why not the rest; writes nothing but the plan file asked for. Whether contiguous places are free
 * shows only when they are allocated. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list, RangeError for options that make no sense together; whatever is wrong with a target or a file is an event
 */
export async function* plan(
  targets: Iterable<TargetPath>,
  options: PlanTargetsOptions = {},
): AsyncGenerator<PlanningEvent, void, void> {
  checkPlanOptions(options);
  const tally = new Tally();
  let paths = listOf(targets);
  const scanner = new Scanner(options, paths.length > 1);
  const sum = { filesToMove: 0, bytesToMove: 0, fragmentsBefore: 0, fragmentsAfter: 0, savedSeconds: 0 };
  const count = (fragments: number) => {
    sum.fragmentsBefore += fragments;
    sum.fragmentsAfter += fragments;
  };
  const arrangement = { groups: 0, groupsToMove: 0, bytesToMove: 0, jumpsBefore: 0, jumpsAfter: 0 };
  const { output, orderFile = '' } = options;
  let order: OrderList | undefined;
  let recorder: PlanRecorder | undefined;
  const add = async (file: ScannedFile, planned: FilePlan, target: Target) => {
    const event = describePlan(file, planned, deviceProfileFor(target, options));
    const problem = recorder && (await record(recorder, file, planned, event));
    if (problem !== undefined) {
      count(event.fragmentsBefore);
      return typeof problem === 'string'
        ? tally.skip(file.path, problem, event.fragmentsBefore)
        : tally.fail(file.path, problem);
    }
    sum.filesToMove++;
    for (const key of ['bytesToMove', 'fragmentsBefore', 'fragmentsAfter', 'savedSeconds'] as const) {
      sum[key] += event[key];
    }
    return event;
  };
  try {
    order = await OrderList.of(options);
    recorder = output === undefined ? undefined : await PlanRecorder.open(output, 'plan', options);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    yield tally.fail(Buffer.from(output ?? orderFile), error);
    // The plan was what was wanted.
    paths = [];
  }
  yield* eachTarget(paths, options, tally, scanner, async function* (target, tables) {
    const planOptions = planOptionsFor(target, options);
    await recorder?.begin(target);
    const arranged = new Set<number>();
    for await (const group of groupsIn(target, tables !== undefined, order, options)) {
      const { event, moved } = await planGroup(group, planOptions);
      arrangement.groups++;
      arrangement.jumpsBefore += event.jumpsBefore;
      arrangement.jumpsAfter += event.jumpsAfter;
      if (moved.length === 0) continue;
      arrangement.groupsToMove++;
      arrangement.bytesToMove += event.bytesToMove;
      for (const { inode } of moved) arranged.add(inode);
      yield event;
    }
    if (tables !== undefined) {
      const { signal } = options;
      const context = { target, tables, planOptions, batch: AGAIN, tally, count, arranged, signal };
      yield* planTables(context, add);
      return;
    }
    for await (const item of scanner.scan(target)) {
      if (item.kind === 'skip') {
        yield tally.skip(item.path, item.reason);
        continue;
      }
      if (item.kind === 'failed') {
        yield tally.fail(item.path, item.error);
        continue;
      }
      tally.files++;
      if (arranged.has(item.inode)) continue;
      const planned = planScanned(item, planOptions);
      if (typeof planned === 'string') {
        const fragments = countFragments(item.extents);
        count(fragments);
        yield tally.skip(item.path, planned, fragments);
        continue;
      }
      yield await add(item, planned, target);
    }
  });
  const interrupted = options.signal?.aborted ?? false;
  const unknown = interrupted ? [] : (order?.unknown() ?? []);
  for (const path of unknown) yield tally.skip(path, 'not-in-target');
  let written = false;
  if (recorder?.begun === true && !interrupted) {
    try {
      await recorder.save();
      written = true;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      yield tally.fail(Buffer.from(recorder.path), error);
    }
  }
  yield {
    type: 'summary',
    command: 'plan',
    files: tally.files,
    ...sum,
    ...((options.cluster === true || order !== undefined) && { arrangement }),
    ...(written && { planFile: output }),
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted,
    seconds: tally.seconds,
  };
}

/** @throws RangeError, TypeError */
function checkPlanOptions(options: PlanTargetsOptions): void {
  checkOrderOptions(options);
  const { output, cluster = false, order, orderFile } = options;
  if (output !== undefined && (cluster || order !== undefined || orderFile !== undefined)) {
    throw new RangeError('a plan file is about files one by one: it cannot have cluster, order or orderFile');
  }
}

/** What would be moved to lay the files of a group one behind the other. */
async function planGroup(
  group: Group,
  options: PlanOptions,
): Promise<{ event: ArrangementEvent; moved: readonly ScannedFile[] }> {
  const { files, whole, path } = group;
  const { blockSize } = files[0].target.filesystem;
  const sequence = sequenceOf(layoutsOf(group), Math.max(1, (await pageSize()) / blockSize));
  const planned = planSequence(sequence, whole, options, blockSize);
  const jumpsBefore = countJumps(sequence);
  const worthwhile = typeof planned === 'string' ? undefined : planned;
  const event = {
    type: 'arrangement' as const,
    ...named(path),
    files: files.length,
    bytesToMove: toBytes(worthwhile?.blocks ?? blocks(0), blockSize),
    jumpsBefore,
    jumpsAfter: worthwhile === undefined ? jumpsBefore : worthwhile.fragmentsAfter - 1,
  };
  const moved = worthwhile === undefined ? new Set<number>() : filesMoved(sequence, worthwhile);
  return { event, moved: files.filter((_, i) => moved.has(i)) };
}

/** Puts what is planned for a file into a plan file. @returns why it cannot be carried out, if so */
async function record(
  recorder: PlanRecorder,
  file: ScannedFile,
  planned: FilePlan,
  event: PlanEvent,
): Promise<Reason | Error | undefined> {
  const { inode, size, extents, target } = file;
  const { ranges, bytesToMove, fragmentsBefore, fragmentsAfter, savedSeconds } = event;
  const blocksPerPage = Math.max(1, (await pageSize()) / target.filesystem.blockSize);
  try {
    const generation = await generationOf(file);
    if (generation === undefined) return 'vanished';
    recorder.add(recorder.pathOf(file.relative), {
      inode,
      generation,
      size,
      fingerprint: fingerprint(extents),
      bytesToMove,
      fragmentsBefore,
      fragmentsAfter,
      savedSeconds,
      ranges: ranges.map(({ offset, length, fragments }, i) => ({
        offset: bytes(offset),
        length: bytes(length),
        fragments,
        destination: recorder.destination(
          demand({ ...planned, align: undefined }, planned.ranges[i], blocksPerPage),
          alignmentOf(planned, planned.ranges[i]),
        ),
      })),
    });
    return undefined;
  } catch (error) {
    const reason = reasonOf(error);
    if (reason !== undefined) return reason;
    if (!isSystemFailure(error)) throw error;
    return error;
  }
}

/** Files looked at again by one call: what the scan saw is long ago. */
const AGAIN = { bytes: Infinity, files: 128 };

/** The plans for a whole filesystem, what gains most for each byte moved first. */
async function* planTables(
  context: DiscoveryContext,
  add: (file: ScannedFile, planned: FilePlan, target: Target) => Promise<PlanEvent | SkipEvent | FailedEvent>,
): AsyncGenerator<PlanningEvent, void, void> {
  const { target, tables, tally, signal } = context;
  const discovery = new Discovery<never>(context);
  discovery.start();
  try {
    while (!discovery.ended) {
      await discovery.changed();
      yield* discovery.progress();
    }
    await discovery.finish();
    yield* discovery.told();
    while (discovery.queue.size > 0 && !signal?.aborted) {
      const found = discovery.queue.popBatch();
      let left = found.length;
      for await (const { inode, item } of tables.inspect(found)) {
        left--;
        const path = discovery.pathOf(inode) ?? item.path;
        if (item.kind === 'failed') {
          yield tally.fail(path, item.error);
          continue;
        }
        if (item.kind === 'skip') {
          yield tally.skip(path, item.reason);
          continue;
        }
        const planned = planScanned(item, context.planOptions);
        if (typeof planned === 'string') {
          const fragments = countFragments(item.extents);
          context.count(fragments);
          yield tally.skip(path, planned, fragments);
        } else yield await add(discovery.withName(item), planned, target);
      }
      tally.leave('interrupted', left);
    }
    for (const { fragments } of discovery.queue) context.count(fragments);
    tally.leave('interrupted', discovery.queue.size);
  } finally {
    await discovery.stop();
  }
}

/** What is said of a plan. */
export function describePlan(file: ScannedFile, planned: FilePlan, device: DeviceProfile): PlanEvent {
  const { blockSize } = file.target.filesystem;
  const { extents, starts } = planned;
  const size = toBytes(extents.blocks, blockSize);
  return {
    type: 'plan',
    ...named(file.path),
    inode: file.inode,
    ranges: planned.ranges.map(({ firstFragment, endFragment }) => {
      const first = extents.logical[starts[firstFragment]];
      const last = starts[endFragment] - 1;
      const end = extents.logical[last] + extents.length[last];
      return {
        offset: toBytes(blocks(first), blockSize),
        length: toBytes(blocks(end - first), blockSize),
        fragments: endFragment - firstFragment,
      };
    }),
    bytesToMove: toBytes(planned.blocks, blockSize),
    fragmentsBefore: planned.fragmentsBefore,
    fragmentsAfter: planned.fragmentsAfter,
    savedSeconds:
      readSeconds(size, planned.fragmentsBefore, device) - readSeconds(size, planned.fragmentsAfter, device),
  };
}
