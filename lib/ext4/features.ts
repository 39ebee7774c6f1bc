/**
 * Feature bits of fs/ext4/ext4.h and e2fsprogs lib/ext2fs/ext2_fs.h. In lower case the keys are the names that
 * dumpe2fs and tune2fs use (lib/e2p/feature.c).
 */
export const COMPAT = {
  DIR_PREALLOC: 0x1,
  IMAGIC_INODES: 0x2,
  HAS_JOURNAL: 0x4,
  EXT_ATTR: 0x8,
  RESIZE_INODE: 0x10,
  DIR_INDEX: 0x20,
  SPARSE_SUPER2: 0x200,
  FAST_COMMIT: 0x400,
  STABLE_INODES: 0x800,
  ORPHAN_FILE: 0x1000,
} as const;

export const INCOMPAT = {
  COMPRESSION: 0x1,
  FILETYPE: 0x2,
  NEEDS_RECOVERY: 0x4,
  JOURNAL_DEV: 0x8,
  META_BG: 0x10,
  EXTENT: 0x40,
  '64BIT': 0x80,
  MMP: 0x100,
  FLEX_BG: 0x200,
  EA_INODE: 0x400,
  DIRDATA: 0x1000,
  METADATA_CSUM_SEED: 0x2000,
  LARGE_DIR: 0x4000,
  INLINE_DATA: 0x8000,
  ENCRYPT: 0x1_0000,
  CASEFOLD: 0x2_0000,
} as const;

export const RO_COMPAT = {
  SPARSE_SUPER: 0x1,
  LARGE_FILE: 0x2,
  HUGE_FILE: 0x8,
  UNINIT_BG: 0x10,
  DIR_NLINK: 0x20,
  EXTRA_ISIZE: 0x40,
  QUOTA: 0x100,
  BIGALLOC: 0x200,
  METADATA_CSUM: 0x400,
  'READ-ONLY': 0x1000,
  PROJECT: 0x2000,
  SHARED_BLOCKS: 0x4000,
  VERITY: 0x8000,
  ORPHAN_PRESENT: 0x1_0000,
} as const;

export interface Features {
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
}

/** The names of all features that are set; a bit without a name is "FEATURE_C12" and the like, as in e2fsprogs. */
export function featureNames({ compat, incompat, roCompat }: Features): string[] {
  return [
    ...names('C', COMPAT, compat),
    ...names('I', INCOMPAT, incompat),
    ...names('R', RO_COMPAT, roCompat),
  ];
}

/** The names of features that nobody may read the filesystem without knowing, and that are not known here. */
export const unknownFormat = ({ incompat }: Features): string[] =>
  names('I', INCOMPAT, incompat).filter((name) => name.startsWith('FEATURE_'));

function names(word: string, table: Record<string, number>, value: number): string[] {
  const byBit = new Map(Object.entries(table).map(([name, bit]) => [bit, name.toLowerCase()]));
  return Array.from({ length: 32 }, (_, bit) => bit)
    .filter((bit) => (value >>> bit) & 1)
    .map((bit) => byBit.get(2 ** bit) ?? `FEATURE_${word}${bit}`);
}
