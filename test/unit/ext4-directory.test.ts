import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addDirectory, DirectoryColumns } from '../../lib/ext4/directories.ts';
import { parentInode, visitEntries } from '../../lib/ext4/directory.ts';
import { Names } from '../../lib/scan/names.ts';
import { EXTENTS_FL, makeSuperblock, viewOf, writeIndex, writeInode, writeLeaf } from '../support/ext4.ts';

interface Entry {
  readonly inode: number;
  readonly name: string | Buffer;
  readonly kind?: number;
  /** As it is on the device; by default no longer than the name makes it. */
  readonly length?: number;
}

const roundUp = (bytes: number) => Math.ceil(bytes / 4) * 4;

/** A block with these entries; the last one reaches to the block's end unless its length is given. */
function block(entries: readonly Entry[], size = 1024): Buffer {
  const buffer = Buffer.alloc(size);
  let at = 0;
  entries.forEach(({ inode, name, kind = 1, length }, i) => {
    const bytes = Buffer.from(name);
    const own = i === entries.length - 1 ? size - at : roundUp(8 + bytes.length);
    buffer.writeUInt32LE(inode, at);
    buffer.writeUInt16LE(length ?? own, at + 4);
    buffer[at + 6] = bytes.length;
    buffer[at + 7] = kind;
    bytes.copy(buffer, at + 8);
    at += length ?? own;
  });
  return buffer;
}

function entriesOf(buffer: Buffer, blockSize = buffer.length, at = 0) {
  const seen: [inode: number, kind: number, name: string][] = [];
  const sound = visitEntries(viewOf(buffer), at, blockSize, (inode, kind, nameAt, length) =>
    seen.push([inode, kind, buffer.toString('latin1', nameAt, nameAt + length)]),
  );
  return { sound, seen };
}

const dots: Entry[] = [
  { inode: 12, name: '.', kind: 2 },
  { inode: 2, name: '..', kind: 2 },
];

describe('the directory that a directory is in', () => {
  test('is its second entry', () => {
    expect(parentInode(viewOf(block([...dots, { inode: 20, name: 'a' }])), 0)).toBe(2);
    expect(
      parentInode(viewOf(Buffer.concat([block(dots), block([dots[0], { ...dots[1], inode: 77 }])])), 1024),
    ).toBe(77);
  });

  test.each<[string, readonly Entry[]]>([
    ['no dots', [{ inode: 20, name: 'a' }]],
    ['the wrong way round', [dots[1], dots[0]]],
    ['a long first entry', [{ ...dots[0], length: 16 }, dots[1]]],
    ['a name where the dots belong', [dots[0], { inode: 20, name: '.a' }]],
    ['no inode', [dots[0], { ...dots[1], inode: 0 }]],
  ])('cannot be told: %s', (_, entries) => {
    expect(parentInode(viewOf(block(entries)), 0)).toBeUndefined();
  });
});

describe('directory blocks', () => {
  test('names in order, without the dots, free entries and the checksum', () => {
    const tail: Entry = { inode: 0, name: '', kind: 0xde, length: 12 };
    const used = 12 + 12 + 12 + 12 + 264;
    const buffer = block([
      ...dots,
      { inode: 20, name: 'a' },
      { inode: 0, name: 'gone' },
      { inode: 21, name: Buffer.alloc(255, 'x'), kind: 0 },
      { inode: 22, name: '...', kind: 2, length: 1024 - 12 - used },
      tail,
    ]);
    expect(entriesOf(buffer)).toEqual({
      sound: true,
      seen: [
        [20, 1, 'a'],
        [21, 0, 'x'.repeat(255)],
        [22, 2, '...'],
      ],
    });
  });

  test('a block within a read, at any place', () => {
    const buffer = Buffer.concat([
      block([{ inode: 5, name: 'first' }]),
      block([{ inode: 6, name: 'second' }]),
      block([{ inode: 7, name: 'third' }]),
    ]);
    expect(entriesOf(buffer, 1024, 1024)).toEqual({ sound: true, seen: [[6, 1, 'second']] });
  });

  test.each([1024, 4096, 65536])('the root of a hash tree and a node of it have no names (%i)', (size) => {
    const root = block([dots[0], { ...dots[1], length: size - 12 }], size);
    // struct dx_root_info, its entries and what may stand behind them.
    root.fill(0xa5, 24);
    expect(entriesOf(root)).toEqual({ sound: true, seen: [] });
    const node = Buffer.alloc(size, 0xa5);
    node.writeUInt32LE(0, 0);
    node.writeUInt16LE(size % 65536, 4);
    node.writeUInt16LE(0, 6);
    expect(entriesOf(node)).toEqual({ sound: true, seen: [] });
  });

  test('lengths in blocks of 64 KiB', () => {
    for (const whole of [0, 0xffff]) {
      const only = block([{ inode: 20, name: 'only', length: whole }], 65536);
      expect(entriesOf(only)).toEqual({ sound: true, seen: [[20, 1, 'only']] });
    }
    const two = block([{ inode: 20, name: 'one', length: 65524 }], 65536);
    block([{ inode: 21, name: 'two', length: 12 }], 12).copy(two, 65524);
    expect(entriesOf(two).seen.map(([inode]) => inode)).toEqual([20, 21]);
    expect(entriesOf(two).sound).toBe(true);
    // The two low bits are the highest ones of the length: more than 64 KiB.
    expect(entriesOf(block([{ inode: 20, name: 'one', length: 13 }], 65536)).sound).toBe(false);
  });

  test.each<[string, Entry]>([
    ['no length', { inode: 20, name: 'name', length: 0 }],
    ['shorter than its name', { inode: 20, name: 'four5', length: 12 }],
    ['not a multiple of four', { inode: 20, name: 'name', length: 14 }],
    ['over the end of the block', { inode: 20, name: 'name', length: 1024 }],
    ['no room for another one', { inode: 20, name: 'name', length: 1024 - 12 - 4 }],
  ])('an entry that does not hold together: %s', (_, entry) => {
    const buffer = block([{ inode: 19, name: 'last' }, entry]);
    const { sound, seen } = entriesOf(buffer);
    expect(sound).toBe(false);
    expect(seen[0]).toEqual([19, 1, 'last']);
  });

  test('what can be no name is left out', () => {
    const names = ['', 'a/b', '/', '../..', 'a\0b', 'good'];
    const buffer = block(names.map((name, i) => ({ inode: 20 + i, name })));
    expect(entriesOf(buffer)).toEqual({ sound: true, seen: [[25, 1, 'good']] });
  });

  test('any bytes: names are inside the block, and it ends', () => {
    const entry = fc.record({
      at: fc.nat(255),
      length: fc.oneof(
        fc.nat(0xffff),
        fc.nat(16).map((n) => n * 4),
        fc.nat(1024),
      ),
      name: fc.nat(255),
    });
    const raw = fc.uint8Array({ minLength: 1024, maxLength: 1024 });
    fc.assert(
      fc.property(raw, fc.array(entry, { maxLength: 40 }), fc.nat(3), (bytes, entries, place) => {
        const buffer = Buffer.alloc(5 * 1024);
        buffer.set(bytes, place * 1024);
        for (const { at, length, name } of entries) {
          buffer.writeUInt16LE(length, place * 1024 + at * 4);
          buffer[place * 1024 + at * 4 + 2] = name;
        }
        let count = 0;
        visitEntries(viewOf(buffer), place * 1024, 1024, (inode, _, nameAt, length) => {
          count++;
          expect(inode).toBeGreaterThan(0);
          expect(length).toBeGreaterThan(0);
          expect(nameAt).toBeGreaterThanOrEqual(place * 1024 + 8);
          expect(nameAt + length).toBeLessThanOrEqual((place + 1) * 1024);
        });
        expect(count).toBeLessThanOrEqual(1024 / 12);
      }),
      { numRuns: 2000 },
    );
  });

  test('any bytes of 64 KiB and of a length that no block has', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, zeroes) => {
        const small = Buffer.concat([Buffer.alloc(zeroes), bytes]);
        visitEntries(viewOf(small), 0, small.length, () => undefined);
        const large = Buffer.alloc(65536);
        large.set(bytes);
        visitEntries(viewOf(large), 0, large.length, () => undefined);
      }),
    );
  });
});

describe('directories of the inode tables', () => {
  const superblock = makeSuperblock();
  const directory = { mode: 0o40755, generation: 9, size: 5 * 4096 };
  const add = (
    inode: Parameters<typeof writeInode>[2],
    fill: (buffer: Buffer) => void = (buffer) => writeLeaf(buffer, 0x28, extents),
    columns = new DirectoryColumns(),
  ) => {
    const buffer = Buffer.alloc(256);
    writeInode(buffer, 0, { ...directory, ...inode });
    fill(buffer);
    addDirectory(viewOf(buffer), 0, 30, superblock, columns);
    return columns;
  };
  const extents = [
    { logical: 0, physical: 1000, length: 2 },
    { logical: 2, physical: 5000, length: 3 },
  ];
  const extentsOf = ({ extents: count, physical, length, owner }: DirectoryColumns) =>
    Array.from({ length: count }, (_, row) => [physical[row], length[row], owner[row]]);

  test('the blocks up to its end', () => {
    const columns = add({});
    expect([columns.count, columns.inode[0], columns.generation[0], columns.other[0]]).toEqual([1, 30, 9, 0]);
    expect(extentsOf(columns)).toEqual([
      [1000, 2, 0],
      [5000, 3, 0],
    ]);
    expect(extentsOf(add({ size: 3 * 4096 }))).toEqual([
      [1000, 2, 0],
      [5000, 1, 0],
    ]);
    expect(extentsOf(add({ size: 2 * 4096 }))).toEqual([[1000, 2, 0]]);
  });

  test.each<[string, DirectoryColumns]>([
    ['in the inode', add({ flags: EXTENTS_FL | 0x1000_0000 })],
    ['mapped by indirect blocks', add({ flags: 0 })],
    ['encrypted', add({ flags: EXTENTS_FL | 0x800 })],
    ['damaged', add({}, () => undefined)],
    ['deep', add({}, (buffer) => writeIndex(buffer, 0x28, [[0, 700]], 1))],
    ['not written', add({}, (buffer) => writeLeaf(buffer, 0x28, [{ ...extents[0], unwritten: true }]))],
  ])('another one is left to the kernel: %s', (_, columns) => {
    expect([columns.count, columns.inode[0], columns.generation[0], columns.other[0]]).toEqual([1, 30, 9, 1]);
    expect(columns.extents).toBe(0);
  });

  test('many are kept with their extents', () => {
    const all = new DirectoryColumns();
    for (let i = 0; i < 100; i++) {
      add({}, undefined, all);
      add({ flags: 0 }, undefined, all);
    }
    expect([all.count, all.extents]).toEqual([200, 200]);
    expect([...all.other.subarray(0, 4)]).toEqual([0, 1, 0, 1]);
    expect(extentsOf(all).at(-1)).toEqual([5000, 3, 198]);
  });
});

describe('names', () => {
  const add = (names: Names, parent: number, inode: number, name: string) =>
    names.add(parent, inode, Buffer.from(`--${name}--`), 2, Buffer.byteLength(name));

  test('paths from the root on, and the first name of several', () => {
    const names = new Names();
    add(names, 13, 14, 'file');
    add(names, 2, 12, 'a');
    add(names, 12, 13, 'ü');
    add(names, 12, 14, 'second');
    expect(names.relativePath(14)?.toString()).toBe('a/ü/file');
    expect(names.relativePath(12)?.toString()).toBe('a');
    expect(names.relativePath(2)).toEqual(Buffer.alloc(0));
    expect([names.parentOf(14), names.parentOf(12), names.parentOf(99)]).toEqual([13, 2, undefined]);
  });

  test('a chain that is broken, goes round or has no end gives no path', () => {
    const names = new Names();
    add(names, 50, 51, 'orphan');
    add(names, 61, 60, 'round');
    add(names, 60, 61, 'and round');
    add(names, 70, 70, 'itself');
    for (const inode of [50, 51, 60, 61, 70, 99]) expect(names.relativePath(inode)).toBeUndefined();
    for (let i = 0; i < 1000; i++) add(names, i === 0 ? 2 : 99 + i, 100 + i, 'x'.repeat(255));
    expect(names.relativePath(100 + 255)).toHaveLength(256 * 256 - 1);
    expect(names.relativePath(100 + 256)).toBeUndefined();
    expect(names.relativePath(100 + 999)).toBeUndefined();
  });

  test('a hundred thousand of them, with numbers near and far', () => {
    const names = new Names();
    const numbers = Array.from({ length: 100_000 }, (_, i) => (i % 2 ? 12 + i : 2 ** 32 - 1 - i * 4096));
    for (const inode of numbers) add(names, 2, inode, `file ${inode}`);
    for (const inode of numbers) expect(names.relativePath(inode)?.toString()).toBe(`file ${inode}`);
    expect(names.relativePath(11)).toBeUndefined();
  });
});
