import { FileColumns } from '../ext4/files.ts';
import { Invalid } from '../ext4/invalid.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd, O, openAt, openByHandle, readEntries, statFd } from '../kernel/handle.ts';
import { inspectHandles, type Inspected } from '../kernel/inspect.ts';
import { bytes } from '../layout/units.ts';
import { DirectoryColumns } from '../ext4/directories.ts';
import { Ext4Device } from './device.ts';
import { outsideLimits } from './eligibility.ts';
import { excludeMatcher } from './exclude.ts';
import { freeSpace, type FreeSpace } from './freeSpace.ts';
import { scanInodeTables } from './inodeTables.ts';
import { findNames, includedInodes, InodeSet, type Names } from './names.ts';
import type { Reason } from './reasons.ts';
import { nameless, type ScanItem, type ScannedFile, type Scanner, type ScanOptions } from './scan.ts';
import { join, type Target } from './targets.ts';

const ROOT_INODE = 2n;
/** Files opened by one call, and calls at a time. */
const INSPECT = { files: 64, calls: 3 };

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
  readonly skipped = new Map<Reason, number>();
  readonly #target: Target;
  readonly #device: Ext4Device;
  readonly #scanner: Scanner;
  readonly #options: ScanOptions;
  #directories: DirectoryColumns | undefined;

  private constructor(target: Target, device: Ext4Device, scanner: Scanner, options: ScanOptions) {
    this.#target = target;
    this.#device = device;
    this.#scanner = scanner;
    this.#options = options;
  }

  /**
   * @returns undefined when the target is no whole filesystem, and the reason when it is one that must be walked; the
   *   caller closes the scan
   */
  static async open(
    target: Target,
    scanner: Scanner,
    options: ScanOptions,
  ): Promise<TableScan | string | undefined> {
    if (target.kind === 'file' || (await statFd(target.dirFd)).ino !== ROOT_INODE) return undefined;
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

  /** Goes over the tables. Ends early and quietly when the signal is aborted. */
  async *batches(): AsyncGenerator<TableBatch, void, void> {
    const { signal } = this.#options;
    const included = (await this.#judgesNames()) ? await this.#included() : undefined;
    const directories = included === undefined;
    for await (const batch of scanInodeTables(this.#device, { signal, directories })) {
      if (directories) this.#gather(batch.directories);
      const contiguous = new FileColumns(0);
      const candidates = new FileColumns(0);
      for (const files of [batch.files, batch.doubtful]) {
        for (let row = 0; row < files.count; row++) {
          if (!this.#counts(files, row, included)) continue;
          const sure = files === batch.files && files.fragments[row] === 1;
          (sure ? contiguous : candidates).copy(files, row);
        }
      }
      const { done, total, counts } = batch;
      this.skipped.set('not-regular', counts.special);
      this.skipped.set('inline-data', counts.inline);
      this.skipped.set('empty', counts.empty);
      this.skipped.set('no-blocks', counts.unmapped);
      yield { contiguous, ...(await this.#confirm(candidates)), done, total };
    }
  }

  /** Whether a file belongs to the target; if not, the reason is counted. */
  #counts(files: FileColumns, row: number, included: InodeSet | undefined): boolean {
    const inode = files.inode[row];
    const outside = (this.#options.exclude ?? []).length > 0 ? 'excluded' : 'lost-found';
    const reason =
      included?.has(inode) === false
        ? outside
        : (outsideLimits(bytes(files.size[row]), this.#options) ??
          (this.#scanner.claim(this.#target.filesystem.id, inode, 1) ? undefined : 'hard-link'));
    if (reason !== undefined) this.#skip(reason);
    return reason === undefined;
  }

  #skip(reason: Reason): void {
    this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
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

  async #included(): Promise<InodeSet> {
    const { signal, exclude } = this.#options;
    for await (const { directories } of scanInodeTables(this.#device, { signal, directories: true })) {
      this.#gather(directories);
    }
    const { inodesCount } = this.#device.superblock;
    const matcher = excludeMatcher(exclude ?? []);
    return includedInodes(this.#device, this.#target.dirFd, this.#tree(), matcher, inodesCount, { signal });
  }

  #gather(directories: DirectoryColumns): void {
    if (this.#directories === undefined) this.#directories = directories;
    else this.#directories.append(directories);
  }

  #tree(): DirectoryColumns {
    return this.#directories ?? new DirectoryColumns();
  }

  /** Opens files by their numbers, in that order, and asks the kernel where they lie. */
  async #confirm(candidates: FileColumns): Promise<Pick<TableBatch, 'confirmed' | 'failed'>> {
    const confirmed: ScannedFile[] = [];
    const failed: { inode: number; path: Buffer; error: Error }[] = [];
    const inOrder = [...candidates].sort((a, b) => a.inode - b.inode);
    for await (const { inode, item } of this.inspect(inOrder)) {
      if (item.kind === 'file') confirmed.push(item);
      else if (item.kind === 'skip') this.#skip(item.reason);
      else failed.push({ inode, path: item.path, error: item.error });
    }
    return { confirmed, failed };
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
    await Promise.allSettled(calls);
  }

  /**
   * The names of files, when all batches have been gone over: one pass over the directories on the device. A file that
   * has none keeps its number for a name.
   */
  async names(wanted: (inode: number) => boolean): Promise<FileNames> {
    const { signal } = this.#options;
    const names = await findNames(this.#device, this.#target.dirFd, this.#tree(), wanted, { signal });
    return new FileNames(names);
  }

  freeSpace(): Promise<FreeSpace | undefined> {
    return freeSpace(this.#device, this.#options.signal);
  }
}

/** The names that were found for the files of a scan. */
export class FileNames {
  readonly #names: Names;

  constructor(names: Names) {
    this.#names = names;
  }

  pathOf({ dirPath }: Target, inode: number): Buffer {
    return join(dirPath, this.#names.relativePath(inode) ?? nameless(inode));
  }

  /** The directory that a file is in. */
  parentOf(inode: number): number | undefined {
    return this.#names.parentOf(inode);
  }
}
