import { INCOMPAT, RO_COMPAT } from './features.ts';
import type { Superblock } from './superblock.ts';

/**
 * Entries of an inode table (Documentation/filesystems/ext4/inodes.rst): of 128 bytes or more, of which only the
 * first 128 matter here. Functions of the bytes, because an object for each of a million inodes would cost more than
 * reading them.
 */

/** Of i_flags (fs/ext4/ext4.h), as far as they decide what an inode is. */
const FLAG = {
  HUGE_FILE: 0x4_0000,
  EXTENTS: 0x8_0000,
  EA_INODE: 0x20_0000,
  INLINE_DATA: 0x1000_0000,
} as const;

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

export const inodeMode = (view: DataView, at: number): number => view.getUint16(at, true);
/** 0 for a free inode, and for an unlinked file that somebody still has open. */
export const inodeLinks = (view: DataView, at: number): number => view.getUint16(at + 0x1a, true);
/** As FS_IOC_GETFLAGS answers them, and more bits that are the filesystem's own. */
export const inodeFlags = (view: DataView, at: number): number => view.getUint32(at + 0x20, true);
export const inodeGeneration = (view: DataView, at: number): number => view.getUint32(at + 0x64, true);
/** Where i_block starts: the extent tree's root, in an inode that has one. */
export const inodeRoot = (at: number): number => at + 0x28;

/** In bytes. Directories have a high half only with large_dir (fs/ext4/ext4.h, ext4_isize). */
export function inodeSize(view: DataView, at: number, { incompat }: Superblock): number {
  const high = (inodeMode(view, at) & S_IFMT) === S_IFREG || (incompat & INCOMPAT.LARGE_DIR) !== 0;
  return view.getUint32(at + 0x4, true) + (high ? view.getUint32(at + 0x6c, true) * 2 ** 32 : 0);
}

/** Space that the inode takes, in sectors of 512 bytes (fs/ext4/inode.c, ext4_inode_blocks). */
export function inodeSectors(view: DataView, at: number, { roCompat, blockSize }: Superblock): number {
  const low = view.getUint32(at + 0x1c, true);
  if (!(roCompat & RO_COMPAT.HUGE_FILE)) return low;
  const count = low + view.getUint16(at + 0x74, true) * 2 ** 32;
  return inodeFlags(view, at) & FLAG.HUGE_FILE ? count * (blockSize / 512) : count;
}

/** What an inode is, for who looks for files to defragment. */
export const KIND = {
  FREE: 0,
  /** Reserved numbers, and what else belongs to the filesystem itself: quota, orphan file, large xattrs. */
  SYSTEM: 1,
  DIRECTORY: 2,
  /** Symbolic links, devices, pipes and sockets. */
  SPECIAL: 3,
  INLINE: 4,
  /** Mapped by ext2's indirect blocks. */
  INDIRECT: 5,
  /** Has no block, written or promised. */
  EMPTY: 6,
  /** A regular file with an extent tree. */
  EXTENTS: 7,
} as const;

const ROOT_INODE = 2;

/** @returns one of {@link KIND} */
export function inodeKind(view: DataView, at: number, inode: number, superblock: Superblock): number {
  const mode = inodeMode(view, at);
  // Unlinked inodes keep their mode, free ones too: only the link count is cleared for certain.
  if (mode === 0 || inodeLinks(view, at) === 0) return KIND.FREE;
  if (isSystem(inode, superblock)) return KIND.SYSTEM;
  const type = mode & S_IFMT;
  if (type === S_IFDIR) return KIND.DIRECTORY;
  if (type !== S_IFREG) return KIND.SPECIAL;
  const flags = inodeFlags(view, at);
  if (flags & FLAG.EA_INODE) return KIND.SYSTEM;
  if (flags & FLAG.INLINE_DATA) return KIND.INLINE;
  if (flags & FLAG.EXTENTS) return KIND.EXTENTS;
  return inodeSectors(view, at, superblock) === 0 ? KIND.EMPTY : KIND.INDIRECT;
}

function isSystem(inode: number, { firstInode, systemInodes }: Superblock): boolean {
  return (inode < firstInode && inode !== ROOT_INODE) || systemInodes.includes(inode);
}
