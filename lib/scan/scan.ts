import { readFile, stat } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';
import { errorCode, isSystemFailure } from '../kernel/errors.ts';
import { fiemap, FIEMAP_FLAG_SYNC } from '../kernel/fiemap.ts';
import {
  closeFd,
  DT,
  inodeFlags,
  O,
  openAt,
  readEntries,
  RESOLVE,
  statFd,
  type DirectoryEntry,
} from '../kernel/handle.ts';
import { mergeExtents, type ExtentTable } from '../layout/extents.ts';
import { bytes, type Bytes } from '../layout/units.ts';
import { immovable, outsideLimits, withoutLayout, type SizeLimits } from './eligibility.ts';
import { excludeMatcher, type Matcher } from './exclude.ts';
import type { Reason } from './reasons.ts';
import { join, type Target } from './targets.ts';

export interface ScanOptions extends SizeLimits {
  /** Globs of names or paths to leave out; see {@link excludeMatcher}. */
  readonly exclude?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A regular file and its layout. */
export interface ScannedFile {
  readonly kind: 'file';
  readonly target: Target;
  /** Below `target.dirPath`. */
  readonly relative: Buffer;
  readonly path: Buffer;
  readonly inode: number;
  readonly size: Bytes;
  /** Somebody may execute it. */
  readonly executable: boolean;
  /** Merged. */
  readonly extents: ExtentTable;
  /** Why it may be looked at and not moved. */
  readonly immovable: Reason | undefined;
}

export interface SkippedFile {
  readonly kind: 'skip';
  readonly path: Buffer;
  readonly reason: Reason;
}

export interface UnreadableFile {
  readonly kind: 'failed';
  readonly path: Buffer;
  readonly error: Error;
}

export type ScanItem = ScannedFile | SkippedFile | UnreadableFile;

/** Beneath the target, on its filesystem, through no symbolic link: whatever others rename meanwhile. */
const CONFINED = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV;

/** Files looked at side by side: as many as libuv has worker threads, and as many waiting. */
const IN_FLIGHT = 8;

const ROOT_INODE = 2n;

/**
 * Walks targets and answers every name below them once, each with its layout or the reason why not. Ends early
 * and quietly when the signal is aborted.
 */
export class Scanner {
  readonly #excluded: Matcher;
  readonly #options: ScanOptions;
  readonly #overlapping: boolean;
  /** Inodes seen, by filesystem. */
  readonly #seen = new Map<string, Set<number>>();
  readonly #swapFiles: Promise<ReadonlySet<string>>;

  /** @param overlapping whether targets may share files; with one target only hard links need to be remembered */
  constructor(options: ScanOptions, overlapping: boolean) {
    this.#options = options;
    this.#overlapping = overlapping;
    this.#excluded = excludeMatcher(options.exclude ?? []);
    this.#swapFiles = readSwapFiles();
  }

  async *scan(target: Target): AsyncGenerator<ScanItem, void, void> {
    if (target.kind === 'file') yield await this.#file(target, target.start);
    else yield* this.#walk(target);
  }

  async *#walk(target: Target): AsyncGenerator<ScanItem, void, void> {
    const pending: Buffer[] = [Buffer.alloc(0)];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      if (this.#options.signal?.aborted) return;
      let fd: number;
      try {
        fd = await openDirectory(target, directory);
      } catch (error) {
        yield failure(join(target.dirPath, directory), error);
        continue;
      }
      try {
        const inRoot = (await statFd(fd)).ino === ROOT_INODE;
        for (let entries = await readEntries(fd); entries.length > 0; entries = await readEntries(fd)) {
          const items = this.#entries(target, directory, inRoot, entries);
          for await (const item of items) {
            if (Buffer.isBuffer(item)) pending.push(item);
            else yield item;
          }
        }
      } catch (error) {
        yield failure(join(target.dirPath, directory), error);
      } finally {
        await closeFd(fd);
      }
    }
  }

  /** Answers a directory's sub-directories as paths, and its other names as items, in inode order. */
  async *#entries(
    target: Target,
    directory: Buffer,
    inRoot: boolean,
    entries: DirectoryEntry[],
  ): AsyncGenerator<Buffer | ScanItem, void, void> {
    entries.sort((a, b) => a.inode - b.inode);
    for (let at = 0; at < entries.length; at += IN_FLIGHT) {
      if (this.#options.signal?.aborted) return;
      const slice = entries.slice(at, at + IN_FLIGHT);
      yield* await Promise.all(slice.map((entry) => this.#entry(target, directory, inRoot, entry)));
    }
  }

  async #entry(
    target: Target,
    directory: Buffer,
    inRoot: boolean,
    { name, kind }: DirectoryEntry,
  ): Promise<Buffer | ScanItem> {
    const relative = join(directory, name);
    const path = join(target.dirPath, relative);
    if (inRoot && kind === DT.DIRECTORY && name.toString() === 'lost+found') {
      return { kind: 'skip', path, reason: 'lost-found' };
    }
    if (this.#excluded(relative)) return { kind: 'skip', path, reason: 'excluded' };
    if (kind === DT.DIRECTORY) return relative;
    if (kind !== DT.REGULAR && kind !== DT.UNKNOWN) return { kind: 'skip', path, reason: 'not-regular' };
    const item = await this.#file(target, relative);
    const isDirectory = kind === DT.UNKNOWN && item.kind === 'skip' && item.reason === 'not-regular';
    return isDirectory && (await canOpenDirectory(target, relative)) ? relative : item;
  }

  async #file(target: Target, relative: Buffer): Promise<ScanItem> {
    const path = join(target.dirPath, relative);
    try {
      // O_NONBLOCK: what was a file when the directory was read may be a FIFO by now.
      const flags = O.RDONLY | O.NONBLOCK | O.NOFOLLOW;
      const fd = await openAt(target.dirFd, relative, flags, { resolve: CONFINED });
      try {
        return await this.#inspect(target, relative, path, fd);
      } finally {
        await closeFd(fd);
      }
    } catch (error) {
      return failure(path, error);
    }
  }

  async #inspect(target: Target, relative: Buffer, path: Buffer, fd: number): Promise<ScanItem> {
    const inode = await statFd(fd);
    const skip = (reason: Reason): SkippedFile => ({ kind: 'skip', path, reason });
    if (!inode.isFile()) return skip('not-regular');
    if (!this.#firstSight(target.filesystem.id, inode)) return skip('hard-link');
    const facts = {
      regular: true,
      size: bytes(Number(inode.size)),
      hasBlocks: inode.blocks > 0n,
      flags: await inodeFlags(fd),
      swap: (await this.#swapFiles).has(inodeKey(inode)),
    };
    const reason = withoutLayout(facts) ?? outsideLimits(facts.size, this.#options);
    if (reason !== undefined) return skip(reason);
    const extents = mergeExtents(await fiemap(fd, target.filesystem.blockSize));
    return {
      kind: 'file',
      target,
      relative,
      path,
      inode: Number(inode.ino),
      size: facts.size,
      executable: (inode.mode & 0o111n) !== 0n,
      extents,
      immovable: immovable(facts),
    };
  }

  /** Whether this inode was not met before, under another name or through another target. */
  #firstSight(filesystem: string, inode: BigIntStats): boolean {
    if (inode.nlink === 1n && !this.#overlapping) return true;
    let seen = this.#seen.get(filesystem);
    if (seen === undefined) this.#seen.set(filesystem, (seen = new Set()));
    const number = Number(inode.ino);
    if (seen.has(number)) return false;
    seen.add(number);
    return true;
  }
}

/** A file opened again for moving: the inode that was scanned, its layout as of now. */
export interface OpenedFile {
  readonly fd: number;
  readonly size: Bytes;
  /** Merged, with no delayed allocation pending when it was read. */
  readonly extents: ExtentTable;
}

/** Opens a scanned file for moving, or answers why it cannot be. The caller closes it. */
export async function openForMove(file: ScannedFile): Promise<OpenedFile | Reason> {
  const pathFd = await openAt(file.target.dirFd, file.relative, O.PATH | O.NOFOLLOW, { resolve: CONFINED });
  let fd: number;
  try {
    const inode = await statFd(pathFd);
    if (!inode.isFile() || Number(inode.ino) !== file.inode) return 'vanished';
    // Through the descriptor: nothing that takes the name's place meanwhile is opened for writing.
    fd = await openAt(pathFd, Buffer.from(`/proc/self/fd/${pathFd}`), O.RDWR | O.NONBLOCK);
  } finally {
    await closeFd(pathFd);
  }
  try {
    const { size } = await statFd(fd);
    const extents = await fiemap(fd, file.target.filesystem.blockSize, { flags: FIEMAP_FLAG_SYNC });
    return { fd, size: bytes(Number(size)), extents: mergeExtents(extents) };
  } catch (error) {
    await closeFd(fd);
    throw error;
  }
}

/** The directory of a scanned file, or undefined when it went away. The caller closes it. */
export function openParent({ target, relative }: ScannedFile): Promise<number | undefined> {
  const directory = relative.subarray(0, Math.max(0, relative.lastIndexOf(0x2f)));
  return openDirectory(target, directory).catch(() => undefined);
}

/** The reason behind an error that says something of the file and not of the system, or undefined. */
export function reasonOf(error: unknown): Reason | undefined {
  switch (errorCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ESTALE':
    case 'ELOOP':
      return 'vanished';
    case 'EACCES':
    case 'EPERM':
      return 'no-permission';
    case 'EXDEV':
      return 'other-filesystem';
    case 'ENAMETOOLONG':
      return 'name-too-long';
    case 'ETXTBSY':
      return 'running';
    case 'EAGAIN':
      return 'open-elsewhere';
    case 'EROFS':
      return 'read-only';
    case 'ENXIO':
      return 'not-regular';
    default:
      return undefined;
  }
}

function failure(path: Buffer, error: unknown): ScanItem {
  const reason = reasonOf(error);
  if (reason !== undefined) return { kind: 'skip', path, reason };
  if (!isSystemFailure(error)) throw error;
  return { kind: 'failed', path, error };
}

function openDirectory(target: Target, relative: Buffer): Promise<number> {
  const name = relative.length === 0 ? Buffer.from('.') : relative;
  return openAt(target.dirFd, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW, { resolve: CONFINED });
}

async function canOpenDirectory(target: Target, relative: Buffer): Promise<boolean> {
  const fd = await openDirectory(target, relative).catch(() => undefined);
  if (fd !== undefined) await closeFd(fd);
  return fd !== undefined;
}

const inodeKey = (inode: BigIntStats): string => `${inode.dev}:${inode.ino}`;

/** The inodes of active swap files (/proc/swaps, proc_swaps(5)). */
async function readSwapFiles(): Promise<ReadonlySet<string>> {
  const text = await readFile('/proc/swaps', 'latin1').catch(() => '');
  const keys = new Set<string>();
  for (const line of text.split('\n').slice(1)) {
    const [name, type] = line.split(/\s+/);
    if (type !== 'file') continue;
    const path = name.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    const inode = await stat(Buffer.from(path, 'latin1'), { bigint: true }).catch(() => undefined);
    if (inode !== undefined) keys.add(inodeKey(inode));
  }
  return keys;
}
