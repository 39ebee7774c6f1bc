import { readlink, realpath } from 'node:fs/promises';
import { isSystemFailure, SystemError } from '../kernel/errors.ts';
import { inspectNames } from '../kernel/inspect.ts';
import { CONFINED } from '../scan/confined.ts';
import { excludeMatcher } from '../scan/exclude.ts';
import type { Reason } from '../scan/reasons.ts';
import { Scanner, type ScannedFile, type ScanOptions } from '../scan/scan.ts';
import type { TargetPath } from '../scan/session.ts';
import type { Target } from '../scan/targets.ts';
import { readRegularFile } from '../state/regularFile.ts';

const EFBIG = 27;
/** Nobody orders so many files. */
const MOST_BYTES = 64 * 1024 * 1024;
/** Files looked at by one call. */
const LOOK = 64;
/** What is found where a name leads to no file of the target. */
const NO_FILE: ReadonlySet<Reason> = new Set<Reason>(['not-regular', 'other-filesystem', 'vanished']);
const [NUL, NEWLINE, SLASH] = [0x00, 0x0a, 0x2f];

export interface OrderOptions {
  /**
   * Files to be laid one behind the other in this order, in as few runs as possible and whatever size they are: such as
   * those that are read at boot. Paths as of targets; what is no file of a target is skipped.
   */
  readonly order?: readonly TargetPath[] | undefined;
  /** A file with such a list: a path in each line, or up to each NUL where there is one. */
  readonly orderFile?: TargetPath | undefined;
}

/** @throws TypeError, RangeError */
export function checkOrderOptions({ order, orderFile }: OrderOptions): void {
  if (typeof order === 'string' || Buffer.isBuffer(order))
    throw new TypeError('order must be a list of paths');
  if (order !== undefined && orderFile !== undefined) {
    throw new RangeError('order and orderFile exclude each other');
  }
}

/** Files in the order in which they are to lie. */
export class OrderList {
  /** What the list is called, if anything. */
  readonly path: Buffer | undefined;
  readonly #names: readonly Buffer[];
  /** Numbers of the names that were found to be a file of some target. */
  readonly #found = new Set<number>();

  /** The list that is asked for, if any. @throws as {@link OrderList.read} */
  static async of({ order, orderFile }: OrderOptions): Promise<OrderList | undefined> {
    if (orderFile !== undefined) return OrderList.read(orderFile);
    return order && new OrderList(order);
  }

  /**
   * Reads a list: a path in each line, or, where there is a NUL in it, up to each NUL.
   *
   * @throws a system error; EINVAL for what is no regular file, EFBIG for what is too long to be a list
   */
  static async read(path: TargetPath): Promise<OrderList> {
    const content = await readRegularFile(path, MOST_BYTES);
    if (content === undefined) throw new SystemError(EFBIG, 'read', path.toString());
    return new OrderList(namesIn(content), Buffer.from(path));
  }

  /** @param paths relative to the working directory, or absolute */
  constructor(paths: readonly TargetPath[], path?: Buffer) {
    this.path = path;
    this.#names = paths.map((name) => Buffer.from(name));
  }

  /**
   * The files of a target that the list names and that have blocks, in its order and each once. A symbolic link stands
   * for the file that it leads to. Ends early and quietly when the signal is aborted.
   */
  async *filesOf(target: Target, options: ScanOptions): AsyncGenerator<ScannedFile, void, void> {
    const folder = await readlink(`/proc/self/fd/${target.dirFd}`, 'buffer');
    const excluded = excludeMatcher(options.exclude ?? []);
    const met = new Set<number>();
    // One of its own: what is found here is not met by the run's.
    const scanner = new Scanner(options, false);
    for (let from = 0; from < this.#names.length && !options.signal?.aborted; from += LOOK) {
      const some = this.#names.slice(from, from + LOOK);
      const below = (await Promise.all(some.map((name) => relativeTo(folder, name)))).flatMap(
        (relative, i) => (relative === undefined ? [] : [{ relative, number: from + i }]),
      );
      const wanted = below.filter(({ relative }) => isOf(target, relative));
      const found = await inspectNames(
        target.dirFd,
        wanted.map(({ relative }) => relative),
        target.filesystem.blockSize,
        CONFINED,
      );
      for (const [i, { relative, number }] of wanted.entries()) {
        const item = await scanner.byName(target, relative, found[i]);
        if (item.kind !== 'skip' || !NO_FILE.has(item.reason)) this.#found.add(number);
        if (item.kind !== 'file' || excluded(relative) || met.has(item.inode)) continue;
        met.add(item.inode);
        yield item;
      }
    }
  }

  /** What was no file of any target so far. */
  *unknown(): Iterable<Buffer> {
    for (const [number, name] of this.#names.entries()) if (!this.#found.has(number)) yield name;
  }
}

function namesIn(content: Buffer): Buffer[] {
  const separator = content.includes(NUL) ? NUL : NEWLINE;
  const names: Buffer[] = [];
  for (let at = 0; at < content.length;) {
    const end = content.indexOf(separator, at);
    const stop = end < 0 ? content.length : end;
    if (stop > at) names.push(content.subarray(at, stop));
    at = stop + 1;
  }
  return names;
}

/** Where a path leads to below a folder; undefined when that is not below it, or nowhere. */
async function relativeTo(folder: Buffer, path: Buffer): Promise<Buffer | undefined> {
  try {
    const real = await realpath(path, 'buffer');
    const start = folder.at(-1) === SLASH ? folder.length : folder.length + 1;
    const isBelow = real.length > start && real[start - 1] === SLASH;
    return isBelow && real.subarray(0, folder.length).equals(folder) ? real.subarray(start) : undefined;
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return undefined;
  }
}

/** A target that is a file is that file alone. */
const isOf = ({ kind, start }: Target, relative: Buffer): boolean =>
  kind !== 'file' || relative.equals(start);
