import { toBytes, blocks } from '../layout/units.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import { named, type PlanEvent, type PlanningEvent } from '../report/events.ts';
import { countFragments } from '../layout/fragments.ts';
import { Scanner, type ScannedFile } from '../scan/scan.ts';
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
import { planScanned } from './planScanned.ts';

export type PlanTargetsOptions = CommonOptions;

/**
 * Says what {@link defragment} would move, and why not the rest; writes nothing. Whether contiguous places are free
 * shows only when they are allocated. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a target or a file is an event
 */
export async function* plan(
  targets: Iterable<TargetPath>,
  options: PlanTargetsOptions = {},
): AsyncGenerator<PlanningEvent, void, void> {
  const tally = new Tally();
  const paths = listOf(targets);
  const scanner = new Scanner(options, paths.length > 1);
  const sum = { filesToMove: 0, bytesToMove: 0, fragmentsBefore: 0, fragmentsAfter: 0, savedSeconds: 0 };
  const count = (fragments: number) => {
    sum.fragmentsBefore += fragments;
    sum.fragmentsAfter += fragments;
  };
  const add = (file: ScannedFile, planned: FilePlan, target: Target) => {
    const event = describe(file, planned, deviceProfileFor(target, options));
    sum.filesToMove++;
    for (const key of ['bytesToMove', 'fragmentsBefore', 'fragmentsAfter', 'savedSeconds'] as const) {
      sum[key] += event[key];
    }
    return event;
  };
  yield* eachTarget(paths, options, tally, scanner, async function* (target, tables) {
    const planOptions = planOptionsFor(target, options);
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
      yield add(item, planned, target);
    }
  });
  yield {
    type: 'summary',
    command: 'plan',
    files: tally.files,
    ...sum,
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted: options.signal?.aborted ?? false,
    seconds: tally.seconds,
  };
}

/** Files looked at again by one call: what the scan saw is long ago. */
const AGAIN = { bytes: Infinity, files: 128 };

/** The plans for a whole filesystem, what gains most for each byte moved first. */
async function* planTables(
  context: DiscoveryContext,
  add: (file: ScannedFile, planned: FilePlan, target: Target) => PlanEvent,
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
        const planned = item.kind === 'file' ? planScanned(item, context.planOptions) : undefined;
        if (item.kind === 'failed') yield tally.fail(path, item.error);
        else if (item.kind === 'skip') yield tally.skip(path, item.reason);
        else if (typeof planned === 'object') yield add({ ...item, path }, planned, target);
        else if (planned !== undefined) {
          const fragments = countFragments(item.extents);
          context.count(fragments);
          yield tally.skip(path, planned, fragments);
        }
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
