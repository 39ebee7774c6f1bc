import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { featureNames, unknownFormat } from '../../lib/ext4/features.ts';
import {
  baseMetadataBlocks,
  blocksInGroup,
  descriptorBlock,
  descriptorBlockCount,
  GROUP_FLAG,
  GroupTable,
  hasSuperblock,
  parseDescriptors,
} from '../../lib/ext4/groups.ts';
import { Invalid } from '../../lib/ext4/invalid.ts';
import { COMPAT, INCOMPAT, parseSuperblock, RO_COMPAT, type Superblock } from '../../lib/ext4/superblock.ts';
import { makeSuperblock, superblockBytes } from '../support/ext4.ts';

type Change = (buffer: Buffer) => void;
const u32 =
  (at: number, value: number): Change =>
  (buffer) =>
    buffer.writeUInt32LE(value >>> 0, at);
const u16 =
  (at: number, value: number): Change =>
  (buffer) =>
    buffer.writeUInt16LE(value, at);
const all =
  (...changes: Change[]): Change =>
  (buffer) =>
    changes.forEach((change) => change(buffer));

const reason = (change: Change) => {
  const parsed = parseSuperblock(superblockBytes(change));
  return parsed instanceof Invalid ? parsed.reason : undefined;
};

describe('superblock', () => {
  test('geometry', () => {
    expect(makeSuperblock()).toMatchObject({
      revision: 1,
      blockSize: 4096,
      clusterSize: 4096,
      blocksPerCluster: 1,
      blocksCount: 114688,
      firstDataBlock: 0,
      blocksPerGroup: 32768,
      clustersPerGroup: 32768,
      inodesPerGroup: 8192,
      groupsCount: 4,
      inodesCount: 32768,
      inodeSize: 256,
      inodeTableBlocks: 512,
      descriptorSize: 64,
      descriptorsPerBlock: 64,
      groupsPerFlex: 16,
      firstInode: 11,
    });
  });

  test('revision 0 has inodes of 128 bytes and reserves ten, whatever the fields say', () => {
    const old = makeSuperblock(
      all(u32(0x4c, 0), u16(0x58, 0xffff), u32(0x54, 0), u32(0x60, 0), u32(0x64, 0), u16(0xfe, 9999)),
    );
    expect(old).toMatchObject({ inodeSize: 128, firstInode: 11, descriptorSize: 32, groupsPerFlex: 1 });
  });

  test('64-bit counts', () => {
    const groups = 2 ** 17 + 1;
    const large = makeSuperblock(all(u32(0x4, 1), u32(0x150, 1), u32(0x0, groups * 8192)));
    expect(large.blocksCount).toBe(2 ** 32 + 1);
    expect(large.groupsCount).toBe(groups);
  });

  test('1 KiB blocks begin at block 1, in larger clusters at block 0', () => {
    const small = all(u32(0x18, 0), u32(0x1c, 0), u32(0x20, 8192), u32(0x24, 8192), u32(0x14, 1));
    const counts = all(u32(0x4, 8193), u32(0x0, 2048), u32(0x28, 2048));
    expect(makeSuperblock(all(small, counts))).toMatchObject({ groupsCount: 1, firstDataBlock: 1 });
    const clusters = all(u32(0x1c, 4), u32(0x20, 8192 * 16), u32(0x14, 0), u32(0x64, RO_COMPAT.BIGALLOC));
    expect(makeSuperblock(all(small, counts, clusters))).toMatchObject({ blocksPerCluster: 16 });
  });

  test('quota and orphan inodes are the system’s', () => {
    const numbers = all(u32(0x240, 3), u32(0x244, 4), u32(0x26c, 13), u32(0x280, 12));
    expect(makeSuperblock(numbers).systemInodes).toEqual([13]);
    expect(makeSuperblock(all(numbers, u32(0x5c, COMPAT.ORPHAN_FILE))).systemInodes).toEqual([13, 12]);
  });

  test.each<[string, Change]>([
    ['superblock', u16(0x38, 0xef52)],
    ['revision', u32(0x4c, 2)],
    ['external journal', u32(0x60, INCOMPAT.JOURNAL_DEV)],
    ['block size', u32(0x18, 7)],
    ['block size', u32(0x18, -1)],
    ['flex', (b) => (b[0x174] = 32)],
    ['64bit', all(u32(0x60, INCOMPAT.EXTENT), u32(0x150, 1))],
    ['cluster size', u32(0x1c, 1)],
    ['cluster size', u32(0x1c, 21)],
    ['clusters', u32(0x1c, 3)],
    ['groups', u32(0x20, 0)],
    ['groups', u32(0x20, 32769)],
    ['whole clusters', all(u32(0x64, RO_COMPAT.BIGALLOC), u32(0x1c, 6))],
    ['inode size', u16(0x58, 0)],
    ['inode size', u16(0x58, 64)],
    ['inode size', u16(0x58, 192)],
    ['inode size', u16(0x58, 8192)],
    ['first inode', u32(0x54, 10)],
    ['number of inodes', u32(0x28, 15)],
    ['number of inodes', u32(0x28, 32769)],
    ['inode tables', all(u32(0x20, 512), u32(0x24, 512))],
    ['descriptors', u16(0xfe, 32)],
    ['descriptors', u16(0xfe, 96)],
    ['descriptors', u16(0xfe, 2048)],
    ['meta block group', all(u32(0x60, INCOMPAT.META_BG), u32(0x104, 2))],
    ['first data block', u32(0x14, 1)],
    ['too large', u32(0x150, 0x10000)],
    ['no blocks', u32(0x4, 0)],
    ['number of inodes', u32(0x0, 8192)],
  ])('refused: %s', (word, change) => expect(reason(change)).toContain(word));

  test('fewer bytes are refused', () => {
    expect(parseSuperblock(superblockBytes().subarray(0, 1023))).toBeInstanceOf(Invalid);
  });

  // Random words, mostly small, written over a sound superblock: deeper checks are reached than by random bytes.
  const mutated = fc
    .array(
      fc.tuple(
        fc.oneof(
          fc.constantFrom(0, 4, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x4c, 0x54, 0x58, 0x5c, 0x60, 0x64),
          fc.constantFrom(0xcc, 0xfc, 0x104, 0x150, 0x174, 0x24c, 0x250),
        ),
        fc.oneof(fc.nat(70), fc.nat(40_000), fc.integer({ min: 0, max: 2 ** 32 - 1 })),
      ),
      { maxLength: 4 },
    )
    .map((words) => superblockBytes((b) => words.forEach(([at, value]) => b.writeUInt32LE(value, at))));
  const random = fc.uint8Array({ minLength: 1024, maxLength: 1024 }).map((raw) => {
    const buffer = Buffer.from(raw);
    buffer.writeUInt16LE(0xef53, 0x38);
    return buffer;
  });

  test('any 1024 bytes are a geometry that holds together, or are refused', () => {
    fc.assert(
      fc.property(fc.oneof({ weight: 1, arbitrary: random }, { weight: 9, arbitrary: mutated }), (buffer) => {
        const parsed = parseSuperblock(buffer);
        if (parsed instanceof Invalid) return;
        for (const value of Object.values(parsed)) {
          if (typeof value === 'number') expect(Number.isSafeInteger(value)).toBe(true);
        }
        expect(parsed.groupsCount).toBeLessThanOrEqual(2 ** 22);
        expect(blocksInGroup(parsed, parsed.groupsCount - 1)).toBeGreaterThan(0);
        expect(descriptorBlockCount(parsed) * parsed.descriptorsPerBlock).toBeLessThan(2 ** 23);
        expect(baseMetadataBlocks(parsed, parsed.groupsCount - 1)).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: 1000 },
    );
  });
});

test('features have the names that dumpe2fs gives them', () => {
  const features = {
    compat: COMPAT.HAS_JOURNAL | COMPAT.SPARSE_SUPER2 | 0x8000_0000,
    incompat: INCOMPAT['64BIT'] | INCOMPAT.NEEDS_RECOVERY | 0x8,
    roCompat: RO_COMPAT['READ-ONLY'] | 0x800,
  };
  expect(featureNames(features)).toEqual(
    ['has_journal', 'sparse_super2', 'FEATURE_C31', 'needs_recovery', 'journal_dev', '64bit'].concat(
      'FEATURE_R11',
      'read-only',
    ),
  );
});

describe('where superblocks and descriptors lie', () => {
  const groupsWith = (superblock: Superblock, count: number) =>
    Array.from({ length: count }, (_, group) => group).filter((group) => hasSuperblock(superblock, group));

  test('copies of the superblock', () => {
    expect(groupsWith(makeSuperblock(), 130)).toEqual([0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    expect(groupsWith(makeSuperblock(u32(0x64, 0)), 4)).toEqual([0, 1, 2, 3]);
    const two = all(u32(0x5c, COMPAT.SPARSE_SUPER2), u32(0x24c, 1), u32(0x250, 3));
    expect(groupsWith(makeSuperblock(two), 4)).toEqual([0, 1, 3]);
    expect(groupsWith(makeSuperblock(u32(0x5c, COMPAT.SPARSE_SUPER2)), 4)).toEqual([0]);
  });

  // 200 groups of 4 KiB blocks: four blocks with 64 descriptors each.
  const many = all(u32(0x4, 200 * 32768), u32(0x0, 200 * 8192), u16(0xce, 10));

  test('descriptors follow the superblock', () => {
    const superblock = makeSuperblock(many);
    expect([0, 1, 2, 3].map((index) => descriptorBlock(superblock, index))).toEqual([1, 2, 3, 4]);
    expect([0, 1, 2].map((group) => baseMetadataBlocks(superblock, group))).toEqual([15, 15, 0]);
  });

  test('meta_bg: each block of descriptors lies in the groups that it describes', () => {
    const metaBg = all(many, u32(0x60, INCOMPAT.META_BG | INCOMPAT['64BIT']), u32(0x104, 1));
    const superblock = makeSuperblock(all(metaBg, u16(0xce, 0)));
    // Group 64 has no superblock, group 128 neither; group 0's is in block 0, and block 0 of them before that border.
    expect([0, 1, 2].map((index) => descriptorBlock(superblock, index))).toEqual([
      1,
      64 * 32768,
      128 * 32768,
    ]);
    const groups = [0, 2, 63, 64, 65, 66, 81, 127, 128];
    expect(groups.map((group) => baseMetadataBlocks(superblock, group))).toEqual([2, 0, 0, 1, 1, 0, 1, 1, 1]);
    const fromStart = makeSuperblock(all(metaBg, u32(0x104, 0)));
    expect(descriptorBlock(fromStart, 0)).toBe(1);
  });
});

describe('group descriptors', () => {
  const block = (superblock: Superblock, changes: Change = () => undefined) => {
    const buffer = Buffer.alloc(4096);
    for (let group = 0; group < superblock.groupsCount; group++) {
      const at = group * superblock.descriptorSize;
      buffer.writeUInt32LE(100 + group, at);
      buffer.writeUInt32LE(200 + group, at + 4);
      buffer.writeUInt32LE(1000 + group * 512, at + 8);
      buffer.writeUInt16LE(7, at + 0xc);
      buffer.writeUInt16LE(8, at + 0xe);
      buffer.writeUInt16LE(9, at + 0x10);
      buffer.writeUInt16LE(GROUP_FLAG.INODE_ZEROED, at + 0x12);
      buffer.writeUInt16LE(10, at + 0x1c);
    }
    changes(buffer);
    return buffer;
  };
  const parse = (superblock: Superblock, changes?: Change) => {
    const groups = new GroupTable(superblock.groupsCount);
    return parseDescriptors(superblock, groups, 0, block(superblock, changes))?.reason ?? groups;
  };
  const rows = ({ blockBitmap, inodeBitmap, inodeTable }: GroupTable, group: number) => [
    blockBitmap[group],
    inodeBitmap[group],
    inodeTable[group],
  ];

  test('32 and 64 bytes, with their high halves', () => {
    const wide = makeSuperblock(all(u32(0x4, 0), u32(0x150, 2), u32(0x0, 2 ** 18 * 8192)));
    const one = { ...wide, groupsCount: 2 };
    const high = all(u32(64 + 0x20, 1), u32(64 + 0x24, 1), u32(64 + 0x28, 1));
    const counts = all(u16(64 + 0x2c, 1), u16(64 + 0x2e, 2), u16(64 + 0x30, 3));
    const groups = parse(one, all(high, counts)) as GroupTable;
    expect(rows(groups, 1)).toEqual([2 ** 32 + 101, 2 ** 32 + 201, 2 ** 32 + 1512]);
    expect([groups.freeClusters[1], groups.freeInodes[1], groups.directories[1]]).toEqual([
      65536 + 7,
      131072 + 8,
      196608 + 9,
    ]);
    const narrow = makeSuperblock(all(u32(0x60, INCOMPAT.EXTENT), u16(0xfe, 0)));
    const small = parse(narrow) as GroupTable;
    expect(rows(small, 3)).toEqual([103, 203, 2536]);
    expect(small.freeClusters[3]).toBe(7);
  });

  test('without checksums the flags and the unused tail mean nothing', () => {
    expect(parse(makeSuperblock()) as GroupTable).toMatchObject({
      flags: new Uint16Array(4).fill(GROUP_FLAG.INODE_ZEROED),
      unusedInodes: new Uint32Array(4).fill(10),
    });
    const plain = parse(makeSuperblock(u32(0x64, RO_COMPAT.SPARSE_SUPER))) as GroupTable;
    expect(plain).toMatchObject({ flags: new Uint16Array(4), unusedInodes: new Uint32Array(4) });
  });

  test.each<[string, Change]>([
    ['group 0 has its block bitmap', u32(0, 0)],
    ['group 1 has its block bitmap', u32(64, 114688)],
    ['group 2 has its inode bitmap', u32(128 + 4, 0xffff_ffff)],
    ['group 3 has its inode table', u32(192 + 8, 114688 - 511)],
    ['group 3 has its inode table', u32(192 + 0x28, 0xffff_ffff)],
    ['group 0 has more unused inodes', u16(0x1c, 8193)],
  ])('refused: %s', (text, change) => expect(parse(makeSuperblock(), change)).toContain(text));

  test('a table may end with the device; cut off descriptors are refused', () => {
    const superblock = makeSuperblock();
    expect(parse(superblock, u32(192 + 8, 114688 - 512))).toBeInstanceOf(GroupTable);
    const cut = block(superblock).subarray(0, 4 * 64 - 1);
    expect(parseDescriptors(superblock, new GroupTable(4), 0, cut)).toBeInstanceOf(Invalid);
  });

  test('any bytes are locations inside the device, or are refused', () => {
    const superblock = makeSuperblock();
    const bytes = fc.uint8Array({ minLength: 256, maxLength: 256 });
    const sparse = fc.array(fc.tuple(fc.nat(63), fc.nat(130_000)), { maxLength: 3 });
    fc.assert(
      fc.property(fc.option(bytes, { nil: undefined }), sparse, (raw, words) => {
        const groups = new GroupTable(4);
        const buffer = raw ? Buffer.from(raw) : block(superblock);
        for (const [word, value] of words) buffer.writeUInt32LE(value, word * 4);
        if (parseDescriptors(superblock, groups, 0, buffer) !== undefined) return;
        for (let group = 0; group < 4; group++) {
          for (const at of rows(groups, group)) expect(at > 0 && at < 114688).toBe(true);
          expect(groups.unusedInodes[group]).toBeLessThanOrEqual(8192);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

test('features without which nobody may read it, and that have no name here', () => {
  const known = { compat: 2 ** 31, incompat: INCOMPAT.EXTENT | INCOMPAT.CASEFOLD, roCompat: 2 ** 31 };
  expect(unknownFormat(known)).toEqual([]);
  expect(unknownFormat({ ...known, incompat: known.incompat | (2 ** 27) })).toEqual(['FEATURE_I27']);
});
