import { isSystemFailure } from '../kernel/errors.ts';
import { pageSize } from '../kernel/page.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { toBytes, blocks, bytes } from '../layout/units.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import {
  named,
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
import type { FilePlan } from './plan.ts';
import { PlanRecorder } from './planRecorder.ts';
import { planScanned } from './planScanned.ts';

export interface PlanTargetsOptions extends CommonOptions {
  /** Where to write a plan file, for {@link apply}. It is written at the end, unless the run is stopped. */
  readonly output?: string | undefined;
}

/**
 * Says what {@link defragment} would move, and why not the rest; writes nothing but the plan file asked for. Whether contiguous places are free
 * shows only when they are allocated. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a target or a file is an event
 */
export async function* plan(
  targets: Iterable<TargetPath>,
  options: PlanTargetsOptions = {},
): AsyncGenerator<PlanningEvent, void, void> {
  const tally = new Tally();
  let paths = listOf(targets);
  const scanner = new Scanner(options, paths.length > 1);
  const sum = { filesToMove: 0, bytesToMove: 0, fragmentsBefore: 0, fragmentsAfter: 0, savedSeconds: 0 };
  const count = (fragments: number) => {
    sum.fragmentsBefore += fragments;
    sum.fragmentsAfter += fragments;
  };
  const { output } = options;
  let recorder: PlanRecorder | undefined;
  const add = async (file: ScannedFile, planned: FilePlan, target: Target) => {
    const event = describe(file, planned, deviceProfileFor(target, options));
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
    recorder = output === undefined ? undefined : await PlanRecorder.open(output, 'plan', options);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    yield tally.fail(Buffer.from(output ?? ''), error);
    // The plan was what was wanted.
    paths = [];
  }
  yield* eachTarget(paths, options, tally, scanner, async function* (target, tables) {
    const planOptions = planOptionsFor(target, options);
    await recorder?.begin(target);
    if (tables !== undefined) {
      const context = { target, tables, planOptions, batch: AGAIN, tally, count, signal: options.signal };
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
    ...(written && { planFile: output }),
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted,
    seconds: tally.seconds,
  };
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
    recorder.add(file.relative, {
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

function describe(file: ScannedFile, planned: FilePlan, device: DeviceProfile): PlanEvent {
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
