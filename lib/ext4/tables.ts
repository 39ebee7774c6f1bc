import { RunCounter } from '../layout/runCounter.ts';
import { addDirectory, type DirectoryColumns } from './directories.ts';
import { checkNode, CORRUPT, entryCount, ROOT_SIZE, visitChildren, visitExtents } from './extentTree.ts';
import type { FileColumns } from './files.ts';
import { GROUP_FLAG, type GroupTable } from './groups.ts';
import { inodeFlags, inodeGeneration, inodeKind, inodeLinks, inodeRoot, inodeSize, KIND } from './inode.ts';
import type { Superblock } from './superblock.ts';
import type { DeepFiles } from './trees.ts';

/** How many inodes of each kind were met. */
export interface InodeCounts {
  /** Regular files with a size and blocks mapped by extents, whether their tree is sound or not. */
  files: number;
  directories: number;
  special: number;
  /** Regular files whose content is in the inode. */
  inline: number;
  /** Regular files mapped by indirect blocks. */
  indirect: number;
  /** Regular files of no bytes, even those that have blocks: preallocated ones. */
  empty: number;
  /** Regular files with a size and no block: all holes, or not written back yet. */
  unmapped: number;
  /** The filesystem's own. */
  system: number;
}

export const noInodes = (): InodeCounts => ({
  files: 0,
  directories: 0,
  special: 0,
  inline: 0,
  indirect: 0,
  empty: 0,
  unmapped: 0,
  system: 0,
});

/** Is told of the extents of regular files. Those of one file may come in any order. */
export type ExtentVisitor = (inode: number, logical: number, physical: number, length: number) => void;

/** Where what inode tables say is gathered. */
export interface InodeSink {
  /** Files whose whole tree is in the inode. */
  readonly files: FileColumns;
  /** Files whose tree does not hold together, or that have none: those mapped by indirect blocks. */
  readonly doubtful: FileColumns;
  /** Files whose tree goes on in other blocks. */
  readonly deep: DeepFiles;
  /** Undefined where nobody wants to know of them. */
  readonly directories?: DirectoryColumns | undefined;
  /** Where somebody wants to know of each extent. */
  readonly extents?: ExtentVisitor | undefined;
  readonly counts: InodeCounts;
}

/** Goes over consecutive inodes: `count` of them from `firstInode`, at `offset` in `table`. */
export function readInodes(
  table: DataView,
  offset: number,
  firstInode: number,
  count: number,
  superblock: Superblock,
  sink: InodeSink,
): void {
  const { counts } = sink;
  for (let i = 0; i < count; i++) {
    const at = offset + i * superblock.inodeSize;
    const inode = firstInode + i;
    const kind = inodeKind(table, at, inode, superblock);
    switch (kind) {
      case KIND.DIRECTORY:
        counts.directories++;
        if (sink.directories) addDirectory(table, at, inode, superblock, sink.directories);
        break;
      case KIND.SPECIAL:
        counts.special++;
        break;
      case KIND.SYSTEM:
        counts.system++;
        break;
      case KIND.FREE:
        break;
      default:
        readRegular(table, at, inode, kind, superblock, sink);
    }
  }
}

/** What a regular file without a layout is counted as is decided in the order of lib/scan/eligibility.ts. */
function readRegular(
  table: DataView,
  at: number,
  inode: number,
  kind: number,
  superblock: Superblock,
  sink: InodeSink,
): void {
  const { counts } = sink;
  const size = inodeSize(table, at, superblock);
  if (size === 0) counts.empty++;
  else if (kind === KIND.INLINE) counts.inline++;
  else if (kind === KIND.EMPTY) counts.unmapped++;
  else if (kind === KIND.INDIRECT) {
    counts.indirect++;
    pushFile(sink.doubtful, table, at, inode, size, 0);
  } else readFile(table, at, inode, size, superblock, sink);
}

const counter = new RunCounter();
const countExtent = (logical: number, physical: number, length: number): void =>
  counter.add(logical, physical, length);

function readFile(
  table: DataView,
  at: number,
  inode: number,
  size: number,
  superblock: Superblock,
  sink: InodeSink,
): void {
  const root = inodeRoot(at);
  const depth = checkNode(table, root, ROOT_SIZE, superblock);
  if (depth === 0 && entryCount(table, root) === 0) {
    sink.counts.unmapped++;
    return;
  }
  sink.counts.files++;
  const sound = depth !== CORRUPT && size <= 2 ** 32 * superblock.blockSize;
  const files = !sound ? sink.doubtful : depth === 0 ? sink.files : sink.deep.files;
  const row = pushFile(files, table, at, inode, size, Math.max(0, depth));
  if (!sound) return;
  if (depth > 0) {
    visitChildren(table, root, (logical, block) => sink.deep.below[depth].push(block, logical, row));
    return;
  }
  counter.reset();
  visitExtents(table, root, countExtent);
  const { extents } = sink;
  if (extents)
    visitExtents(table, root, (logical, physical, length) => extents(inode, logical, physical, length));
  files.blocks[row] = counter.blocks;
  files.fragments[row] = counter.fragments;
}

/** @returns its row */
function pushFile(
  files: FileColumns,
  table: DataView,
  at: number,
  inode: number,
  size: number,
  depth: number,
): number {
  return files.push(
    inode,
    inodeGeneration(table, at),
    size,
    depth,
    inodeFlags(table, at),
    inodeLinks(table, at),
  );
}

/** Consecutive inodes within a read. */
export interface InodeStretch {
  /** Bytes from the start of the read. */
  readonly offset: number;
  readonly firstInode: number;
  readonly count: number;
}

/** One read of the device, which the tables of several groups may share. */
export interface TableRead {
  /** In bytes. */
  readonly position: number;
  readonly length: number;
  readonly inodes: readonly InodeStretch[];
}

/** Inodes of a group that may be in use: those at the table's end that never were are left out. */
export function initializedInodes(
  { inodesPerGroup }: Superblock,
  { flags, unusedInodes }: GroupTable,
  group: number,
): number {
  return flags[group] & GROUP_FLAG.INODE_UNINIT ? 0 : inodesPerGroup - unusedInodes[group];
}

/** Reading on over a gap of that many bytes costs less than a request more. */
export const SMALL_GAP = 64 * 1024;

/**
 * All inode tables in the order in which they lie on the device, as reads of at most `maxBytes`, a multiple of the
 * inode size. The tables of a flex group lie side by side.
 */
export function* tableReads(
  superblock: Superblock,
  groups: GroupTable,
  maxBytes: number,
): Generator<TableRead, void, void> {
  const { inodeSize, blockSize, inodesPerGroup } = superblock;
  let read = { position: 0, length: 0, inodes: [] as InodeStretch[] };
  for (const group of groupsInTableOrder(groups)) {
    const total = initializedInodes(superblock, groups, group);
    for (let done = 0; done < total;) {
      const position = groups.inodeTable[group] * blockSize + done * inodeSize;
      const gap = position - (read.position + read.length);
      if (gap < 0 || gap > SMALL_GAP || read.length + gap >= maxBytes) {
        if (read.inodes.length > 0) yield read;
        read = { position, length: 0, inodes: [] };
      }
      const offset = position - read.position;
      const count = Math.min(total - done, Math.floor((maxBytes - offset) / inodeSize));
      read.inodes.push({ offset, firstInode: group * inodesPerGroup + done + 1, count });
      read.length = offset + count * inodeSize;
      done += count;
    }
  }
  if (read.inodes.length > 0) yield read;
}

function groupsInTableOrder({ count, inodeTable }: GroupTable): Uint32Array {
  return Uint32Array.from({ length: count }, (_, group) => group).sort(
    (a, b) => inodeTable[a] - inodeTable[b],
  );
}
