import type { DirectoryColumns } from '../ext4/directories.ts';
import { grown } from '../layout/grown.ts';
import type { Ext4Device } from './device.ts';
import { visitDirectories, type EntryVisitor } from './entries.ts';
import type { Matcher } from './exclude.ts';
import { InodeSet } from './inodeSet.ts';

export interface NameOptions {
  readonly signal?: AbortSignal | undefined;
  /** Names that files shall not be called by, nor those below such directories; judges paths from the root on. */
  readonly excluded?: Matcher | undefined;
}

const ROOT_INODE = 2;
const SLASH = 0x2f;
/** Bytes of the longest path that is answered: many times PATH_MAX, and an end where directories go round in circles. */
const LONGEST_PATH = 64 * 1024;

/** The names of inodes, one of each, and the directories that they are in. */
export class Names {
  readonly #rows = new InodeRows();
  #parent = new Uint32Array(0);
  /** Where in the bytes a name is, behind a byte for its length. */
  #at = new Float64Array(0);
  #bytes = Buffer.alloc(0);
  #used = 0;

  /** Remembers a name, unless the inode has one. It is at `at` in `bytes`, not empty and of 255 bytes at most. */
  add(parent: number, inode: number, bytes: Buffer, at: number, length: number): void {
    if (this.#rows.find(inode) >= 0) return;
    const row = this.#rows.add(inode);
    if (row >= this.#parent.length) {
      const capacity = Math.max(64, row * 2);
      this.#parent = grown(this.#parent, new Uint32Array(capacity));
      this.#at = grown(this.#at, new Float64Array(capacity));
    }
    if (this.#used + 1 + length > this.#bytes.length) {
      const capacity = Math.max(4096, this.#bytes.length * 2);
      this.#bytes = grown(this.#bytes, Buffer.allocUnsafeSlow(capacity));
    }
    this.#parent[row] = parent;
    this.#at[row] = this.#used;
    this.#bytes[this.#used] = length;
    bytes.copy(this.#bytes, this.#used + 1, at, at + length);
    this.#used += 1 + length;
  }

  /** The inode of the directory that an inode's name is in, or undefined when it has none here. */
  parentOf(inode: number): number | undefined {
    const row = this.#rows.find(inode);
    return row < 0 ? undefined : this.#parent[row];
  }

  /**
   * The path from the filesystem's root on, without a slash at its start; empty for the root itself. Undefined when a
   * name is missing on the way, or the way is longer than any that somebody would use.
   */
  relativePath(inode: number): Buffer | undefined {
    const rows: number[] = [];
    let length = 0;
    for (let at = inode; at !== ROOT_INODE;) {
      const row = this.#rows.find(at);
      if (row < 0) return undefined;
      length += this.#bytes[this.#at[row]] + 1;
      if (length > LONGEST_PATH) return undefined;
      rows.push(row);
      at = this.#parent[row];
    }
    const path = Buffer.alloc(Math.max(0, length - 1), SLASH);
    let end = path.length;
    for (const row of rows) {
      const at = this.#at[row];
      const start = end - this.#bytes[at];
      this.#bytes.copy(path, start, at + 1, at + 1 + this.#bytes[at]);
      end = start - 1;
    }
    return path;
  }
}

/** Rows that belong to inodes, found by number: for a million a Map takes several times the memory. */
class InodeRows {
  count = 0;
  #inode = new Uint32Array(0);
  /** Open addressing: each slot is free or has a row and 1. At least half of them are free. */
  #slots = new Uint32Array(128);
  /** What leaves of 32 bits as many as a slot's number has. */
  #shift = 25;

  /** @returns the inode's row, or -1 */
  find(inode: number): number {
    return this.#slots[this.#slotOf(inode)] - 1;
  }

  /** @param inode one that has no row yet */
  add(inode: number): number {
    const row = this.count++;
    if (row === this.#inode.length) this.#inode = grown(this.#inode, new Uint32Array(Math.max(64, row * 2)));
    this.#inode[row] = inode;
    if (this.count * 2 > this.#slots.length) this.#rehash();
    else this.#slots[this.#slotOf(inode)] = row + 1;
    return row;
  }

  /** The slot of an inode, or the one where it would go. */
  #slotOf(inode: number): number {
    const mask = this.#slots.length - 1;
    // Knuth's multiplicative hash: its high bits are the good ones.
    let slot = Math.imul(inode, 0x9e37_79b1) >>> this.#shift;
    while (this.#slots[slot] !== 0 && this.#inode[this.#slots[slot] - 1] !== inode) slot = (slot + 1) & mask;
    return slot;
  }

  #rehash(): void {
    this.#slots = new Uint32Array(this.#slots.length * 2);
    this.#shift--;
    for (let row = 0; row < this.count; row++) this.#slots[this.#slotOf(this.#inode[row])] = row + 1;
  }
}

/**
 * Finds a name for every directory and for the inodes that are wanted: the first that is met, for one with several. Ends
 * early and quietly when the signal is aborted, with the names found so far.
 *
 * @param mountFd any open file or directory of the mounted filesystem
 * @param directories all of the filesystem's, as {@link scanInodeTables} finds them
 * @throws a system error when the device cannot be read
 */
export async function findNames(
  device: Ext4Device,
  mountFd: number,
  directories: DirectoryColumns,
  wanted: (inode: number) => boolean,
  { signal, excluded }: NameOptions = {},
): Promise<Names> {
  const { inodesCount } = device.superblock;
  const isDirectory = directorySet(directories, inodesCount);
  const names = new Names();
  const all = excluded === undefined;
  const remember: EntryVisitor = (directory, inode, bytes, nameAt, nameLength) => {
    if (isDirectory.has(inode) || (all && wanted(inode)))
      names.add(directory, inode, bytes, nameAt, nameLength);
  };
  await visitDirectories(device, mountFd, directories, remember, signal);
  if (all) return names;
  const leftOut = alsoLostAndFound(excluded);
  const included = includedDirectories(names, directories, leftOut, inodesCount);
  const visit = onlyIncluded(names, included, isDirectory, leftOut, (directory, inode, bytes, at, length) => {
    if (wanted(inode)) names.add(directory, inode, bytes, at, length);
  });
  await visitDirectories(device, mountFd, directories, visit, signal);
  return names;
}

/**
 * The inodes, directories among them, with a name that is not excluded and in no directory that is: the ones a walk
 * would meet. What lies in lost+found is excluded in any case. One whose path cannot be told is not included. Ends early and quietly when the signal is aborted, with the
 * inodes found so far.
 *
 * @param excluded judges paths from the filesystem's root on
 * @param inodesCount of the filesystem
 * @throws a system error when the device cannot be read
 */
export async function includedInodes(
  device: Ext4Device,
  mountFd: number,
  directories: DirectoryColumns,
  excluded: Matcher,
  inodesCount: number,
  { signal }: Pick<NameOptions, 'signal'> = {},
): Promise<InodeSet> {
  const tree = await findNames(device, mountFd, directories, () => false, { signal });
  const leftOut = alsoLostAndFound(excluded);
  const included = includedDirectories(tree, directories, leftOut, inodesCount);
  const isDirectory = directorySet(directories, inodesCount);
  const visit = onlyIncluded(tree, included, isDirectory, leftOut, (_, inode) => included.add(inode));
  await visitDirectories(device, mountFd, directories, visit, signal);
  return included;
}

/**
 * Tells of which files all names are known, and none is excluded or in a directory that is; for those that a walk would
 * meet one such name is enough. Parameters as {@link includedInodes} has them.
 */
export async function neverExcluded(
  device: Ext4Device,
  mountFd: number,
  directories: DirectoryColumns,
  excluded: Matcher,
  { signal }: Pick<NameOptions, 'signal'> = {},
): Promise<(inode: number) => boolean> {
  const { inodesCount } = device.superblock;
  const tree = await findNames(device, mountFd, directories, () => false, { signal });
  const leftOut = alsoLostAndFound(excluded);
  const included = includedDirectories(tree, directories, leftOut, inodesCount);
  const isDirectory = directorySet(directories, inodesCount);
  const [good, bad] = [new InodeSet(inodesCount), new InodeSet(inodesCount)];
  const visit = onlyIncluded(
    tree,
    included,
    isDirectory,
    leftOut,
    (_, inode) => good.add(inode),
    (inode) => bad.add(inode),
  );
  await visitDirectories(device, mountFd, directories, visit, signal);
  return (inode) => good.has(inode) && !bad.has(inode);
}

/** What lies in lost+found belongs to e2fsck, whatever else is excluded. */
const alsoLostAndFound =
  (excluded: Matcher): Matcher =>
  (path) =>
    path.equals(LOST_AND_FOUND) || excluded(path);

/** A visitor that passes on the names of files that are not excluded, and the inodes of the others. */
function onlyIncluded(
  tree: Names,
  included: InodeSet,
  isDirectory: InodeSet,
  excluded: Matcher,
  visit: EntryVisitor,
  visitExcluded: (inode: number) => void = () => undefined,
): EntryVisitor {
  // Most names of a directory come one after the other.
  let last = 0;
  let prefix: Buffer | undefined;
  return (directory, inode, bytes, nameAt, nameLength) => {
    if (isDirectory.has(inode)) return;
    if (directory !== last) {
      last = directory;
      prefix = included.has(directory) ? prefixOf(tree, directory) : undefined;
    }
    if (prefix === undefined) {
      visitExcluded(inode);
      return;
    }
    const path = Buffer.concat([prefix, bytes.subarray(nameAt, nameAt + nameLength)]);
    if (excluded(path)) visitExcluded(inode);
    else visit(directory, inode, bytes, nameAt, nameLength);
  };
}

const LOST_AND_FOUND = Buffer.from('lost+found');

/** What stands before the names in a directory. */
function prefixOf(tree: Names, directory: number): Buffer | undefined {
  const path = tree.relativePath(directory);
  return path === undefined || path.length === 0 ? path : Buffer.concat([path, Buffer.from('/')]);
}

function directorySet({ inode, count }: DirectoryColumns, inodesCount: number): InodeSet {
  const set = new InodeSet(inodesCount);
  for (let row = 0; row < count; row++) set.add(inode[row]);
  return set;
}

function includedDirectories(
  tree: Names,
  directories: DirectoryColumns,
  leftOut: Matcher,
  inodesCount: number,
): InodeSet {
  const included = new InodeSet(inodesCount);
  const judged = new InodeSet(inodesCount);
  included.add(ROOT_INODE);
  judged.add(ROOT_INODE);
  for (let row = 0; row < directories.count; row++) {
    // Upwards to one that is judged, and down again. In a circle that is the first one, and it is not included.
    const chain: number[] = [];
    let at: number | undefined = directories.inode[row];
    for (; at !== undefined && !judged.has(at); at = tree.parentOf(at)) {
      judged.add(at);
      chain.push(at);
    }
    let parentIncluded = at !== undefined && included.has(at);
    for (const inode of chain.reverse()) {
      const path = parentIncluded ? tree.relativePath(inode) : undefined;
      parentIncluded = path !== undefined && !leftOut(path);
      if (parentIncluded) included.add(inode);
    }
  }
  return included;
}
