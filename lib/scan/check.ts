import { countFragments, fragmentLengths, idealFragments } from '../layout/fragments.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import { SizeClasses } from '../layout/sizeClasses.ts';
import { e4defragScore } from '../layout/score.ts';
import { blocks, toBytes } from '../layout/units.ts';
import { named, type CheckEvent, type FileEvent } from '../report/events.ts';
import { Scanner, type ScannedFile } from './scan.ts';
import {
  deviceProfileFor,
  eachTarget,
  listOf,
  Tally,
  type CommonOptions,
  type TargetPath,
} from './session.ts';

export type CheckOptions = CommonOptions;

/**
 * Looks at the layout of every file of the targets and writes nothing. Each file is one event; the last event is the
 * summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a target or a file is an event
 */
export async function* check(
  targets: Iterable<TargetPath>,
  options: CheckOptions = {},
): AsyncGenerator<CheckEvent, void, void> {
  const tally = new Tally();
  const paths = listOf(targets);
  const scanner = new Scanner(options, paths.length > 1);
  const sum = {
    fragmentedFiles: 0,
    fragments: 0,
    idealFragments: 0,
    blocks: 0,
    bytes: 0,
    readSeconds: 0,
    idealReadSeconds: 0,
  };
  const sizes = new SizeClasses();
  yield* eachTarget(paths, options, tally, async function* (target) {
    const device = deviceProfileFor(target, options);
    for await (const item of scanner.scan(target)) {
      if (item.kind === 'skip') yield tally.skip(item.path, item.reason);
      else if (item.kind === 'failed') yield tally.fail(item.path, item.error);
      else {
        const file = describe(item, device);
        tally.files++;
        if (file.fragments > file.idealFragments) sum.fragmentedFiles++;
        for (const length of fragmentLengths(item.extents)) {
          sizes.add(toBytes(blocks(length), target.filesystem.blockSize));
        }
        sum.bytes += toBytes(item.extents.blocks, target.filesystem.blockSize);
        for (const key of [
          'fragments',
          'idealFragments',
          'blocks',
          'readSeconds',
          'idealReadSeconds',
        ] as const) {
          sum[key] += file[key];
        }
        yield file;
      }
    }
  });
  const { blocks: mapped, ...totals } = sum;
  yield {
    type: 'summary',
    command: 'check',
    files: tally.files,
    ...totals,
    score: e4defragScore(sum.fragments, sum.idealFragments, mapped),
    fragmentSizes: sizes.classes,
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted: options.signal?.aborted ?? false,
    seconds: tally.seconds,
  };
}

function describe(file: ScannedFile, device: DeviceProfile): FileEvent {
  const { extents, target } = file;
  const { blockSize, longestRun } = target.filesystem;
  const mapped = extents.blocks;
  const fragments = countFragments(extents);
  const ideal = idealFragments(mapped, longestRun);
  const size = toBytes(mapped, blockSize);
  return {
    type: 'file',
    ...named(file.path),
    inode: file.inode,
    size: file.size,
    blocks: mapped,
    extents: extents.count,
    fragments,
    idealFragments: ideal,
    score: e4defragScore(fragments, ideal, mapped),
    readSeconds: readSeconds(size, fragments, device),
    idealReadSeconds: readSeconds(size, ideal, device),
  };
}
