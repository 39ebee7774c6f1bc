import { constants, fstat, fsync, ftruncate, read, write, type BigIntStats } from 'node:fs';
import { promisify } from 'node:util';
import type { Blocks, Bytes } from '../layout/units.ts';
import { blocks, bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { native, quick } from './native.ts';

/** Open flags, from Node's own constants where it has them. */
export const O = {
  RDONLY: constants.O_RDONLY,
  WRONLY: constants.O_WRONLY,
  RDWR: constants.O_RDWR,
  NONBLOCK: constants.O_NONBLOCK,
  DIRECTORY: constants.O_DIRECTORY,
  NOFOLLOW: constants.O_NOFOLLOW,
  /** O_PATH (asm-generic/fcntl.h): a descriptor that names an inode without opening it. */
  PATH: 0o10000000,
  /** __O_TMPFILE | O_DIRECTORY (asm-generic/fcntl.h). */
  TMPFILE: 0o20000000 | constants.O_DIRECTORY,
} as const;

/** RESOLVE_* of linux/openat2.h. */
export const RESOLVE = { NO_XDEV: 0x01, NO_MAGICLINKS: 0x02, NO_SYMLINKS: 0x04, BENEATH: 0x08 } as const;

/** AT_FDCWD of linux/fcntl.h: paths are relative to the working directory. */
export const AT_FDCWD = -100;

/** EXT4_*_FL of fs/ext4/ext4.h, as FS_IOC_GETFLAGS answers them. */
export const INODE_FLAG = {
  IMMUTABLE: 0x0000_0010,
  APPEND: 0x0000_0020,
  ENCRYPT: 0x0000_0800,
  JOURNAL_DATA: 0x0000_4000,
  EXTENTS: 0x0008_0000,
  VERITY: 0x0010_0000,
  DAX: 0x0200_0000,
  INLINE_DATA: 0x1000_0000,
} as const;

/** EXT4_SUPER_MAGIC of linux/magic.h; ext2 and ext3 share it. */
export const EXT4_SUPER_MAGIC = 0xef53;

export interface OpenOptions {
  mode?: number;
  resolve?: number;
}

/**
 * openat2(2), close-on-exec. The path is bytes, relative to `dirFd`.
 *
 * @throws SystemError as open(2), and EXDEV, ELOOP where a RESOLVE_* rule was broken
 */
export async function openAt(
  dirFd: number,
  path: Buffer,
  flags: number,
  options: OpenOptions = {},
): Promise<number> {
  const { mode = 0, resolve = 0 } = options;
  return check<number>(await native().openat2(dirFd, path, flags, mode, resolve), 'openat2');
}

/** PATH_MAX of linux/limits.h without the NUL: no system call takes a longer path. */
const LONGEST_PATH = 4095;

/**
 * {@link openAt} for paths of any length below a directory: a long one is opened in pieces, each under the same
 * RESOLVE_* rules. An empty path is the directory itself.
 *
 * @throws SystemError as openAt
 */
export async function openBeneath(
  rootFd: number,
  relative: Buffer,
  flags: number,
  options: OpenOptions = {},
): Promise<number> {
  let dirFd = rootFd;
  let rest = relative;
  try {
    while (rest.length > LONGEST_PATH) {
      // A name has 255 bytes at most, so there is a slash; without one the kernel shall say what it thinks of it.
      const cut = rest.lastIndexOf(0x2f, LONGEST_PATH);
      if (cut <= 0) break;
      const flagsOfPiece = O.PATH | O.DIRECTORY | O.NOFOLLOW;
      const next = await openAt(dirFd, rest.subarray(0, cut), flagsOfPiece, {
        resolve: options.resolve ?? 0,
      });
      if (dirFd !== rootFd) await closeFd(dirFd);
      dirFd = next;
      rest = rest.subarray(cut + 1);
    }
    return await openAt(dirFd, rest.length === 0 ? Buffer.from('.') : rest, flags, options);
  } finally {
    if (dirFd !== rootFd) await closeFd(dirFd);
  }
}

/**
 * open_by_handle_at(2), close-on-exec: opens an inode by its number, whatever its names are. Needs
 * CAP_DAC_READ_SEARCH, and looks at no permission of any directory on the way.
 *
 * @param mountFd any open file or directory of the filesystem, not with O_PATH
 * @param generation 0 fits every generation (fs/ext4/super.c, ext4_nfs_get_inode)
 * @throws SystemError ESTALE when the inode is free, unlinked, of another generation or the filesystem's own
 */
export async function openByHandle(
  mountFd: number,
  inode: number,
  generation: number,
  flags: number,
): Promise<number> {
  return check<number>(
    await quick((addon) => addon.openByHandle(mountFd, inode, generation, flags)),
    'open_by_handle_at',
  );
}

// Wrapped, so that they can be handed to map(): fs functions do not bear a second argument.
export const closeFd = async (fd: number): Promise<void> => {
  check(await quick((addon) => addon.close(fd)), 'close');
};
export const fsyncFd = (fd: number): Promise<void> => promisify(fsync)(fd);
export const truncateFd = (fd: number, size: number): Promise<void> => promisify(ftruncate)(fd, size);

/** fstat(2) with exact 64-bit fields. */
export const statFd: (fd: number) => Promise<BigIntStats> = (fd) =>
  promisify<number, { bigint: true }, BigIntStats>(fstat)(fd, { bigint: true });

/** Reads up to `length` bytes at `position`; shorter at the end of the file. */
export async function readFd(fd: number, length: number, position: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await promisify(read)(fd, buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** Writes a buffer at the start of a file. */
export async function writeFd(fd: number, content: Buffer): Promise<void> {
  for (let done = 0; done < content.length;) {
    done += (await promisify(write)(fd, content, done, content.length - done, done)).bytesWritten;
  }
}

/** One name of a directory. `kind` is DT_* of dirent.h; 0 where the filesystem does not say. */
export interface DirectoryEntry {
  readonly name: Buffer;
  readonly inode: number;
  readonly kind: number;
}

export const DT = { UNKNOWN: 0, DIRECTORY: 4, REGULAR: 8, SYMLINK: 10 } as const;

/** The next entries of an open directory, without "." and ".."; empty at its end (getdents64). */
export async function readEntries(dirFd: number): Promise<DirectoryEntry[]> {
  for (;;) {
    const dents = check(await native().getdents(dirFd, 256 * 1024), 'getdents64');
    if (dents.length === 0) return [];
    const entries = parseEntries(dents).filter(({ name }) => !isDotName(name));
    if (entries.length > 0) return entries;
  }
}

/** struct linux_dirent64: inode u64, offset u64, record length u16, type u8, name with a NUL. */
function parseEntries(dents: Buffer): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < dents.length; at += dents.readUInt16LE(at + 16)) {
    const name = dents.subarray(at + 19, dents.indexOf(0, at + 19));
    entries.push({ name, inode: Number(dents.readBigUInt64LE(at)), kind: dents[at + 18] });
  }
  return entries;
}

function isDotName(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** Inode flags (FS_IOC_GETFLAGS), as in {@link INODE_FLAG}. */
export async function inodeFlags(fd: number): Promise<number> {
  return check<number>(await native().getFlags(fd), 'ioctl(FS_IOC_GETFLAGS)');
}

/** The inode's generation (FS_IOC_GETVERSION). */
export async function inodeGeneration(fd: number): Promise<number> {
  return check<number>(await quick((addon) => addon.getVersion(fd)), 'ioctl(FS_IOC_GETVERSION)');
}

/** Sets inode flags (FS_IOC_SETFLAGS): what chattr(1) does. */
export async function setInodeFlags(fd: number, flags: number): Promise<void> {
  check(await native().setFlags(fd, flags), 'ioctl(FS_IOC_SETFLAGS)');
}

export interface FilesystemSpace {
  readonly magic: number;
  readonly blockSize: Bytes;
  readonly total: Blocks;
  readonly free: Blocks;
  /** Free for ordinary users: `free` less what is reserved for root. */
  readonly available: Blocks;
}

/** fstatfs(2). */
export async function statFilesystem(fd: number): Promise<FilesystemSpace> {
  const [magic, blockSize, total, free, available] = check(await native().statfs(fd), 'fstatfs');
  return {
    magic: Number(magic),
    blockSize: bytes(Number(blockSize)),
    total: blocks(Number(total)),
    free: blocks(Number(free)),
    available: blocks(Number(available)),
  };
}

/** The superblock's feature words, without privileges (EXT4_IOC_GET_TUNE_SB_PARAM, Linux 6.18), or undefined. */
export async function superblockFeatures(
  fd: number,
): Promise<{ compat: number; incompat: number; roCompat: number } | undefined> {
  const words = await native().tuneSuperblock(fd);
  if (typeof words === 'number') return undefined;
  const [compat, incompat, roCompat] = words;
  return { compat: Number(compat), incompat: Number(incompat), roCompat: Number(roCompat) };
}

const F_WRLCK = 1;
const F_UNLCK = 2;
/** Its default action is to be ignored, unlike SIGIO's, which ends the process. */
const SIGURG = 23;

/**
 * Takes a write lease (fcntl(2) F_SETLEASE): until it is dropped, whoever opens the file waits.
 *
 * @returns false when anyone else has the file open or mapped
 * @throws SystemError EACCES where the file is another user's and CAP_LEASE is missing
 */
export async function takeLease(fd: number): Promise<boolean> {
  const EAGAIN = -11;
  check(await quick((addon) => addon.setSignal(fd, SIGURG)), 'fcntl(F_SETSIG)');
  const result = await quick((addon) => addon.setLease(fd, F_WRLCK));
  if (result === EAGAIN) return false;
  check(result, 'fcntl(F_SETLEASE)');
  return true;
}

/** True while the lease is held and nobody waits for it. */
export async function leaseUndisturbed(fd: number): Promise<boolean> {
  return check<number>(await quick((addon) => addon.getLease(fd)), 'fcntl(F_GETLEASE)') === F_WRLCK;
}

/** Drops a lease; nothing happens when the kernel has taken it away already, as it does 45 s after it is wanted. */
export async function dropLease(fd: number): Promise<void> {
  const EAGAIN = -11;
  const result = await quick((addon) => addon.setLease(fd, F_UNLCK));
  if (result !== EAGAIN) check(result, 'fcntl(F_SETLEASE)');
}

/** Operations of flock(2): sys/file.h. */
const LOCK_EX_NB = 2 | 4;

/**
 * Locks an open file or directory for this descriptor alone (flock(2)); closing it lets go.
 *
 * @returns false when another descriptor has it locked
 */
export async function tryLock(fd: number): Promise<boolean> {
  const EWOULDBLOCK = -11;
  const result = await native().flock(fd, LOCK_EX_NB);
  if (result === EWOULDBLOCK) return false;
  check(result, 'flock');
  return true;
}

/** The filesystem's UUID in its usual form (EXT4_IOC_GETFSUUID), or undefined before Linux 6.0. */
export async function filesystemUuid(fd: number): Promise<string | undefined> {
  const uuid = await native().filesystemUuid(fd);
  if (typeof uuid === 'number') return undefined;
  return uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
