import { blocks, type Blocks } from '../layout/units.ts';
import { COMPAT, INCOMPAT, RO_COMPAT } from './features.ts';
import { Invalid } from './invalid.ts';
import type { Superblock } from './superblock.ts';

/** Of bg_flags (Documentation/filesystems/ext4/group_descr.rst). */
export const GROUP_FLAG = { INODE_UNINIT: 0x1, BLOCK_UNINIT: 0x2, INODE_ZEROED: 0x4 } as const;

/** What the descriptors of all groups say, as columns by group number. */
export class GroupTable {
  readonly count: number;
  readonly blockBitmap: Float64Array;
  readonly inodeBitmap: Float64Array;
  readonly inodeTable: Float64Array;
  /** Clusters, which are blocks without bigalloc. */
  readonly freeClusters: Uint32Array;
  readonly freeInodes: Uint32Array;
  readonly directories: Uint32Array;
  /** Inodes at the end of the table that were never used. */
  readonly unusedInodes: Uint32Array;
  /** {@link GROUP_FLAG}. */
  readonly flags: Uint16Array;

  constructor(count: number) {
    this.count = count;
    this.blockBitmap = new Float64Array(count);
    this.inodeBitmap = new Float64Array(count);
    this.inodeTable = new Float64Array(count);
    this.freeClusters = new Uint32Array(count);
    this.freeInodes = new Uint32Array(count);
    this.directories = new Uint32Array(count);
    this.unusedInodes = new Uint32Array(count);
    this.flags = new Uint16Array(count);
  }
}

export function groupFirstBlock({ firstDataBlock, blocksPerGroup }: Superblock, group: number): Blocks {
  return blocks(firstDataBlock + group * blocksPerGroup);
}

/** Blocks of a group: the last one may be short. */
export function blocksInGroup(superblock: Superblock, group: number): number {
  const { blocksCount, blocksPerGroup } = superblock;
  return Math.min(blocksPerGroup, blocksCount - groupFirstBlock(superblock, group));
}

/** Whether a group has a copy of the superblock (fs/ext4/balloc.c, ext4_bg_has_super). */
export function hasSuperblock({ compat, roCompat, backupGroups }: Superblock, group: number): boolean {
  if (group === 0) return true;
  if (compat & COMPAT.SPARSE_SUPER2) return backupGroups.includes(group);
  if (group === 1 || !(roCompat & RO_COMPAT.SPARSE_SUPER)) return true;
  return [3, 5, 7].some((base) => isPowerOf(base, group));
}

function isPowerOf(base: number, value: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** How many blocks of descriptors there are. */
export function descriptorBlockCount({ groupsCount, descriptorsPerBlock }: Superblock): number {
  return Math.ceil(groupsCount / descriptorsPerBlock);
}

/** Where block `index` of the descriptors lies (fs/ext4/super.c, descriptor_loc). */
export function descriptorBlock(superblock: Superblock, index: number): Blocks {
  const { incompat, firstMetaBg, blockSize, firstDataBlock } = superblock;
  const superblockAt = blockSize === 1024 ? 1 : 0;
  if (!(incompat & INCOMPAT.META_BG) || index < firstMetaBg) return blocks(superblockAt + 1 + index);
  const group = index * superblock.descriptorsPerBlock;
  // With 1 KiB blocks in larger clusters the boot block is block 0 of group 0, and the superblock block 1.
  const bootBlock = index === 0 && blockSize === 1024 && firstDataBlock === 0 ? 1 : 0;
  return blocks(groupFirstBlock(superblock, group) + bootBlock + (hasSuperblock(superblock, group) ? 1 : 0));
}

/** Blocks of superblock and descriptors at a group's start (fs/ext4/balloc.c, ext4_num_base_meta_blocks). */
export function baseMetadataBlocks(superblock: Superblock, group: number): number {
  const { incompat, firstMetaBg, descriptorsPerBlock, reservedGdtBlocks } = superblock;
  const copies = hasSuperblock(superblock, group) ? 1 : 0;
  const metaBg = (incompat & INCOMPAT.META_BG) !== 0;
  if (!metaBg || group < firstMetaBg * descriptorsPerBlock) {
    const table = metaBg ? firstMetaBg : descriptorBlockCount(superblock);
    return copies === 0 ? 0 : copies + table + reservedGdtBlocks;
  }
  // A meta block group keeps its block of descriptors in its first, second and last group.
  const within = group % descriptorsPerBlock;
  return copies + (within === 0 || within === 1 || within === descriptorsPerBlock - 1 ? 1 : 0);
}

/**
 * Parses block `index` of the descriptors into the table (Documentation/filesystems/ext4/group_descr.rst).
 *
 * @returns why it cannot be a mounted filesystem's (fs/ext4/super.c, ext4_check_descriptors), or undefined
 */
export function parseDescriptors(
  superblock: Superblock,
  groups: GroupTable,
  index: number,
  block: Buffer,
): Invalid | undefined {
  const { descriptorSize, descriptorsPerBlock, groupsCount } = superblock;
  const first = index * descriptorsPerBlock;
  const count = Math.min(descriptorsPerBlock, groupsCount - first);
  if (block.length < count * descriptorSize) return new Invalid('its group descriptors are cut off');
  for (let i = 0; i < count; i++) {
    decode(superblock, groups, first + i, block.subarray(i * descriptorSize, (i + 1) * descriptorSize));
    const reason = unsound(superblock, groups, first + i);
    if (reason !== undefined) return new Invalid(`its group ${first + i} has ${reason}`);
  }
  return undefined;
}

function decode(superblock: Superblock, groups: GroupTable, group: number, raw: Buffer): void {
  const wide = raw.length >= 64;
  const word = (low: number, high: number) =>
    raw.readUInt32LE(low) + (wide ? raw.readUInt32LE(high) * 2 ** 32 : 0);
  const half = (low: number, high: number) =>
    raw.readUInt16LE(low) + (wide ? raw.readUInt16LE(high) * 2 ** 16 : 0);
  // Without descriptor checksums these two fields mean nothing (fs/ext4/ext4.h, ext4_has_group_desc_csum).
  const uninit = (superblock.roCompat & (RO_COMPAT.UNINIT_BG | RO_COMPAT.METADATA_CSUM)) !== 0;
  groups.blockBitmap[group] = word(0x0, 0x20);
  groups.inodeBitmap[group] = word(0x4, 0x24);
  groups.inodeTable[group] = word(0x8, 0x28);
  groups.freeClusters[group] = half(0xc, 0x2c);
  groups.freeInodes[group] = half(0xe, 0x2e);
  groups.directories[group] = half(0x10, 0x30);
  groups.flags[group] = uninit ? raw.readUInt16LE(0x12) : 0;
  groups.unusedInodes[group] = uninit ? half(0x1c, 0x32) : 0;
}

function unsound(superblock: Superblock, groups: GroupTable, group: number): string | undefined {
  const { firstDataBlock, blocksCount, inodeTableBlocks, inodesPerGroup } = superblock;
  const outside = (block: number, length = 1) => block <= firstDataBlock || block + length > blocksCount;
  if (outside(groups.blockBitmap[group])) return 'its block bitmap outside the filesystem';
  if (outside(groups.inodeBitmap[group])) return 'its inode bitmap outside the filesystem';
  if (outside(groups.inodeTable[group], inodeTableBlocks)) return 'its inode table outside the filesystem';
  if (groups.unusedInodes[group] > inodesPerGroup) return 'more unused inodes than inodes';
  return undefined;
}
