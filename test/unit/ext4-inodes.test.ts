import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  checkNode,
  CORRUPT,
  entryCount,
  nodeExtents,
  ROOT_SIZE,
  visitChildren,
  visitExtents,
} from '../../lib/ext4/extentTree.ts';
import { FileColumns, type FileLayout } from '../../lib/ext4/files.ts';
import { GROUP_FLAG, GroupTable } from '../../lib/ext4/groups.ts';
import { inodeKind, inodeSectors, inodeSize, KIND } from '../../lib/ext4/inode.ts';
import { Invalid } from '../../lib/ext4/invalid.ts';
import { COMPAT, INCOMPAT } from '../../lib/ext4/superblock.ts';
import { noInodes, readInodes, tableReads, type InodeSink, type TableRead } from '../../lib/ext4/tables.ts';
import { countLeaf, DeepFiles, listChildren, NodeList } from '../../lib/ext4/trees.ts';
import { ExtentTable, mergeExtents } from '../../lib/layout/extents.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { RunCounter } from '../../lib/layout/runCounter.ts';
import { layouts } from '../support/arbitrary.ts';
import {
  EXTENTS_FL,
  makeSuperblock,
  viewOf,
  writeHeader,
  writeIndex,
  writeInode,
  writeLeaf,
  type RawExtent,
} from '../support/ext4.ts';

const superblock = makeSuperblock();
const BLOCKS = superblock.blocksCount;

const leaf = (extents: RawExtent[], change: (buffer: Buffer) => void = () => undefined) => {
  const buffer = Buffer.alloc(4096);
  writeLeaf(buffer, 0, extents, 340);
  change(buffer);
  return buffer;
};
const check = (buffer: Buffer, room = 4096) => checkNode(viewOf(buffer), 0, room, superblock);

describe('fragments are counted as from a merged table', () => {
  const expected = (table: ExtentTable) => ({
    blocks: table.blocks as number,
    fragments: countFragments(mergeExtents(table)),
  });

  test('extent by extent', () => {
    fc.assert(
      fc.property(layouts(), (table) => {
        const counter = new RunCounter();
        for (const { logical, physical, length } of table) counter.add(logical, physical, length);
        expect({ blocks: counter.blocks, fragments: counter.fragments }).toEqual(expected(table));
      }),
    );
  });

  test('stretch by stretch, wherever it is cut', () => {
    fc.assert(
      fc.property(layouts(), fc.integer({ min: 1, max: 7 }), (table, size) => {
        const whole = new RunCounter();
        const all = [...table];
        for (let from = 0; from < all.length; from += size) {
          const part = all.slice(from, from + size);
          const counter = new RunCounter();
          for (const { logical, physical, length } of part) counter.add(logical, physical, length);
          const [first, last] = [part[0], part[part.length - 1]];
          whole.addCounted({
            firstLogical: first.logical,
            firstPhysical: first.physical,
            lastLogical: last.logical,
            lastPhysical: last.physical,
            lastLength: last.length,
            blocks: counter.blocks,
            fragments: counter.fragments,
          });
        }
        expect({ blocks: whole.blocks, fragments: whole.fragments }).toEqual(expected(table));
      }),
    );
  });
});

describe('extent tree nodes', () => {
  test('extents, 48-bit places and the unwritten bit', () => {
    const large = { ...superblock, blocksCount: (2 ** 40) as typeof superblock.blocksCount };
    const buffer = leaf([
      { logical: 0, physical: 2 ** 32 + 5, length: 32768 },
      { logical: 40000, physical: 77, length: 10, unwritten: true },
      { logical: 2 ** 32 - 1, physical: 99, length: 1 },
    ]);
    const seen: unknown[] = [];
    visitExtents(viewOf(buffer), 0, (...extent) => seen.push(extent));
    expect(checkNode(viewOf(buffer), 0, 4096, large)).toBe(0);
    expect(seen).toEqual([
      [0, 2 ** 32 + 5, 32768, false],
      [40000, 77, 10, true],
      [2 ** 32 - 1, 99, 1, false],
    ]);
    const table = nodeExtents(viewOf(buffer), 0, 4096, large) as ExtentTable;
    expect([...table].map(({ flags }) => flags)).toEqual([0, 0x800, 0]);
    expect(table.blocks).toBe(32768 + 10 + 1);
  });

  test('nodes below, with 48-bit places', () => {
    const large = { ...superblock, blocksCount: (2 ** 40) as typeof superblock.blocksCount };
    const buffer = Buffer.alloc(60);
    writeIndex(buffer, 0, [[0, 2 ** 32 + 9] as const, [1000, 12] as const], 2);
    const seen: number[][] = [];
    visitChildren(viewOf(buffer), 0, (...child) => seen.push(child));
    expect(checkNode(viewOf(buffer), 0, ROOT_SIZE, large)).toBe(2);
    expect(seen).toEqual([
      [0, 2 ** 32 + 9],
      [1000, 12],
    ]);
    expect(nodeExtents(viewOf(buffer), 0, ROOT_SIZE, large)).toBeInstanceOf(Invalid);
  });

  const one = { logical: 0, physical: 500, length: 8 };
  test.each<[string, Buffer, number?]>([
    ['no magic', leaf([one], (b) => b.writeUInt16LE(0, 0))],
    ['no room', leaf([], (b) => b.writeUInt16LE(0, 4))],
    ['more room than there is', leaf([one], (b) => b.writeUInt16LE(341, 4))],
    ['more room than a root has', leaf([one], (b) => b.writeUInt16LE(5, 4)), ROOT_SIZE],
    ['more entries than room', leaf([one], (b) => b.writeUInt16LE(341, 2))],
    ['too deep', leaf([one], (b) => b.writeUInt16LE(6, 6))],
    ['index without entries', leaf([], (b) => b.writeUInt16LE(1, 6))],
    ['no length', leaf([{ ...one, length: 0 }])],
    ['in the superblock', leaf([{ ...one, physical: 0 }])],
    ['over the end of the device', leaf([{ ...one, physical: BLOCKS - 7 }])],
    ['over the last logical block', leaf([{ ...one, logical: 2 ** 32 - 7 }])],
    ['overlapping', leaf([one, { logical: 7, physical: 900, length: 1 }])],
    ['out of order', leaf([{ ...one, logical: 100 }, one])],
  ])('damaged: %s', (_, buffer, room) => {
    expect(check(buffer, room)).toBe(CORRUPT);
    expect(nodeExtents(viewOf(buffer), 0, room ?? 4096, superblock)).toBeInstanceOf(Invalid);
  });

  test.each<[string, (readonly [number, number])[]]>([
    ['a child outside the device', [[0, BLOCKS]]],
    ['a child in the superblock', [[0, 0]]],
    ['two children of one block', [[5, 100] as const, [5, 101] as const]],
  ])('damaged index: %s', (_, children) => {
    const buffer = Buffer.alloc(4096);
    writeIndex(buffer, 0, children, 1, 340);
    expect(check(buffer)).toBe(CORRUPT);
  });

  test('ends with the device are sound', () => {
    expect(check(leaf([{ logical: 2 ** 32 - 8, physical: BLOCKS - 8, length: 8 }]))).toBe(0);
  });
});

const INODE = superblock.inodeSize;

/** A table of inodes from number 1 on; `fill` writes each at its offset. */
function tableOf(count: number, fill: (buffer: Buffer, at: number, inode: number) => void): DataView {
  const buffer = Buffer.alloc(count * INODE);
  for (let inode = 1; inode <= count; inode++) fill(buffer, (inode - 1) * INODE, inode);
  return viewOf(buffer);
}

const sinkOf = (): InodeSink => ({
  files: new FileColumns(0),
  doubtful: new FileColumns(0),
  deep: new DeepFiles(),
  counts: noInodes(),
});

function read(table: DataView, geometry = superblock): InodeSink {
  const sink = sinkOf();
  readInodes(table, 0, 1, table.byteLength / geometry.inodeSize, geometry, sink);
  return sink;
}

describe('inodes', () => {
  const kindOf = (inode: Parameters<typeof writeInode>[2], number = 20, geometry = superblock) => {
    const buffer = Buffer.alloc(INODE);
    writeInode(buffer, 0, inode);
    return inodeKind(viewOf(buffer), 0, number, geometry);
  };

  test.each<[keyof typeof KIND, Parameters<typeof writeInode>[2], number?]>([
    ['EXTENTS', {}],
    ['FREE', { mode: 0 }],
    ['FREE', { links: 0 }],
    ['SYSTEM', {}, 8],
    ['SYSTEM', { mode: 0o40755 }, 1],
    ['DIRECTORY', { mode: 0o40755 }, 2],
    ['DIRECTORY', { mode: 0o40755 }, 11],
    ['SPECIAL', { mode: 0o120777 }],
    ['SPECIAL', { mode: 0o60600 }],
    ['SYSTEM', { flags: EXTENTS_FL | 0x20_0000 }],
    ['INLINE', { flags: EXTENTS_FL | 0x1000_0000, size: 10 }],
    ['INDIRECT', { flags: 0, sectors: 8 }],
    ['EMPTY', { flags: 0 }],
  ])('%s', (kind, inode, number) => expect(kindOf(inode, number)).toBe(KIND[kind]));

  test('the orphan file is the system’s', () => {
    const geometry = makeSuperblock((b) => {
      b.writeUInt32LE(COMPAT.ORPHAN_FILE, 0x5c);
      b.writeUInt32LE(20, 0x280);
    });
    expect(kindOf({}, 20, geometry)).toBe(KIND.SYSTEM);
    expect(kindOf({}, 21, geometry)).toBe(KIND.EXTENTS);
  });

  test('64-bit sizes of files, 32-bit ones of directories, and both ways of counting blocks', () => {
    const buffer = Buffer.alloc(INODE);
    const size = 5 * 2 ** 32 + 7;
    writeInode(buffer, 0, { size, sectors: 3 * 2 ** 32 + 1 });
    expect(inodeSize(viewOf(buffer), 0, superblock)).toBe(size);
    expect(inodeSectors(viewOf(buffer), 0, superblock)).toBe(3 * 2 ** 32 + 1);
    expect(inodeSectors(viewOf(buffer), 0, { ...superblock, roCompat: 0 })).toBe(1);
    writeInode(buffer, 0, { size, mode: 0o40755, sectors: 3, flags: EXTENTS_FL | 0x4_0000 });
    expect(inodeSize(viewOf(buffer), 0, superblock)).toBe(7);
    expect(inodeSize(viewOf(buffer), 0, { ...superblock, incompat: INCOMPAT.LARGE_DIR })).toBe(size);
    expect(inodeSectors(viewOf(buffer), 0, superblock)).toBe(3 * 8);
  });

  test('a table: every field of every file, and counts of the rest', () => {
    const sink = read(
      tableOf(40, (buffer, at, inode) => {
        if (inode === 2) writeInode(buffer, at, { mode: 0o40755 });
        if (inode === 20) writeInode(buffer, at, { size: 5 * 4096, generation: 0xdead_beef, links: 3 });
        if (inode === 20) {
          writeLeaf(buffer, at + 0x28, [
            { logical: 0, physical: 1000, length: 2 },
            { logical: 2, physical: 1002, length: 1, unwritten: true },
            // As far behind as the hole is long: it goes on.
            { logical: 5, physical: 1005, length: 1 },
            { logical: 6, physical: 3000, length: 1 },
          ]);
        }
        if (inode === 21) writeInode(buffer, at, { size: 4096 });
        if (inode === 21) writeLeaf(buffer, at + 0x28, []);
        if (inode === 22) writeInode(buffer, at, { size: 4096 });
        if (inode === 23) writeInode(buffer, at, { size: 9000 });
        if (inode === 23) writeIndex(buffer, at + 0x28, [[0, 700] as const, [50, 600] as const], 1);
        if (inode === 24) writeInode(buffer, at, { size: 2 ** 32 * 4096 + 1 });
        if (inode === 24) writeLeaf(buffer, at + 0x28, [{ logical: 0, physical: 1000, length: 1 }]);
        if (inode === 25) writeInode(buffer, at, { mode: 0o120777 });
        if (inode === 26) writeInode(buffer, at, { flags: 0x1000_0000, size: 10 });
        if (inode === 27) writeInode(buffer, at, { flags: 0, sectors: 2, size: 4096, generation: 7 });
        if (inode === 8) writeInode(buffer, at, { size: 4096 });
      }),
    );
    expect([...sink.files]).toEqual<FileLayout[]>([
      {
        inode: 20,
        generation: 0xdead_beef,
        size: 20480,
        blocks: 5,
        fragments: 2,
        depth: 0,
        flags: EXTENTS_FL,
        links: 3,
      },
    ]);
    expect([...sink.doubtful].map(({ inode, blocks, fragments }) => [inode, blocks, fragments])).toEqual([
      [22, 0, 0],
      [24, 0, 0],
      [27, 0, 0],
    ]);
    expect([...sink.doubtful].at(-1)).toMatchObject({ size: 4096, generation: 7, depth: 0 });
    expect([...sink.deep.files].map(({ inode, depth }) => [inode, depth])).toEqual([[23, 1]]);
    const below = sink.deep.below[1];
    expect([...below.block.subarray(0, below.count)]).toEqual([700, 600]);
    expect(sink.counts).toEqual({
      files: 4,
      directories: 1,
      special: 1,
      inline: 1,
      indirect: 1,
      empty: 0,
      unmapped: 1,
      system: 1,
    });
  });

  test('a file of no bytes is empty whatever else it is, and one with a size and no block is unmapped', () => {
    const [inline, prealloc] = [EXTENTS_FL | 0x1000_0000, { logical: 0, physical: 1000, length: 9 }];
    const sink = read(
      tableOf(40, (buffer, at, inode) => {
        // Empty: nothing mapped, preallocated, no sound tree, in the inode, by indirect blocks, nothing at all.
        if (inode >= 20 && inode <= 22) writeInode(buffer, at);
        if (inode === 20) writeLeaf(buffer, at + 0x28, []);
        if (inode === 21) writeLeaf(buffer, at + 0x28, [{ ...prealloc, unwritten: true }]);
        if (inode === 23) writeInode(buffer, at, { flags: inline });
        if (inode === 24) writeInode(buffer, at, { flags: 0, sectors: 8 });
        if (inode === 25) writeInode(buffer, at, { flags: 0 });
        // Unmapped: with extents and without.
        if (inode === 30) writeInode(buffer, at, { size: 1 });
        if (inode === 30) writeLeaf(buffer, at + 0x28, []);
        if (inode === 31) writeInode(buffer, at, { size: 1, flags: 0 });
      }),
    );
    expect(sink.counts).toEqual({ ...noInodes(), empty: 6, unmapped: 2 });
    expect(sink.files.count + sink.doubtful.count + sink.deep.files.count).toBe(0);
  });

  test('inodes of 128 and of 1024 bytes', () => {
    for (const size of [128, 1024]) {
      const geometry = makeSuperblock((b) => b.writeUInt16LE(size, 0x58));
      const buffer = Buffer.alloc(20 * size);
      writeInode(buffer, 19 * size, { generation: 5, size: 4096 });
      writeLeaf(buffer, 19 * size + 0x28, [{ logical: 0, physical: 1000, length: 1 }]);
      expect([...read(viewOf(buffer), geometry).files].map(({ inode }) => inode)).toEqual([20]);
    }
  });

  test('any bytes: every inode is one of the kinds, and what is answered is sound', () => {
    const raw = fc.uint8Array({ minLength: INODE, maxLength: INODE });
    const header = fc.record({
      entries: fc.nat(5),
      max: fc.integer({ min: 3, max: 5 }),
      depth: fc.nat(6),
      mode: fc.constantFrom(0o100644, 0o40755, 0o120777),
      flags: fc.constantFrom(EXTENTS_FL, EXTENTS_FL | 0x1000_0000, 0),
    });
    // Places mostly inside the device: else hardly any tree would be sound.
    const words = fc.array(fc.nat(130_000), { minLength: 12, maxLength: 12 });
    fc.assert(
      fc.property(fc.array(fc.tuple(raw, header, words), { minLength: 1, maxLength: 8 }), (inodes) => {
        const buffer = Buffer.alloc(inodes.length * INODE);
        inodes.forEach(([bytes, { entries, max, depth, mode, flags }, values], i) => {
          const at = i * INODE;
          buffer.set(bytes, at);
          writeInode(buffer, at, { mode, flags, size: bytes[0] * 2 ** 36, sectors: bytes[1] });
          values.forEach((value, word) => buffer.writeUInt32LE(value, at + 0x28 + 12 + word * 4));
          writeHeader(buffer, at + 0x28, entries, max, depth);
        });
        const sink = sinkOf();
        readInodes(viewOf(buffer), 0, 20, inodes.length, superblock, sink);
        const { files, doubtful, deep, counts } = sink;
        expect(Object.values(counts).reduce((sum: number, n: number) => sum + n, 0)).toBe(inodes.length);
        expect(files.count + doubtful.count + deep.files.count).toBe(counts.files + counts.indirect);
        for (const { blocks, fragments } of files) {
          expect(fragments).toBeGreaterThan(0);
          expect(blocks).toBeLessThanOrEqual(4 * 32768);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('deeper trees', () => {
  const listOf = (...nodes: [block: number, logical: number, file: number][]) => {
    const list = new NodeList();
    for (const node of nodes) list.push(...node);
    return list;
  };

  test('leaves are counted apart and joined in logical order', () => {
    const parts = [
      [
        { logical: 0, physical: 1000, length: 10 },
        { logical: 10, physical: 5000, length: 10 },
      ],
      [
        { logical: 20, physical: 5010, length: 5 },
        { logical: 25, physical: 100, length: 5 },
      ],
    ];
    const list = listOf([900, 0, 0], [800, 20, 0]);
    const deep = new DeepFiles();
    deep.files.push(33, 1, 30 * 4096, 1, EXTENTS_FL, 1);
    parts.forEach((extents, row) =>
      deep.addLeaf(0, countLeaf(viewOf(leaf(extents)), 0, list, row, superblock)),
    );
    const [sound, doubtful] = [new FileColumns(0), new FileColumns(0)];
    deep.finish(sound, doubtful);
    expect([...sound]).toMatchObject([{ inode: 33, blocks: 30, fragments: 3, depth: 1 }]);
    expect(doubtful.count).toBe(0);
  });

  test('a leaf that is not the one expected makes its file doubtful, and no other', () => {
    const sound = leaf([{ logical: 0, physical: 1000, length: 10 }]);
    const count = (buffer: Buffer, logical: number) =>
      countLeaf(viewOf(buffer), 0, listOf([900, logical, 0]), 0, superblock);
    expect(count(sound, 0)).toBeDefined();
    expect(count(sound, 1)).toBeUndefined();
    expect(count(Buffer.alloc(4096), 0)).toBeUndefined();
    expect(count(leaf([]), 0)).toBeUndefined();
    const deep = new DeepFiles();
    for (const inode of [31, 32, 33]) deep.files.push(inode, 0, 1, 1, EXTENTS_FL, 1);
    deep.addLeaf(0, count(sound, 0));
    deep.addLeaf(0, undefined);
    deep.addLeaf(1, count(sound, 0));
    // It begins before the last one ended.
    deep.addLeaf(2, count(sound, 0));
    deep.addLeaf(2, count(leaf([{ logical: 9, physical: 50, length: 1 }]), 9));
    const [good, doubtful] = [new FileColumns(0), new FileColumns(0)];
    deep.finish(good, doubtful);
    expect([...good].map(({ inode }) => inode)).toEqual([32]);
    expect([...doubtful]).toMatchObject([
      { inode: 31, blocks: 0, fragments: 0 },
      { inode: 33, blocks: 0, fragments: 0 },
    ]);
  });

  test('an index node lists its children, if it is at the level that its parent says', () => {
    const buffer = Buffer.alloc(4096);
    writeIndex(buffer, 0, [[7, 300] as const, [90, 200] as const], 1, 340);
    const list = listOf([900, 7, 4]);
    const children = listChildren(viewOf(buffer), 0, list, 0, 1, superblock);
    expect(children).toMatchObject({ count: 2 });
    expect([...children!.file.subarray(0, 2)]).toEqual([4, 4]);
    expect([...children!.logical.subarray(0, 2)]).toEqual([7, 90]);
    expect(listChildren(viewOf(buffer), 0, list, 0, 2, superblock)).toBeUndefined();
  });

  test('any block is the expected leaf, counted, or is refused', () => {
    const entry = fc.tuple(fc.nat(2000), fc.nat(70_000), fc.nat(130_000));
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 6 }), fc.nat(7), fc.nat(1), (entries, count, depth) => {
        const buffer = Buffer.alloc(4096);
        writeHeader(buffer, 0, count, 340, depth);
        entries.forEach(([logical, length, physical], i) => {
          buffer.writeUInt32LE(logical, 12 + i * 12);
          buffer.writeUInt16LE(length & 0xffff, 16 + i * 12);
          buffer.writeUInt32LE(physical, 20 + i * 12);
        });
        const counted = countLeaf(viewOf(buffer), 0, listOf([9, entries[0]?.[0] ?? 0, 0]), 0, superblock);
        if (counted === undefined) return;
        expect(depth).toBe(0);
        expect(counted.fragments).toBeGreaterThan(0);
        expect(counted.fragments).toBeLessThanOrEqual(entryCount(viewOf(buffer), 0));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('reads of the tables', () => {
  const tables = (changes: (groups: GroupTable) => void = () => undefined) => {
    const groups = new GroupTable(4);
    groups.inodeTable.set([2000, 2512, 1000, 40_000]);
    changes(groups);
    return groups;
  };
  const reads = (groups: GroupTable, max: number): TableRead[] => [...tableReads(superblock, groups, max)];

  test('go in device order, and cover every inode once at its place', () => {
    const unusedTails = (groups: GroupTable) => groups.unusedInodes.set([100, 0, 8191, 8192]);
    for (const max of [INODE, 64 * 1024, 2 ** 20, 2 ** 22, 2 ** 30]) {
      const groups = tables(unusedTails);
      const seen = new Map<number, number>();
      let last = -1;
      for (const { position, length, inodes } of reads(groups, max)) {
        expect(position).toBeGreaterThan(last);
        last = position;
        expect(length).toBeLessThanOrEqual(max);
        for (const { offset, firstInode, count } of inodes) {
          expect(offset + count * INODE).toBeLessThanOrEqual(length);
          for (let i = 0; i < count; i++) {
            expect(seen.has(firstInode + i)).toBe(false);
            seen.set(firstInode + i, position + offset + i * INODE);
          }
        }
      }
      const place = (inode: number) => groups.inodeTable[Math.floor((inode - 1) / 8192)] * 4096;
      for (const [inode, at] of seen) expect(at).toBe(place(inode) + ((inode - 1) % 8192) * INODE);
      expect(seen.size).toBe(8092 + 8192 + 1);
    }
  });

  test('adjacent tables are one read, untouched ones none', () => {
    const found = reads(
      tables((groups) => {
        groups.flags[3] = GROUP_FLAG.INODE_UNINIT;
        groups.unusedInodes[2] = 8192;
      }),
      2 ** 23,
    );
    expect(found).toMatchObject([{ position: 2000 * 4096, length: 1024 * 4096 }]);
    expect(found[0].inodes).toEqual([
      { offset: 0, firstInode: 1, count: 8192 },
      { offset: 512 * 4096, firstInode: 8193, count: 8192 },
    ]);
  });
});
