import { readFile, readlink, stat } from 'node:fs/promises';
import { errorCode, isSystemFailure } from '../kernel/errors.ts';
import { fiemap, FIEMAP_FLAG_SYNC } from '../kernel/fiemap.ts';
import {
  AT_FDCWD,
  closeFd,
  DT,
  O,
  inodeGeneration,
  openAt,
  openBeneath,
  openByHandle,
  statFd,
} from '../kernel/handle.ts';
import { inspectNames, isRegular, type Inspected, type InspectedInode } from '../kernel/inspect.ts';
import { ExtentTable, mergeExtents } from '../layout/extents.ts';
import { bytes, type Bytes } from '../layout/units.ts';
import { CONFINED } from './confined.ts';
import { immovable, outsideLimits, withoutLayout, type SizeLimits } from './eligibility.ts';
import { excludeMatcher, type Matcher } from './exclude.ts';
import { SparseInodeSet } from './inodeSet.ts';
import { readMounts, type Filesystem } from './filesystem.ts';
import { deviceName, mountsBelow } from './mounts.ts';
import type { Reason } from './reasons.ts';
import { join, type Target } from './targets.ts';
import { walk, type Judge, type Walked } from './walk.ts';

/** Which files are looked at, and until when. */
export interface ScanOptions extends SizeLimits {
  /**
   * Globs of what to leave out: one without a slash matches a name at any depth, one with a slash the path from the
   * target on. What lies below a matching directory is left out with it.
   */
  readonly exclude?: readonly string[] | undefined;
  /** Ends the run after what is in hand, everything committed. */
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
  /** Of a file that was found by its number: it is opened by that, whatever it is called. */
  readonly handle?: { readonly generation: number; readonly parent?: number | undefined };
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

const ROOT_INODE = 2n;

/**
 * Walks targets and answers every name below them once, each with its layout or the reason why not. Ends early
 * and quietly when the signal is aborted.
 */
export class Scanner {
  readonly #excluded: Matcher | undefined;
  readonly #options: ScanOptions;
  readonly #overlapping: boolean;
  /** Inodes seen, by filesystem. */
  readonly #seen = new Map<string, SparseInodeSet>();
  readonly #swapFiles: Promise<SwapFiles>;
  /** The file that has been asked for before its scan. */
  #asked: { readonly target: Target; readonly found: Promise<Inspected[]> } | undefined;

  /** @param overlapping whether targets may share files; with one target only hard links need to be remembered */
  constructor(options: ScanOptions, overlapping: boolean) {
    this.#options = options;
    this.#overlapping = overlapping;
    const exclude = options.exclude ?? [];
    this.#excluded = exclude.length === 0 ? undefined : excludeMatcher(exclude);
    this.#swapFiles = readSwapFiles();
  }

  /**
   * Asks for a target that is one file, for who makes something else ready before the scan.
   *
   * @returns what is to be awaited before the target is closed; it never rejects
   */
  async askFor(target: Target): Promise<void> {
    if (target.kind !== 'file') return;
    const found = inspectTarget(target);
    this.#asked = { target, found };
    await found.catch(() => undefined);
  }

  async *scan(target: Target): AsyncGenerator<ScanItem, void, void> {
    const { dirFd, start, filesystem } = target;
    const swapInodes = (await this.#swapFiles).get(filesystem.id);
    // Text of a byte a character, from which every path is made in one go.
    const folder = join(target.dirPath, Buffer.from('.')).toString('latin1').slice(0, -1);
    const item = ({ relative, found }: Walked): ScanItem => {
      const path = relative === '' ? target.dirPath : Buffer.from(folder + relative, 'latin1');
      if (typeof found === 'string') return { kind: 'skip', path, reason: found };
      if (found instanceof Error) return failure(path, found);
      if (found.kind === 'error') return failure(path, found.error);
      return this.#inode(target, path, path.subarray(folder.length), found, swapInodes);
    };
    if (target.kind === 'file') {
      const [found] = await (this.#asked?.target === target ? this.#asked.found : inspectTarget(target));
      this.#asked = undefined;
      yield item({ relative: start.toString('latin1'), found });
      return;
    }
    const inRoot = (await statFd(dirFd)).ino === ROOT_INODE;
    // Opening one is refused in any case, but on kernels of before 2025 that sets off an automount.
    const path = await readlink(`/proc/self/fd/${dirFd}`, 'buffer');
    const mounts = mountsBelow(await readMounts(), path);
    const deviceFd = await openDevice(filesystem);
    try {
      const root = { rootFd: dirFd, deviceFd, blockSize: filesystem.blockSize };
      for await (const batch of walk(root, this.#judge(inRoot, mounts), this.#options.signal)) {
        for (const name of batch) yield item(name);
      }
    } finally {
      if (deviceFd !== undefined) await closeFd(deviceFd);
    }
  }

  #judge(inRoot: boolean, mounts: ReadonlySet<string>): Judge {
    return (relative, kind) => {
      if (inRoot && kind === DT.DIRECTORY && relative === 'lost+found') return 'lost-found';
      if (this.#excluded?.(Buffer.from(relative, 'latin1'))) return 'excluded';
      if (mounts.has(relative)) return 'other-filesystem';
      if (kind === DT.DIRECTORY || kind === DT.REGULAR || kind === DT.UNKNOWN) return undefined;
      return 'not-regular';
    };
  }

  #inode(
    target: Target,
    path: Buffer,
    relative: Buffer,
    found: InspectedInode,
    swapInodes: ReadonlySet<number> | undefined,
    handle?: ScannedFile['handle'],
  ): ScanItem {
    const { inode, size, hasBlocks, mode, flags, extents } = found;
    const skip = (reason: Reason): SkippedFile => ({ kind: 'skip', path, reason });
    if (!isRegular(mode)) return skip('not-regular');
    if (handle === undefined && !this.claim(target.filesystem.id, inode, found.links))
      return skip('hard-link');
    const facts = { regular: true, size, hasBlocks, flags, swap: swapInodes?.has(inode) ?? false };
    const reason = withoutLayout(facts) ?? outsideLimits(size, this.#options);
    if (reason !== undefined) return skip(reason);
    const file: ScannedFile = {
      kind: 'file',
      target,
      relative,
      path,
      inode,
      size,
      executable: (mode & 0o111) !== 0,
      extents: mergeExtents(extents ?? new ExtentTable(0)),
      immovable: immovable(facts),
    };
    return handle === undefined ? file : { ...file, handle };
  }

  /** The item of a file that was opened by its number, under a name that stands for it. */
  async byHandle(target: Target, inode: number, generation: number, found: Inspected): Promise<ScanItem> {
    const name = nameless(inode);
    const path = join(target.dirPath, name);
    if (found.kind === 'error') return failure(path, found.error);
    const swapInodes = (await this.#swapFiles).get(target.filesystem.id);
    return this.#inode(target, path, name, found, swapInodes, { generation });
  }

  /** The item of a file that was opened by its name below the target. */
  async byName(target: Target, name: Buffer, found: Inspected): Promise<ScanItem> {
    const path = join(target.dirPath, name);
    if (found.kind === 'error') return failure(path, found.error);
    return this.#inode(target, path, name, found, (await this.#swapFiles).get(target.filesystem.id));
  }

  /**
   * Whether this inode was not met before, under another name or through another target. Only then is it remembered.
   *
   * @param filesystem its id
   */
  claim(filesystem: string, inode: number, links: number): boolean {
    if (links === 1 && !this.#overlapping) return true;
    let seen = this.#seen.get(filesystem);
    if (seen === undefined) this.#seen.set(filesystem, (seen = new SparseInodeSet()));
    return seen.add(inode);
  }
}

const inspectTarget = ({ dirFd, start, filesystem }: Target): Promise<Inspected[]> =>
  inspectNames(dirFd, [start], filesystem.blockSize, CONFINED);

/** What stands for the name of a file that is not known, or not yet. */
export const nameless = (inode: number): Buffer => Buffer.from(`<inode ${inode}>`);

/** The layout of a file that is open for moving, as of now. */
export interface CurrentLayout {
  readonly size: Bytes;
  /** Merged, with no delayed allocation pending when it was read. */
  readonly extents: ExtentTable;
}

/**
 * Opens a scanned file for moving, or answers undefined when it is not there any more. Nothing else is done, so that
 * a lease can be taken at once: until then whoever executes a program finds it busy. The caller closes it.
 */
export const openForMove = (file: ScannedFile): Promise<number | undefined> =>
  file.handle === undefined ? openByName(file, O.RDWR) : openByNumber(file, file.handle.generation);

/**
 * The generation of a scanned file's inode, or undefined when it is not there any more.
 *
 * @throws SystemError as open(2)
 */
export async function generationOf(file: ScannedFile): Promise<number | undefined> {
  if (file.handle !== undefined) return file.handle.generation;
  const fd = await openByName(file, O.RDONLY);
  if (fd === undefined) return undefined;
  try {
    return await inodeGeneration(fd);
  } finally {
    await closeFd(fd);
  }
}

/** Writes back what is pending of an open file and reads its layout. */
export async function currentLayout(fd: number, { target }: ScannedFile): Promise<CurrentLayout> {
  const { size } = await statFd(fd);
  const extents = await fiemap(fd, target.filesystem.blockSize, { flags: FIEMAP_FLAG_SYNC });
  return { size: bytes(Number(size)), extents: mergeExtents(extents) };
}

async function openByName(
  { target, relative, inode }: ScannedFile,
  access: number,
): Promise<number | undefined> {
  const pathFd = await openBeneath(target.dirFd, relative, O.PATH | O.NOFOLLOW, { resolve: CONFINED });
  try {
    const found = await statFd(pathFd);
    if (!found.isFile() || Number(found.ino) !== inode) return undefined;
    // Through the descriptor: nothing that takes the name's place meanwhile is opened for writing.
    return await openAt(pathFd, Buffer.from(`/proc/self/fd/${pathFd}`), access | O.NONBLOCK);
  } finally {
    await closeFd(pathFd);
  }
}

/** What has the number now is the same file: another one would have another generation. */
async function openByNumber({ target, inode }: ScannedFile, generation: number): Promise<number | undefined> {
  if (generation !== 0) return openByHandle(target.dirFd, inode, generation, O.RDWR | O.NONBLOCK);
  // The kernel takes 0 for any, and by now the number may be a device's, which must not be opened.
  const pathFd = await openByHandle(target.dirFd, inode, generation, O.PATH);
  try {
    if (!(await statFd(pathFd)).isFile()) return undefined;
    const fd = await openAt(pathFd, Buffer.from(`/proc/self/fd/${pathFd}`), O.RDWR | O.NONBLOCK);
    const same = (await inodeGeneration(fd)) === 0;
    if (!same) await closeFd(fd);
    return same ? fd : undefined;
  } finally {
    await closeFd(pathFd);
  }
}

/** Whether a file that was found by its number still has the name that it was found to have. */
export async function hasItsName({ target, relative, inode }: ScannedFile): Promise<boolean> {
  const flags = O.PATH | O.NOFOLLOW;
  const fd = await openBeneath(target.dirFd, relative, flags, { resolve: CONFINED }).catch(() => undefined);
  if (fd === undefined) return false;
  try {
    return Number((await statFd(fd)).ino) === inode;
  } finally {
    await closeFd(fd);
  }
}

/** The directory of a scanned file, or undefined when it went away. The caller closes it. */
export async function openParent({ target, relative, handle }: ScannedFile): Promise<number | undefined> {
  if (handle !== undefined) {
    if (handle.parent === undefined) return undefined;
    return openByHandle(target.dirFd, handle.parent, 0, O.RDONLY | O.DIRECTORY).catch(() => undefined);
  }
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
    case 'ENOKEY':
      return 'encrypted';
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
  const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
  return openBeneath(target.dirFd, relative, flags, { resolve: CONFINED });
}

/** The block device of a filesystem, or undefined where it may not be read, or the path is another device's by now. */
async function openDevice({ device, id }: Filesystem): Promise<number | undefined> {
  const fd = await openAt(AT_FDCWD, Buffer.from(device), O.RDONLY | O.NONBLOCK).catch(() => undefined);
  if (fd === undefined) return undefined;
  const info = await statFd(fd);
  if (info.isBlockDevice() && deviceName(info.rdev) === id) return fd;
  await closeFd(fd);
  return undefined;
}

/** The inodes of active swap files, by the filesystem's id. */
type SwapFiles = ReadonlyMap<string, ReadonlySet<number>>;

/** Active swap files (/proc/swaps, proc_swaps(5)). */
async function readSwapFiles(): Promise<SwapFiles> {
  const text = await readFile('/proc/swaps', 'latin1').catch(() => '');
  const files = new Map<string, Set<number>>();
  for (const line of text.split('\n').slice(1)) {
    const [name, type] = line.split(/\s+/);
    if (type !== 'file') continue;
    const path = name.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    const inode = await stat(Buffer.from(path, 'latin1'), { bigint: true }).catch(() => undefined);
    if (inode === undefined) continue;
    const filesystem = deviceName(inode.dev);
    const inodes = files.get(filesystem) ?? new Set();
    files.set(filesystem, inodes.add(Number(inode.ino)));
  }
  return files;
}
