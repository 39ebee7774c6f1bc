import { INCOMPAT, parseSuperblock, RO_COMPAT, type Superblock } from '../../lib/ext4/superblock.ts';
import { Invalid } from '../../lib/ext4/invalid.ts';

/** A superblock as mke2fs makes it for 3½ groups of 4 KiB blocks, with changes. */
export function superblockBytes(changes: (buffer: Buffer) => void = () => undefined): Buffer {
  const buffer = Buffer.alloc(1024);
  const set = (at: number, value: number) => buffer.writeUInt32LE(value, at);
  set(0x0, 4 * 8192);
  set(0x4, 3 * 32768 + 16384);
  set(0x18, 2);
  set(0x1c, 2);
  set(0x20, 32768);
  set(0x24, 32768);
  set(0x28, 8192);
  buffer.writeUInt16LE(0xef53, 0x38);
  set(0x4c, 1);
  set(0x54, 11);
  buffer.writeUInt16LE(256, 0x58);
  set(0x60, INCOMPAT.EXTENT | INCOMPAT['64BIT'] | INCOMPAT.FLEX_BG);
  set(0x64, RO_COMPAT.SPARSE_SUPER | RO_COMPAT.HUGE_FILE | RO_COMPAT.METADATA_CSUM);
  buffer.writeUInt16LE(64, 0xfe);
  buffer[0x174] = 4;
  changes(buffer);
  return buffer;
}

export function makeSuperblock(changes?: (buffer: Buffer) => void): Superblock {
  const superblock = parseSuperblock(superblockBytes(changes));
  if (superblock instanceof Invalid) throw new Error(superblock.reason);
  return superblock;
}

export interface RawExtent {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
  readonly unwritten?: boolean;
}

/** Writes a node's header: how many entries it has and can have. */
export function writeHeader(buffer: Buffer, at: number, entries: number, max: number, depth: number): void {
  buffer.writeUInt16LE(0xf30a, at);
  buffer.writeUInt16LE(entries, at + 2);
  buffer.writeUInt16LE(max, at + 4);
  buffer.writeUInt16LE(depth, at + 6);
}

/** Writes a node of depth 0. */
export function writeLeaf(buffer: Buffer, at: number, extents: readonly RawExtent[], max = 4): void {
  writeHeader(buffer, at, extents.length, max, 0);
  extents.forEach(({ logical, physical, length, unwritten = false }, i) => {
    const entry = at + 12 + i * 12;
    buffer.writeUInt32LE(logical, entry);
    buffer.writeUInt16LE(unwritten ? length + 32768 : length, entry + 4);
    buffer.writeUInt16LE(Math.floor(physical / 2 ** 32), entry + 6);
    buffer.writeUInt32LE(physical % 2 ** 32, entry + 8);
  });
}

/** Writes a node of depth 1 or more: pairs of logical block and the block of the node below. */
export function writeIndex(
  buffer: Buffer,
  at: number,
  children: readonly (readonly [logical: number, block: number])[],
  depth: number,
  max = 4,
): void {
  writeHeader(buffer, at, children.length, max, depth);
  children.forEach(([logical, block], i) => {
    const entry = at + 12 + i * 12;
    buffer.writeUInt32LE(logical, entry);
    buffer.writeUInt32LE(block % 2 ** 32, entry + 4);
    buffer.writeUInt16LE(Math.floor(block / 2 ** 32), entry + 8);
  });
}

export interface RawInode {
  readonly mode?: number;
  readonly links?: number;
  readonly size?: number;
  readonly flags?: number;
  readonly generation?: number;
  readonly sectors?: number;
}

export const EXTENTS_FL = 0x8_0000;

/** Writes the fixed part of an inode; by default a regular file with extents. */
export function writeInode(buffer: Buffer, at: number, inode: RawInode = {}): void {
  const { mode = 0o100644, links = 1, size = 0, flags = EXTENTS_FL, generation = 0, sectors = 0 } = inode;
  buffer.writeUInt16LE(mode, at);
  buffer.writeUInt32LE(size % 2 ** 32, at + 0x4);
  buffer.writeUInt16LE(links, at + 0x1a);
  buffer.writeUInt32LE(sectors % 2 ** 32, at + 0x1c);
  buffer.writeUInt32LE(flags, at + 0x20);
  buffer.writeUInt32LE(generation, at + 0x64);
  buffer.writeUInt32LE(Math.floor(size / 2 ** 32), at + 0x6c);
  buffer.writeUInt16LE(Math.floor(sectors / 2 ** 32), at + 0x74);
}

export const viewOf = (buffer: Buffer): DataView =>
  new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
