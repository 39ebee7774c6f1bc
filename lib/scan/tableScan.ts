import { FileColumns } from '../ext4/files.ts';
import { Invalid } from '../ext4/invalid.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd, O, openAt, openByHandle, readEntries } from '../kernel/handle.ts';
import { inspectHandles, type Inspected } from '../kernel/inspect.ts';
import { bytes, type Blocks } from '../layout/units.ts';
import type { FreeMap } from '../place/freeMap.ts';
import { DirectoryColumns } from '../ext4/directories.ts';
import type { ExtentVisitor } from '../ext4/tables.ts';
import { Ext4Device } from './device.ts';
import { outsideLimits } from './eligibility.ts';
import { excludeMatcher } from './exclude.ts';
import { freeSpace, heldBack, type FreeSpace } from './freeSpace.ts';
import { readAllTables, scanInodeTables, type InodeBatch } from './inodeTables.ts';
import { InodeSet } from './inodeSet.ts';
import { findFewNames } from './fewNames.ts';
import { findNames, includedInodes, type Names } from './names.ts';
import type { Reason } from './reasons.ts';
import { nameless, type ScanItem, type ScannedFile, type Scanner, type ScanOptions } from './scan.ts';
import { join, type Target } from './targets.ts';

const ROOT_INODE = 2n;
/** Files opened by one call, and calls at a time. */
const INSPECT = { files: 64, calls: 3 };
/** Layouts are handed on before there are more of them, or they hold more extents. */
const HELD = { files: 1024, extents: 256 * 1024 };
/** No file has this number. */
const NO_INODE = 0;

/** A file that the kernel was asked about. */
export interface FoundByNumber {
  readonly inode: number;
  readonly item: ScanItem;
}

/** What a stretch of the tables holds. */
export interface TableBatch {
  /** Files in one piece. They are not opened: there is nothing to decide. */
  readonly contiguous: FileColumns;
  /** Files in several pieces, and those whose layout only the kernel can tell: confirmed by it. */
  readonly confirmed: readonly ScannedFile[];
  readonly failed: readonly { readonly inode: number; readonly path: Buffer; readonly error: Error }[];
  /** Inodes gone over so far, of `total`. */
  readonly done: number;
  readonly total: number;
}

/**
 * The files of a whole filesystem, found from the inode tables on its device. What the tables say of a file in one
 * piece is believed: it is left alone. Every other file is opened by its inode number, and its layout is FIEMAP's.
 */
export class TableScan {
  /** What the tables say of inodes that are no candidates, and files left alone since, by reason. */
  #counted: Partial<Record<Reason, number>> = {};
  readonly #left = new Map<Reason, number>();
  readonly #target: Target;
  readonly #device: Ext4Device;
  readonly #scanner: Scanner;
  readonly #options: ScanOptions;
  /** Why a file is left alone that is told apart by name. */
  readonly #outside: Reason;
  readonly #directories = new DirectoryColumns();
  /** Whether files are told apart by name. */
  #byName = false;

  private constructor(target: Target, device: Ext4Device, scanner: Scanner, options: ScanOptions) {
    this.#target = target;
    this.#device = device;
    this.#scanner = scanner;
    this.#options = options;
    this.#outside = (options.exclude ?? []).length > 0 ? 'excluded' : 'lost-found';
  }

  /** @returns the scan, which the caller closes, or why this whole filesystem must be walked */
  static async openWhole(
    target: Target,
    scanner: Scanner,
    options: ScanOptions,
  ): Promise<TableScan | string> {
    const { device: path, id, blockSize } = target.filesystem;
    try {
      await closeFd(await openByHandle(target.dirFd, Number(ROOT_INODE), 0, O.RDONLY | O.DIRECTORY));
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return 'files cannot be opened by inode number here (that takes CAP_DAC_READ_SEARCH)';
    }
    try {
      const device = await Ext4Device.open(path, id);
      if (device instanceof Invalid) return `${path} cannot be understood: ${device.reason}`;
      if (device.superblock.blockSize === blockSize) return new TableScan(target, device, scanner, options);
      await device.close();
      return `${path} holds another filesystem than the mounted one`;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return `${path} cannot be read: ${error.message}`;
    }
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  /** An empty set that inodes of this filesystem can be put into. */
  inodeSet(): InodeSet {
    return new InodeSet(this.#device.superblock.inodesCount);
  }

  /** Of the filesystem. */
  get blocksCount(): Blocks {
    return this.#device.superblock.blocksCount;
  }

  /** How many files have no event of their own, by reason. */
  *skipped(): Iterable<[Reason, number]> {
    yield* Object.entries(this.#counted) as [Reason, number][];
    yield* this.#left;
  }

  /** Goes over the tables. Ends early and quietly when the signal is aborted. */
  async *batches(signal = this.#options.signal): AsyncGenerator<TableBatch, void, void> {
    this.#byName = await this.#judgesNames();
    const included = this.#byName ? await this.#findIncluded(signal) : undefined;
    // Where files are told apart by name, and where they were met before, it is not known which these are.
    const first = this.#scanner.claim(this.#target.filesystem.id, NO_INODE, 2) && included === undefined;
    const directories = included === undefined ? this.#directories : undefined;
    for await (const batch of scanInodeTables(this.#device, { signal, directories })) {
      const contiguous = new FileColumns(batch.files.count);
      const candidates = new FileColumns(0);
      for (const files of [batch.files, batch.doubtful]) {
        for (let row = 0; row < files.count; row++) {
          if (!this.#counts(files, row, included)) continue;
          const sure = files === batch.files && files.fragments[row] === 1;
          (sure ? contiguous : candidates).copy(files, row);
        }
      }
      const { done, total, counts } = batch;
      if (first) {
        const { special, inline, empty, unmapped } = counts;
        this.#counted = { 'not-regular': special, 'inline-data': inline, empty, 'no-blocks': unmapped };
      }
      yield { contiguous, confirmed: [], failed: [], done, total };
      for await (const group of this.#confirm(candidates)) {
        yield { contiguous: new FileColumns(0), ...group, done, total };
      }
    }
  }

  /**
   * Every file with extents as the tables show it, confirmed by nobody and whatever it is called.
   *
   * @param extents is told of each extent of them
   */
  unconfirmed(
    extents?: ExtentVisitor,
  ): AsyncGenerator<Pick<InodeBatch, 'files' | 'done' | 'total'>, void, void> {
    const { signal } = this.#options;
    return scanInodeTables(this.#device, { signal, directories: this.#directories, extents });
  }

  /** Whether a file belongs to the target; if not, the reason is counted. */
  #counts(files: FileColumns, row: number, included: InodeSet | undefined): boolean {
    const inode = files.inode[row];
    const reason =
      included?.has(inode) === false
        ? this.#outside
        : (outsideLimits(bytes(files.size[row]), this.#options) ??
          (this.#scanner.claim(this.#target.filesystem.id, inode, 1) ? undefined : 'hard-link'));
    if (reason !== undefined) this.#skip(reason);
    return reason === undefined;
  }

  #skip(reason: Reason): void {
    this.#left.set(reason, (this.#left.get(reason) ?? 0) + 1);
  }

  /** Whether files have to be told apart by name: without --exclude, and with nothing in lost+found, none needs one. */
  async #judgesNames(): Promise<boolean> {
    if ((this.#options.exclude ?? []).length > 0) return true;
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    const fd = await openAt(this.#target.dirFd, Buffer.from('lost+found'), flags).catch(() => undefined);
    if (fd === undefined) return false;
    try {
      return (await readEntries(fd)).length > 0;
    } finally {
      await closeFd(fd);
    }
  }

  async #findIncluded(signal: AbortSignal | undefined): Promise<InodeSet> {
    const { exclude } = this.#options;
    await readAllTables(this.#device, { signal, directories: this.#directories });
    const { inodesCount } = this.#device.superblock;
    const matcher = excludeMatcher(exclude ?? []);
    return includedInodes(this.#device, this.#target.dirFd, this.#directories, matcher, inodesCount, {
      signal,
    });
  }

  /** Opens files by their numbers, in that order, and asks the kernel where they lie. */
  async *#confirm(
    candidates: FileColumns,
  ): AsyncGenerator<Pick<TableBatch, 'confirmed' | 'failed'>, void, void> {
    let confirmed: ScannedFile[] = [];
    let extents = 0;
    const failed: { inode: number; path: Buffer; error: Error }[] = [];
    const inOrder = [...candidates].sort((a, b) => a.inode - b.inode);
    for await (const { inode, item } of this.inspect(inOrder)) {
      if (item.kind === 'file') {
        confirmed.push(item);
        extents += item.extents.count;
        if (extents < HELD.extents && confirmed.length < HELD.files) continue;
        yield { confirmed, failed: [] };
        [confirmed, extents] = [[], 0];
      } else if (item.kind === 'skip') this.#skip(item.reason);
      else failed.push({ inode, path: item.path, error: item.error });
    }
    if (confirmed.length > 0 || failed.length > 0) yield { confirmed, failed };
  }

  /** The layouts of files as of now, in the order asked for. Ends early and quietly when the signal is aborted. */
  async *inspect(
    files: Iterable<{ readonly inode: number; readonly generation: number }>,
  ): AsyncGenerator<FoundByNumber, void, void> {
    const list = [...files];
    const inodes = Uint32Array.from(list, ({ inode }) => inode);
    const generations = Uint32Array.from(list, ({ generation }) => generation);
    const { dirFd, filesystem } = this.#target;
    const calls: Promise<readonly Inspected[]>[] = [];
    let asked = 0;
    let at = 0;
    try {
      while (at < inodes.length && !this.#options.signal?.aborted) {
        for (; asked < inodes.length && calls.length < INSPECT.calls; asked += INSPECT.files) {
          const [from, to] = [asked, asked + INSPECT.files];
          calls.push(
            inspectHandles(
              dirFd,
              inodes.subarray(from, to),
              generations.subarray(from, to),
              filesystem.blockSize,
            ),
          );
        }
        for (const found of await calls.shift()!) {
          yield {
            inode: inodes[at],
            item: await this.#scanner.byHandle(this.#target, inodes[at], generations[at], found),
          };
          at++;
        }
      }
    } finally {
      // They use the target's descriptor.
      await Promise.allSettled(calls);
    }
  }

  /**
   * The names of files, when the tables have been gone over: one pass over the directories on the device. A file that
   * has none keeps its number for a name.
   */
  async names(wanted: (inode: number) => boolean, signal = this.#options.signal): Promise<FileNames> {
    const excluded = this.#byName ? excludeMatcher(this.#options.exclude ?? []) : undefined;
    const options = { signal, excluded };
    const names = await findNames(this.#device, this.#target.dirFd, this.#directories, wanted, options);
    return new FileNames(names);
  }

  /** {@link names} of a few files: most often found in a small part of the directories. */
  async namesOf(inodes: readonly number[]): Promise<FileNames> {
    const { signal } = this.#options;
    const names = this.#byName
      ? undefined
      : await findFewNames(this.#device, this.#target.dirFd, this.#directories, inodes, signal);
    if (names !== undefined) return new FileNames(names);
    const wanted = new Set(inodes);
    return this.names((inode) => wanted.has(inode));
  }

  freeSpace(): Promise<FreeSpace | undefined> {
    return freeSpace(this.#device, this.#options.signal);
  }

  /** {@link heldBack}: blocks that the bitmaps call free and a map does not. */
  heldBack(map: FreeMap): Promise<Blocks | undefined> {
    return heldBack(this.#device, map, this.#options.signal);
  }
}

/** The names that were found for the files of a scan. */
export class FileNames {
  readonly #names: Names;

  constructor(names: Names) {
    this.#names = names;
  }

  /** Below the filesystem's root. */
  relativePath(inode: number): Buffer {
    return this.#names.relativePath(inode) ?? nameless(inode);
  }

  pathOf({ dirPath }: Target, inode: number): Buffer {
    return join(dirPath, this.relativePath(inode));
  }

  /** The directory that a file is in. */
  parentOf(inode: number): number | undefined {
    return this.#names.parentOf(inode);
  }
}
