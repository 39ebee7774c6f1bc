import { performance } from 'node:perf_hooks';
import { errorCode, isSystemFailure } from '../kernel/errors.ts';
import { closeFd, statFd } from '../kernel/handle.ts';
import { defaultFragmentSize, typicalDevice, type DeviceProfile } from '../layout/readCost.ts';
import { blocks } from '../layout/units.ts';
import {
  named,
  type FailedEvent,
  type SkipEvent,
  type TargetEvent,
  type UnsupportedEvent,
} from '../report/events.ts';
import { UnsupportedTarget } from './filesystem.ts';
import type { Reason } from './reasons.ts';
import type { ScannedFile, Scanner, ScanOptions } from './scan.ts';
import type { TableScan } from './tableScan.ts';
import { openTarget, type Target } from './targets.ts';

/** Options that every command has. */
export interface CommonOptions extends ScanOptions {
  /** Bytes; fragments at least that long are left where they are. The default depends on the device. */
  readonly fragmentSize?: number | undefined;
  /**
   * What is moved and has at least so many bytes is to begin at a multiple of them on the device, a power of two: the
   * unit of a RAID stripe, or of discarding. Nothing is moved for that alone.
   */
  readonly align?: number | undefined;
  /** One fragment a file where possible, whatever has to be moved. */
  readonly full?: boolean | undefined;
  /**
   * Look at every name of a whole filesystem too, so that each file has an event of its own. Its inode tables would
   * tell in a fraction of the time which files are fragmented.
   */
  readonly everyFile?: boolean | undefined;
  /** What a device costs, to estimate read times by. The default is a typical one of its kind. */
  readonly deviceProfile?: Partial<DeviceProfile> | undefined;
}

/** A file, directory, mount point or block device: a path, as text or as bytes. */
export type TargetPath = string | Buffer;

/** What a run has met so far. */
export class Tally {
  readonly #started = performance.now();
  files = 0;
  failed = 0;
  unsupported = 0;
  skipped: Partial<Record<Reason, number>> = {};

  get seconds(): number {
    return Math.round(performance.now() - this.#started) / 1000;
  }

  /** Files that no event tells of, since nothing has to be done about them. */
  leave(reason: Reason, count: number): void {
    if (count > 0) this.skipped[reason] = (this.skipped[reason] ?? 0) + count;
  }

  skip(path: Buffer, reason: Reason, fragments?: number): SkipEvent {
    this.skipped[reason] = (this.skipped[reason] ?? 0) + 1;
    return { type: 'skip', ...named(path), reason, ...(fragments !== undefined && { fragments }) };
  }

  fail(path: Buffer, error: Error): FailedEvent {
    this.failed++;
    return { type: 'failed', ...named(path), code: errorCode(error) ?? 'UNKNOWN', message: error.message };
  }

  unsupport(path: Buffer, message: string): UnsupportedEvent {
    this.unsupported++;
    return { type: 'unsupported', ...named(path), message };
  }
}

/** The fragment size that counts for a target, in bytes; Infinity for `full`. */
export function fragmentSizeFor({ filesystem }: Target, { fragmentSize, full }: CommonOptions): number {
  return full ? Infinity : (fragmentSize ?? defaultFragmentSize(filesystem.rotational));
}

/** What reading costs on a target's device. */
export function deviceProfileFor({ filesystem }: Target, { deviceProfile }: CommonOptions): DeviceProfile {
  const typical = typicalDevice(filesystem.rotational);
  return {
    seek: deviceProfile?.seek ?? typical.seek,
    bandwidth: deviceProfile?.bandwidth ?? typical.bandwidth,
  };
}

/**
 * Opens the targets one after the other and runs `work` on each. What is wrong with one target is an event, and the
 * others go on. A target with neither inode tables nor a reason to walk is no whole filesystem, or each file is wanted.
 */
export async function* eachTarget<E>(
  paths: readonly TargetPath[],
  options: CommonOptions,
  tally: Tally,
  scanner: Scanner,
  work: (
    target: Target,
    tables: TableScan | undefined,
    walkReason: string | undefined,
  ) => AsyncGenerator<E, void, void>,
): AsyncGenerator<E | TargetEvent | FailedEvent | UnsupportedEvent, void, void> {
  checkOptions(options);
  yield* eachOpened(paths, options.signal, tally, async function* (target) {
    const source = options.everyFile ? undefined : await tablesOf(target, scanner, options);
    const [tables, walkReason] = typeof source === 'object' ? [source] : [undefined, source];
    try {
      yield {
        ...targetEvent(target, options),
        method: tables === undefined ? ('walk' as const) : ('inode-table' as const),
        ...(walkReason !== undefined && { walkReason }),
      };
      yield* work(target, tables, walkReason);
    } finally {
      await tables?.close();
    }
  });
}

const ROOT_INODE = 2n;

/** As {@link TableScan.openWhole}; undefined when the target is no whole filesystem. */
async function tablesOf(target: Target, scanner: Scanner, options: ScanOptions) {
  const isWhole = target.kind !== 'file' && (await statFd(target.dirFd)).ino === ROOT_INODE;
  return isWhole ? (await import('./tableScan.ts')).TableScan.openWhole(target, scanner, options) : undefined;
}

/** Opens the targets one after the other, and closes each when `work` is done with it; errors as in {@link eachTarget}. */
export async function* eachOpened<E>(
  paths: readonly TargetPath[],
  signal: AbortSignal | undefined,
  tally: Tally,
  work: (target: Target) => AsyncGenerator<E, void, void>,
): AsyncGenerator<E | FailedEvent | UnsupportedEvent, void, void> {
  for (const path of paths) {
    if (signal?.aborted) return;
    const argument = Buffer.from(path);
    let target: Target | undefined;
    try {
      target = await openTarget(argument);
      yield* work(target);
    } catch (error) {
      if (error instanceof UnsupportedTarget) yield tally.unsupport(argument, error.message);
      else if (isSystemFailure(error)) yield tally.fail(argument, error);
      else throw error;
    } finally {
      if (target !== undefined) await closeFd(target.dirFd);
    }
  }
}

/** @throws TypeError for a single path: a string is iterable too, a character at a time */
export function listOf(targets: Iterable<TargetPath>): TargetPath[] {
  if (typeof targets === 'string' || Buffer.isBuffer(targets)) {
    throw new TypeError('targets must be a list of paths, such as ["/srv"]');
  }
  return [...targets];
}

/** @throws RangeError */
function checkOptions({ fragmentSize, align, deviceProfile = {} }: CommonOptions): void {
  const { seek = 0, bandwidth = 1 } = deviceProfile;
  if (align !== undefined && !(align >= 1 && Number.isInteger(Math.log2(align)))) {
    throw new RangeError(`align must be a power of two, not ${String(align)}`);
  }
  if (fragmentSize !== undefined && !(fragmentSize >= 0)) {
    throw new RangeError(`fragmentSize must be a number of bytes, not ${String(fragmentSize)}`);
  }
  if (!(seek >= 0)) throw new RangeError(`deviceProfile.seek must be seconds, not ${String(seek)}`);
  if (!(bandwidth > 0)) {
    throw new RangeError(`deviceProfile.bandwidth must be bytes per second, not ${String(bandwidth)}`);
  }
}

export function targetEvent(target: Target, options: CommonOptions) {
  const { filesystem } = target;
  const fragmentSize = fragmentSizeFor(target, options);
  return {
    type: 'target' as const,
    ...named(target.argument),
    kind: target.kind,
    device: filesystem.device,
    mountPoint: filesystem.mountPoint.toString(),
    blockSize: filesystem.blockSize,
    rotational: filesystem.rotational,
    deviceProfile: deviceProfileFor(target, options),
    fragmentSize: fragmentSize === Infinity ? null : fragmentSize,
  };
}

/** Options of {@link planFile} for a scanned file's target. */
export function planOptionsFor(target: ScannedFile['target'], options: CommonOptions) {
  const { blockSize, longestRun } = target.filesystem;
  const fragmentBlocks = fragmentSizeFor(target, options) / blockSize;
  const { align = 0 } = options;
  // A whole block is aligned in any case.
  return { fragmentBlocks, longestRun, ...(align > blockSize && { align: blocks(align / blockSize) }) };
}
