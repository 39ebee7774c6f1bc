/**
 * The ext4 superblock (Documentation/filesystems/ext4/super.rst): 1024 bytes from byte 1024 of the device,
 * little-endian.
 */
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 1024;

/** Feature bits of fs/ext4/ext4.h that change what may be done here. */
export const COMPAT = { HAS_JOURNAL: 0x4, FAST_COMMIT: 0x400 } as const;
export const INCOMPAT = { FLEX_BG: 0x200 } as const;
export const RO_COMPAT = { BIGALLOC: 0x200 } as const;

export interface Features {
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
}

export interface Superblock extends Features {
  readonly blocksPerGroup: number;
  /** Block groups per flex group; 1 without flex_bg. */
  readonly groupsPerFlex: number;
}

/** Parses a superblock; undefined when the bytes are not one. */
export function parseSuperblock(buffer: Buffer): Superblock | undefined {
  const EXT4_MAGIC = 0xef53;
  if (buffer.length < SUPERBLOCK_SIZE || buffer.readUInt16LE(0x38) !== EXT4_MAGIC) return undefined;
  const incompat = buffer.readUInt32LE(0x60);
  const logGroupsPerFlex = buffer[0x174];
  const blocksPerGroup = buffer.readUInt32LE(0x20);
  if (blocksPerGroup === 0 || logGroupsPerFlex > 31) return undefined;
  return {
    compat: buffer.readUInt32LE(0x5c),
    incompat,
    roCompat: buffer.readUInt32LE(0x64),
    blocksPerGroup,
    groupsPerFlex: incompat & INCOMPAT.FLEX_BG ? 2 ** logGroupsPerFlex : 1,
  };
}
