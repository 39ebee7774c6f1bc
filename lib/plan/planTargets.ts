import { toBlocks, toBytes, blocks } from '../layout/units.ts';
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
import type { Reason } from '../scan/reasons.ts';
import { planFile, type FilePlan, type PlanOptions } from './plan.ts';

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
  yield* eachTarget(paths, options, tally, async function* (target) {
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
      const planned = planScanned(item, planOptionsFor(target, options));
      if (typeof planned === 'string') {
        const fragments = countFragments(item.extents);
        sum.fragmentsBefore += fragments;
        sum.fragmentsAfter += fragments;
        yield tally.skip(item.path, planned, fragments);
        continue;
      }
      const event = describe(item, planned, deviceProfileFor(target, options));
      sum.filesToMove++;
      for (const key of ['bytesToMove', 'fragmentsBefore', 'fragmentsAfter', 'savedSeconds'] as const) {
        sum[key] += event[key];
      }
      yield event;
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

/** The plan for a file, or why it stays: that it may not be moved matters only where there is something to move. */
export function planScanned(file: ScannedFile, options: PlanOptions): FilePlan | Reason {
  const sizeBlocks = toBlocks(file.size, file.target.filesystem.blockSize);
  const planned = planFile(file.extents, sizeBlocks, options);
  return typeof planned === 'string' ? planned : (file.immovable ?? planned);
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
