import { blocks, bytes, type Blocks, type Bytes } from '../layout/units.ts';
import { COMPAT, INCOMPAT, RO_COMPAT, type Features } from './features.ts';
import { Invalid } from './invalid.ts';

export { COMPAT, INCOMPAT, RO_COMPAT, type Features } from './features.ts';

/**
 * The ext4 superblock (Documentation/filesystems/ext4/super.rst): 1024 bytes from byte 1024 of the device,
 * little-endian.
 */
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 1024;

const EXT4_MAGIC = 0xef53;

/** Of s_state (Documentation/filesystems/ext4/super.rst). */
export const STATE = { CLEAN: 0x1, ERRORS: 0x2, ORPHANS: 0x4 } as const;

/** What the superblock says of the filesystem's shape. The numbers hold together: see {@link parseSuperblock}. */
export interface Superblock extends Features {
  readonly revision: 0 | 1;
  /** {@link STATE}. On a mounted filesystem it tells nothing of how clean it is. */
  readonly state: number;
  readonly uuid: string;
  readonly volumeName: string;
  readonly blockSize: Bytes;
  /** The unit of allocation; more than a block with bigalloc only. */
  readonly clusterSize: Bytes;
  readonly blocksPerCluster: number;
  readonly blocksCount: Blocks;
  readonly reservedBlocks: Blocks;
  /** Of free space only the unmounted or synced filesystem's number is right; the kernel counts elsewhere. */
  readonly freeBlocks: Blocks;
  readonly inodesCount: number;
  readonly freeInodes: number;
  /** The first block of group 0: 1 where the superblock has a 1 KiB block of its own, else 0. */
  readonly firstDataBlock: Blocks;
  readonly blocksPerGroup: number;
  readonly clustersPerGroup: number;
  readonly inodesPerGroup: number;
  readonly groupsCount: number;
  readonly inodeSize: number;
  /** The first inode that is not reserved. */
  readonly firstInode: number;
  /** Inodes from {@link firstInode} on that belong to the filesystem itself and can be opened by nobody. */
  readonly systemInodes: readonly number[];
  /** Blocks of one group's inode table. */
  readonly inodeTableBlocks: number;
  readonly descriptorSize: number;
  readonly descriptorsPerBlock: number;
  /** The first block of descriptors that lies in its own meta block group. */
  readonly firstMetaBg: number;
  readonly reservedGdtBlocks: number;
  /** Block groups per flex group; 1 without flex_bg. */
  readonly groupsPerFlex: number;
  /** With sparse_super2 the only groups beside group 0 that have a copy of the superblock; 0 is none. */
  readonly backupGroups: readonly [number, number];
}

/** Parses a superblock, or says why no ext4 of this shape would be mounted (fs/ext4/super.c, __ext4_fill_super). */
export function parseSuperblock(buffer: Buffer): Superblock | Invalid {
  if (buffer.length < SUPERBLOCK_SIZE) return new Invalid('it is shorter than a superblock');
  if (buffer.readUInt16LE(0x38) !== EXT4_MAGIC) return new Invalid('it has no ext4 superblock');
  const superblock = decode(buffer);
  const reason = unsound(buffer, superblock);
  return reason === undefined ? superblock : new Invalid(reason);
}

function decode(buffer: Buffer): Superblock {
  const u32 = (at: number) => buffer.readUInt32LE(at);
  const features = { compat: u32(0x5c), incompat: u32(0x60), roCompat: u32(0x64) };
  const revision = u32(0x4c) as 0 | 1;
  // Before revision 1 inodes had one size, and reserved ones one number.
  const dynamic = revision !== 0;
  const inodeSize = dynamic ? buffer.readUInt16LE(0x58) : 128;
  const firstInode = dynamic ? u32(0x54) : 11;
  const blockSize = 1024 * 2 ** u32(0x18);
  const wide = (features.incompat & INCOMPAT['64BIT']) !== 0;
  const descriptorSize = wide ? buffer.readUInt16LE(0xfe) : 32;
  const count = (low: number, high: number) => blocks(u32(low) + (wide ? u32(high) * 2 ** 32 : 0));
  const blocksCount = count(0x4, 0x150);
  const firstDataBlock = blocks(u32(0x14));
  const blocksPerGroup = u32(0x20);
  const bigalloc = (features.roCompat & RO_COMPAT.BIGALLOC) !== 0;
  const clusterSize = 1024 * 2 ** u32(0x1c);
  return {
    ...features,
    ...{ revision, blocksCount, firstDataBlock, blocksPerGroup, inodeSize, firstInode, descriptorSize },
    state: buffer.readUInt16LE(0x3a),
    uuid: formatUuid(buffer.subarray(0x68, 0x78)),
    volumeName: buffer.toString('utf8', 0x78, 0x88).split('\0')[0],
    blockSize: bytes(blockSize),
    clusterSize: bytes(clusterSize),
    blocksPerCluster: clusterSize / blockSize,
    reservedBlocks: count(0x8, 0x154),
    freeBlocks: count(0xc, 0x158),
    inodesCount: u32(0x0),
    freeInodes: u32(0x10),
    clustersPerGroup: bigalloc ? u32(0x24) : blocksPerGroup,
    inodesPerGroup: u32(0x28),
    groupsCount: Math.ceil((blocksCount - firstDataBlock) / blocksPerGroup),
    systemInodes: systemInodes(buffer, features, firstInode),
    inodeTableBlocks: Math.ceil((u32(0x28) * inodeSize) / blockSize),
    descriptorsPerBlock: blockSize / descriptorSize,
    firstMetaBg: u32(0x104),
    reservedGdtBlocks: buffer.readUInt16LE(0xce),
    groupsPerFlex: groupsPerFlex(features, buffer[0x174]),
    backupGroups: [u32(0x24c), u32(0x250)],
  };
}

function groupsPerFlex({ incompat }: Features, log: number): number {
  return incompat & INCOMPAT.FLEX_BG ? 2 ** log : 1;
}

/** The inodes that ext4_iget refuses to those who come by number (fs/ext4/inode.c, __ext4_iget). */
function systemInodes(buffer: Buffer, { compat }: Features, firstInode: number): number[] {
  const at = { userQuota: 0x240, groupQuota: 0x244, projectQuota: 0x26c, orphanFile: 0x280 };
  const offsets = [at.userQuota, at.groupQuota, at.projectQuota];
  if (compat & COMPAT.ORPHAN_FILE) offsets.push(at.orphanFile);
  return offsets.map((offset) => buffer.readUInt32LE(offset)).filter((inode) => inode >= firstInode);
}

function formatUuid(raw: Buffer): string {
  return raw.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const MAX_LOG_BLOCK_SIZE = 6;
const MAX_LOG_CLUSTER_SIZE = 20;
const MAX_LOG_FLEX = 31;
/** Physical block numbers have 48 bits (struct ext4_extent). */
const MAX_BLOCKS = 2 ** 48;
/** 512 TiB in 4 KiB blocks: what a table of groups is built for here. The kernel keeps far more memory for each. */
const MAX_GROUPS = 2 ** 22;

const isPowerOfTwo = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));

/** The checks of __ext4_fill_super and the functions it calls, in an order where each can rely on the last ones. */
function unsound(buffer: Buffer, superblock: Superblock): string | undefined {
  const { incompat, revision, blockSize } = superblock;
  if (revision > 1) return `its revision ${revision} is unknown`;
  if (incompat & INCOMPAT.JOURNAL_DEV) return 'it is an external journal';
  if (buffer.readUInt32LE(0x18) > MAX_LOG_BLOCK_SIZE) return 'its block size is out of range';
  if (incompat & INCOMPAT.FLEX_BG && buffer[0x174] > MAX_LOG_FLEX) return 'its flex groups are too large';
  if (!(incompat & INCOMPAT['64BIT']) && buffer.readUInt32LE(0x150) !== 0) {
    return 'it has more blocks than a filesystem without the 64bit feature can have';
  }
  return (
    unsoundClusters(buffer, superblock) ??
    unsoundInodes(superblock) ??
    unsoundDescriptors(superblock, blockSize) ??
    unsoundSize(superblock)
  );
}

function unsoundClusters(buffer: Buffer, superblock: Superblock): string | undefined {
  const { roCompat, blockSize, blocksPerGroup, clustersPerGroup, blocksPerCluster } = superblock;
  const bigalloc = (roCompat & RO_COMPAT.BIGALLOC) !== 0;
  if (buffer.readUInt32LE(0x1c) > MAX_LOG_CLUSTER_SIZE || blocksPerCluster < 1) {
    return 'its cluster size is out of range';
  }
  if (!bigalloc && blocksPerCluster !== 1) return 'its clusters are not blocks, without bigalloc';
  // One block of bitmap covers a group.
  if (clustersPerGroup === 0 || clustersPerGroup > blockSize * 8) return 'its groups have a wrong size';
  if (clustersPerGroup * blocksPerCluster !== blocksPerGroup) return 'its groups are not whole clusters';
  return undefined;
}

function unsoundInodes(superblock: Superblock): string | undefined {
  const { blockSize, inodeSize, inodesPerGroup, inodeTableBlocks, blocksPerGroup, firstInode } = superblock;
  if (inodeSize < 128 || inodeSize > blockSize || !isPowerOfTwo(inodeSize)) {
    return 'its inode size is out of range';
  }
  if (firstInode < 11) return 'its first inode is a reserved one';
  if (inodesPerGroup < blockSize / inodeSize || inodesPerGroup > blockSize * 8) {
    return 'its groups have a wrong number of inodes';
  }
  if (inodeTableBlocks >= blocksPerGroup) return 'its inode tables are larger than its groups';
  return undefined;
}

function unsoundDescriptors(superblock: Superblock, blockSize: Bytes): string | undefined {
  const { incompat, descriptorSize, firstMetaBg } = superblock;
  const smallest = incompat & INCOMPAT['64BIT'] ? 64 : 32;
  if (descriptorSize < smallest || descriptorSize > 1024 || !isPowerOfTwo(descriptorSize)) {
    return 'its group descriptors have a wrong size';
  }
  const count = Math.ceil((superblock.groupsCount * descriptorSize) / blockSize);
  if (incompat & INCOMPAT.META_BG && firstMetaBg > count) return 'its first meta block group is out of range';
  return undefined;
}

function unsoundSize(superblock: Superblock): string | undefined {
  const { blockSize, blocksPerCluster, firstDataBlock, blocksCount, groupsCount } = superblock;
  const ownBlock = blockSize === 1024 && blocksPerCluster === 1;
  if (firstDataBlock !== (ownBlock ? 1 : 0)) return 'its first data block is wrong';
  if (blocksCount > MAX_BLOCKS || groupsCount > MAX_GROUPS) return 'it is too large';
  if (blocksCount <= firstDataBlock) return 'it has no blocks';
  if (groupsCount * superblock.inodesPerGroup !== superblock.inodesCount) {
    return 'its number of inodes does not fit its groups';
  }
  return undefined;
}
