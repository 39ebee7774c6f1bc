import { EXTENT_FLAG, ExtentTable } from '../layout/extents.ts';
import { Invalid } from './invalid.ts';
import type { Superblock } from './superblock.ts';

/**
 * Nodes of an extent tree (Documentation/filesystems/ext4/ifork.rst): a header of 12 bytes and entries of 12 bytes,
 * either extents (depth 0) or pointers to the nodes below. The root is in the inode, every other node is a block.
 *
 * Nothing here makes an object for each node or entry, because a filesystem has millions of them.
 */
const MAGIC = 0xf30a;
const HEADER_SIZE = 12;
const ENTRY_SIZE = 12;
/** EXT4_MAX_EXTENT_DEPTH (fs/ext4/ext4_extents.h). */
export const MAX_DEPTH = 5;
/** EXT_INIT_MAX_LEN: a longer one is unwritten, and that much shorter than it says. */
const MAX_WRITTEN = 32768;
/** Of the root: i_block, 60 bytes. */
export const ROOT_SIZE = 60;

/** What {@link checkNode} answers for bytes that are no sound node. */
export const CORRUPT = -1;

/**
 * Checks a node and all its entries as the kernel does (fs/ext4/extents.c, __ext4_ext_check): entries in order, none
 * overlapping, each inside the filesystem.
 *
 * @param at where the node starts in `view`
 * @param room bytes of the node
 * @returns its depth, or {@link CORRUPT}
 */
export function checkNode(view: DataView, at: number, room: number, superblock: Superblock): number {
  if (view.getUint16(at, true) !== MAGIC) return CORRUPT;
  const max = view.getUint16(at + 4, true);
  const depth = view.getUint16(at + 6, true);
  const entries = entryCount(view, at);
  if (max === 0 || max > (room - HEADER_SIZE) / ENTRY_SIZE || entries > max || depth > MAX_DEPTH) {
    return CORRUPT;
  }
  if (depth === 0) return extentsSound(view, at, superblock) ? depth : CORRUPT;
  return entries > 0 && indexSound(view, at, superblock) ? depth : CORRUPT;
}

function extentsSound(view: DataView, at: number, { firstDataBlock, blocksCount }: Superblock): boolean {
  let end = 0;
  for (let entry = firstEntry(at); entry < lastEntry(view, at); entry += ENTRY_SIZE) {
    const logical = view.getUint32(entry, true);
    const length = extentLength(view, entry);
    const physical = extentPhysical(view, entry);
    if (length === 0 || logical < end || physical <= firstDataBlock) return false;
    end = logical + length;
    if (end > 2 ** 32 || physical + length > blocksCount) return false;
  }
  return true;
}

function indexSound(view: DataView, at: number, { firstDataBlock, blocksCount }: Superblock): boolean {
  let previous = -1;
  for (let entry = firstEntry(at); entry < lastEntry(view, at); entry += ENTRY_SIZE) {
    const logical = view.getUint32(entry, true);
    const child = childBlock(view, entry);
    if (logical <= previous || child <= firstDataBlock || child >= blocksCount) return false;
    previous = logical;
  }
  return true;
}

export const entryCount = (view: DataView, at: number): number => view.getUint16(at + 2, true);

/** The first entry's logical block. A child starts where the entry that points to it says. */
export const firstLogical = (view: DataView, at: number): number => view.getUint32(firstEntry(at), true);

const firstEntry = (at: number): number => at + HEADER_SIZE;
const lastEntry = (view: DataView, at: number): number => firstEntry(at) + entryCount(view, at) * ENTRY_SIZE;

// struct ext4_extent: logical u32, length u16, physical high u16, physical low u32.
const extentPhysical = (view: DataView, entry: number): number =>
  view.getUint16(entry + 6, true) * 2 ** 32 + view.getUint32(entry + 8, true);

function extentLength(view: DataView, entry: number): number {
  const length = view.getUint16(entry + 4, true);
  return length > MAX_WRITTEN ? length - MAX_WRITTEN : length;
}

// struct ext4_extent_idx: logical u32, child low u32, child high u16, unused u16.
const childBlock = (view: DataView, entry: number): number =>
  view.getUint16(entry + 8, true) * 2 ** 32 + view.getUint32(entry + 4, true);

/** Calls `visit` for every extent of a checked node of depth 0, in logical order. */
export function visitExtents(
  view: DataView,
  at: number,
  visit: (logical: number, physical: number, length: number, unwritten: boolean) => void,
): void {
  for (let entry = firstEntry(at); entry < lastEntry(view, at); entry += ENTRY_SIZE) {
    visit(
      view.getUint32(entry, true),
      extentPhysical(view, entry),
      extentLength(view, entry),
      view.getUint16(entry + 4, true) > MAX_WRITTEN,
    );
  }
}

/** Calls `visit` with the block of every node below a checked node of depth 1 or more, in logical order. */
export function visitChildren(
  view: DataView,
  at: number,
  visit: (logical: number, block: number) => void,
): void {
  for (let entry = firstEntry(at); entry < lastEntry(view, at); entry += ENTRY_SIZE) {
    visit(view.getUint32(entry, true), childBlock(view, entry));
  }
}

/** The extents of a node of depth 0: an inode whose tree has no other node carries its whole map. */
export function nodeExtents(
  view: DataView,
  at: number,
  room: number,
  superblock: Superblock,
): ExtentTable | Invalid {
  const depth = checkNode(view, at, room, superblock);
  if (depth === CORRUPT) return new Invalid('its extent tree is damaged');
  if (depth > 0) return new Invalid('its extents are in other blocks');
  const extents = new ExtentTable(entryCount(view, at));
  let i = 0;
  visitExtents(view, at, (logical, physical, length, unwritten) => {
    extents.set(i++, logical, physical, length, unwritten ? EXTENT_FLAG.UNWRITTEN : 0);
  });
  return extents;
}
