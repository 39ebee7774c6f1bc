import type { DirectoryColumns } from '../ext4/directories.ts';
import { parentInode, visitEntries } from '../ext4/directory.ts';
import { SMALL_GAP } from '../ext4/tables.ts';
import { errorCode } from '../kernel/errors.ts';
import { closeFd, O, openByHandle, readEntries } from '../kernel/handle.ts';
import type { DeviceRange, Ext4Device } from './device.ts';

/**
 * Gets a name: the inode of the directory that it is in, the inode that it names, and where in `bytes` it is. The bytes
 * are valid during the call only.
 */
export type EntryVisitor = (
  directory: number,
  inode: number,
  bytes: Buffer,
  nameAt: number,
  nameLength: number,
) => void;

/** Bytes of one read: a multiple of every block size. */
const READ = 1024 * 1024;
/** Directories read through the filesystem side by side. */
const IN_FLIGHT = 8;

/**
 * Visits the names in all directories, in no order that means anything: from the device in the order in which they lie
 * there, and through the filesystem where that is not possible. A name may be visited twice. Ends early and quietly
 * when the signal is aborted.
 *
 * The names are nearly current, as everything that {@link Ext4Device} reads. A name that is moved from one block to
 * another meanwhile may be missed, and what was a directory's block may be another's, or a file's, by the time it is
 * read.
 *
 * @param mountFd any open file or directory of the mounted filesystem
 * @param wanted tells by their inodes which directories are to be read
 * @throws a system error when the device cannot be read
 */
export async function visitDirectories(
  device: Ext4Device,
  mountFd: number,
  directories: DirectoryColumns,
  visit: EntryVisitor,
  signal: AbortSignal | undefined,
  wanted: (inode: number) => boolean = () => true,
): Promise<void> {
  // 1 for those that the kernel must read; more are found to be so on the way.
  const left = directories.other.slice(0, directories.count);
  await visitDevice(device, directories, left, visit, signal, wanted);
  const rows = numbersBelow(left.length, (row) => left[row] !== 0 && wanted(directories.inode[row]));
  for (let from = 0; from < rows.length && !signal?.aborted; from += IN_FLIGHT) {
    const some = rows.slice(from, from + IN_FLIGHT);
    await Promise.all(some.map((row) => visitOpened(mountFd, directories, row, visit)));
  }
}

async function visitDevice(
  device: Ext4Device,
  directories: DirectoryColumns,
  left: Uint8Array,
  visit: EntryVisitor,
  signal: AbortSignal | undefined,
  wanted: (inode: number) => boolean,
): Promise<void> {
  const { blockSize } = device.superblock;
  const { inode, owner, physical, length } = directories;
  const order = extentsInOrder(directories, left, wanted);
  const reads = directoryReads(directories, order, blockSize);
  for await (const { range, bytes } of device.readAll(reads, READ)) {
    if (signal?.aborted) return;
    const buffer = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
    let directory = 0;
    // One for all blocks of the read, of which there are many.
    const visitEntry = (named: number, _: number, nameAt: number, nameLength: number) =>
      visit(directory, named, buffer, nameAt, nameLength);
    for (const row of order.subarray(range.first, range.end)) {
      directory = inode[owner[row]];
      const from = Math.max(0, physical[row] * blockSize - range.position);
      const to = Math.min(range.length, (physical[row] + length[row]) * blockSize - range.position);
      for (let at = from; at < to; at += blockSize) {
        const whole = at + blockSize <= bytes.byteLength && visitEntries(bytes, at, blockSize, visitEntry);
        if (!whole) left[owner[row]] = 1;
      }
    }
  }
}

/**
 * Rows of the extents to be read from the device, in device order; no two of them overlap. Directories that share a
 * block are left to the kernel: at most one of them still has it, and reading each would let a crafted filesystem keep
 * us busy for ever.
 */
function extentsInOrder(
  { inode, extents, physical, length, owner }: DirectoryColumns,
  left: Uint8Array,
  wanted: (inode: number) => boolean,
) {
  const order = inOrderOf(
    physical,
    numbersBelow(extents, (row) => wanted(inode[owner[row]])),
  );
  let end = 0;
  let last = 0;
  for (const row of order) {
    if (physical[row] < end) left[owner[row]] = left[owner[last]] = 1;
    if (physical[row] + length[row] <= end) continue;
    end = physical[row] + length[row];
    last = row;
  }
  return order.filter((row) => left[owner[row]] === 0);
}

/** A loop, which is several times as quick as an array's own methods here. */
function numbersBelow(end: number, keep: (number: number) => boolean): number[] {
  const kept: number[] = [];
  for (let number = 0; number < end; number++) if (keep(number)) kept.push(number);
  return kept;
}

/** Rows in the order of their numbers, which are whole and not negative. */
function inOrderOf(numbers: Float64Array, rows: readonly number[]): Uint32Array {
  const all = numbers.length;
  let largest = 0;
  for (const row of rows) largest = Math.max(largest, numbers[row]);
  if ((largest + 1) * all > Number.MAX_SAFE_INTEGER) {
    return new Uint32Array(rows).sort((a, b) => numbers[a] - numbers[b]);
  }
  // Both in one number: sorting numbers takes a tenth of sorting with a function that compares.
  const keys = new Float64Array(rows.length);
  for (let i = 0; i < keys.length; i++) keys[i] = numbers[rows[i]] * all + rows[i];
  keys.sort();
  const order = new Uint32Array(keys.length);
  for (let i = 0; i < order.length; i++) order[i] = keys[i] % all;
  return order;
}

/**
 * The directories that the wanted directories are in, by their inode numbers, as their first blocks on the device say it.
 * Those that do not say it there, or must be read through the filesystem, are left out. As current as
 * {@link visitDirectories} is.
 *
 * @throws a system error when the device cannot be read
 */
export async function readParents(
  device: Ext4Device,
  { extents, inode, other, owner, physical }: DirectoryColumns,
  wanted: (inode: number) => boolean,
): Promise<Map<number, number>> {
  const { blockSize } = device.superblock;
  const first = new Map<number, number>();
  for (let row = 0; row < extents; row++) {
    const directory = inode[owner[row]];
    // Of several extents the first is the one at the directory's beginning.
    if (other[owner[row]] === 0 && wanted(directory) && !first.has(directory))
      first.set(directory, physical[row]);
  }
  const reads = [...first]
    .map(([directory, block]) => ({ position: block * blockSize, length: blockSize, directory }))
    .sort((a, b) => a.position - b.position);
  const parents = new Map<number, number>();
  for await (const { range, bytes } of device.readAll(reads, blockSize)) {
    const parent = bytes.byteLength === blockSize ? parentInode(bytes, 0) : undefined;
    if (parent !== undefined) parents.set(range.directory, parent);
  }
  return parents;
}

/** A read, which holds blocks of the extents `first` to `end` in device order. */
interface DirectoryRead extends DeviceRange {
  readonly first: number;
  readonly end: number;
}

/** Reads that cover the extents in `order`, near ones together. */
function* directoryReads(
  { physical, length }: DirectoryColumns,
  order: Uint32Array,
  blockSize: number,
): Generator<DirectoryRead, void, void> {
  let read = { position: 0, length: 0, first: 0, end: 0 };
  for (const [i, row] of order.entries()) {
    const bytes = length[row] * blockSize;
    for (let done = 0; done < bytes;) {
      const position = physical[row] * blockSize + done;
      const gap = position - (read.position + read.length);
      if (gap > SMALL_GAP || read.length + gap >= READ) {
        if (read.length > 0) yield read;
        read = { position, length: 0, first: i, end: i };
      }
      const offset = position - read.position;
      const some = Math.min(bytes - done, READ - offset);
      read.length = offset + some;
      read.end = i + 1;
      done += some;
    }
  }
  if (read.length > 0) yield read;
}

/**
 * What a directory answers that cannot be read, as opposed to a system that cannot read: it is gone or is something
 * else by now (ESTALE and the like), it is another's, or it is damaged (EUCLEAN, EBADMSG; fs/ext4/ext4.h; EIO for a name
 * that cannot be; fs/readdir.c). Such a one costs its own names and no other's.
 */
const UNREADABLE = new Set(['ESTALE', 'ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'EUCLEAN', 'EBADMSG', 'EIO']);

async function visitOpened(
  mountFd: number,
  { inode, generation }: DirectoryColumns,
  row: number,
  visit: EntryVisitor,
): Promise<void> {
  try {
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    const fd = await openByHandle(mountFd, inode[row], generation[row], flags);
    try {
      for (let entries = await readEntries(fd); entries.length > 0; entries = await readEntries(fd)) {
        for (const entry of entries) visit(inode[row], entry.inode, entry.name, 0, entry.name.length);
      }
    } finally {
      await closeFd(fd);
    }
  } catch (error) {
    if (!UNREADABLE.has(errorCode(error) ?? '')) throw error;
  }
}
