import { checkNode, ROOT_SIZE, visitExtents } from './extentTree.ts';
import { grown } from '../layout/grown.ts';
import { inodeFlags, inodeGeneration, inodeRoot, inodeSize } from './inode.ts';
import type { Superblock } from './superblock.ts';

/** Of i_flags (fs/ext4/ext4.h), as far as they decide where a directory's entries are. */
const FLAG = { ENCRYPT: 0x800, EXTENTS: 0x8_0000, INLINE_DATA: 0x1000_0000 } as const;

/**
 * Directories and where their entries lie on the device, as columns of numbers: those of directories, and those of
 * their extents.
 */
export class DirectoryColumns {
  count = 0;
  inode = new Uint32Array(0);
  generation = new Uint32Array(0);
  /**
   * 1 for a directory whose blocks are not among the extents, because they are not to be found from its inode alone or
   * hold no plain names: its tree is deep, damaged or of the old kind, or its content is in the inode or encrypted. It
   * must be read through the filesystem.
   */
  other = new Uint8Array(0);

  extents = 0;
  /** In blocks of the filesystem. */
  physical = new Float64Array(0);
  /** In blocks; at most 32768 of them. */
  length = new Uint16Array(0);
  /** The row of the directory. */
  owner = new Uint32Array(0);

  /** @returns the directory's row */
  push(inode: number, generation: number, other: boolean): number {
    const row = this.count++;
    if (row === this.inode.length) {
      const capacity = Math.max(64, row * 2);
      this.inode = grown(this.inode, new Uint32Array(capacity));
      this.generation = grown(this.generation, new Uint32Array(capacity));
      this.other = grown(this.other, new Uint8Array(capacity));
    }
    this.inode[row] = inode;
    this.generation[row] = generation;
    this.other[row] = Number(other);
    return row;
  }

  /** @param owner the row of its directory */
  pushExtent(physical: number, length: number, owner: number): void {
    const row = this.extents++;
    if (row === this.physical.length) {
      const capacity = Math.max(64, row * 2);
      this.physical = grown(this.physical, new Float64Array(capacity));
      this.length = grown(this.length, new Uint16Array(capacity));
      this.owner = grown(this.owner, new Uint32Array(capacity));
    }
    this.physical[row] = physical;
    this.length[row] = length;
    this.owner[row] = owner;
  }
}

/** Adds the directory whose inode is at `at` in `table`. */
export function addDirectory(
  table: DataView,
  at: number,
  inode: number,
  superblock: Superblock,
  directories: DirectoryColumns,
): void {
  const root = inodeRoot(at);
  const flags = inodeFlags(table, at);
  const other =
    (flags & (FLAG.EXTENTS | FLAG.INLINE_DATA | FLAG.ENCRYPT)) !== FLAG.EXTENTS ||
    checkNode(table, root, ROOT_SIZE, superblock) !== 0;
  const row = directories.push(inode, inodeGeneration(table, at), other);
  if (other) return;
  // What lies behind the end is not part of the directory, and need not be entries.
  const end = Math.ceil(inodeSize(table, at, superblock) / superblock.blockSize);
  visitExtents(table, root, (logical, physical, length, unwritten) => {
    if (unwritten) directories.other[row] = 1;
    else if (logical < end) directories.pushExtent(physical, Math.min(length, end - logical), row);
  });
}
