import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteReader, ByteWriter, Malformed } from '../../lib/report/picture/bytes.ts';
import { CellGrid, coarser, KINDS, totalsOf, type BlockRange } from '../../lib/report/picture/cells.ts';
import { decodeCells, decodeRanges, encodeCells, encodeRanges } from '../../lib/report/picture/codec.ts';
import { hilbertIndex, hilbertPlace } from '../../lib/report/picture/hilbert.ts';
import { Painter } from '../../lib/report/picture/painter.ts';
import { parsePicture } from '../../lib/report/picture/parse.ts';
import { mismatch } from '../../lib/report/picture/picture.ts';
import { sketch } from '../support/pictures.ts';

const TiB = 2 ** 28;

describe('a grid of cells', () => {
  test('covers every block once, in as equal cells as can be', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (blocks, at) => {
          const grid = new CellGrid(blocks);
          expect(grid.start(0)).toBe(0);
          expect(grid.start(grid.count)).toBe(blocks);
          const block = Math.min(blocks - 1, Math.floor(at * blocks));
          const cell = grid.cellOf(block);
          expect(grid.start(cell)).toBeLessThanOrEqual(block);
          expect(grid.start(cell + 1)).toBeGreaterThan(block);
          expect(Math.abs(grid.size(cell) - grid.blocksPerCell)).toBeLessThan(1);
        },
      ),
    );
  });

  test.each([
    [1, 1],
    [3, 1],
    [4, 2],
    [TiB, 1024],
    [2 ** 48, 1024],
  ])('of %i blocks is a square of %i', (blocks, side) => {
    expect(new CellGrid(blocks)).toMatchObject({ side, count: side * side });
  });

  test('a stretch is spread over the cells that it touches, each block once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), fc.nat(), fc.nat(), (blocks, a, b) => {
        const [start, end] = [a % blocks, b % blocks].sort((x, y) => x - y);
        const grid = new CellGrid(blocks, 64);
        let sum = 0;
        grid.spread({ start, end }, (cell, count) => {
          expect(count).toBe(Math.min(end, grid.start(cell + 1)) - Math.max(start, grid.start(cell)));
          sum += count;
        });
        expect(sum).toBe(end - start);
      }),
    );
  });
});

describe('the Hilbert curve', () => {
  const side = 16;
  const places = Array.from({ length: side * side }, (_, index) => hilbertPlace(side, index));

  test('goes to every cell, each a neighbour of the one before', () => {
    expect(new Set(places.map(({ x, y }) => y * side + x)).size).toBe(side * side);
    for (const [i, { x, y }] of places.entries()) {
      expect(hilbertIndex(side, x, y)).toBe(i);
      if (i > 0) expect(Math.abs(x - places[i - 1].x) + Math.abs(y - places[i - 1].y)).toBe(1);
    }
  });

  test('a square of cells is one stretch of it, whose place is on the coarser curve', () => {
    // An even number of halvings would hide a curve that is turned at every other scale.
    for (const scale of [2, 4, 8]) {
      for (const [i, { x, y }] of places.entries()) {
        const coarse = hilbertIndex(side / scale, Math.floor(x / scale), Math.floor(y / scale));
        expect(coarse).toBe(Math.floor(i / (scale * scale)));
      }
    }
  });
});

describe('numbers as bytes', () => {
  test('come back, whatever their size and sign', () => {
    const limit = Number.MAX_SAFE_INTEGER;
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -(limit - 1) / 2, max: (limit - 1) / 2 })), (numbers) => {
        const writer = new ByteWriter();
        for (const number of numbers) writer.signed(number);
        const reader = new ByteReader(writer.toBase64());
        expect(numbers.map(() => reader.signed())).toEqual(numbers);
        expect(reader.atEnd).toBe(true);
      }),
    );
  });

  test.each(['****', 'gA==', '////////////////'])('%s is not taken for a number', (text) => {
    expect(() => new ByteReader(text).number()).toThrow(Malformed);
  });
});

/** Stretches of different kinds that do not overlap. */
const paintings = fc
  .array(fc.record({ gap: fc.nat(9), length: fc.integer({ min: 1, max: 40 }), kind: fc.nat(3) }), {
    maxLength: 60,
  })
  .map((steps) => {
    let at = 0;
    return steps.map(({ gap, length, kind }) => {
      const start = at + gap;
      at = start + length;
      return { kind: KINDS[kind] as Exclude<(typeof KINDS)[number], 'other'>, start, end: at };
    });
  });

describe('a painted device', () => {
  test('has every block once, and comes back from text as it was', () => {
    fc.assert(
      fc.property(paintings, fc.nat(50), (painted, rest) => {
        const blocks = (painted.at(-1)?.end ?? 0) + rest + 1;
        const grid = new CellGrid(blocks, 64);
        const painter = new Painter(grid);
        for (const { kind, ...range } of painted) painter.paint(kind, range);
        const counts = painter.finish();
        const totals = totalsOf(counts);
        for (const kind of KINDS) {
          if (kind === 'other') continue;
          const wanted = painted
            .filter((one) => one.kind === kind)
            .reduce((sum, { start, end }) => sum + end - start, 0);
          expect(totals[kind]).toBe(wanted);
        }
        expect(KINDS.reduce((sum, kind) => sum + totals[kind], 0)).toBe(blocks);
        expect(decodeCells(grid, encodeCells(grid, counts))).toEqual(counts);
        expect(totalsOf(coarser(counts, 4))).toEqual(totals);
      }),
    );
  });

  test('what is said twice of a block counts once, and not as free', () => {
    const painter = new Painter(new CellGrid(64, 4));
    painter.paint('free', { start: 0, end: 12 });
    painter.paint('fragmented', { start: 8, end: 16 });
    const counts = painter.finish();
    expect([counts.free[0], counts.fragmented[0], counts.other[0]]).toEqual([8, 8, 0]);
  });

  test('1 TiB in a million cells is written as few bytes where little changes', () => {
    const grid = new CellGrid(TiB);
    const painter = new Painter(grid);
    painter.paint('free', { start: 100, end: TiB });
    expect(encodeCells(grid, painter.finish()).length).toBeLessThan(40);
  });

  test.each([
    ['too few cells', [0, 3]],
    ['too many', [0, 5]],
    ['an unknown kind', [7, 4]],
    ['no cell', [0, 0]],
    ['more blocks than a cell has', [0x83, 16, 0, 3]],
    ['a mixture of one kind', [0x81, 0, 3]],
    ['something behind the last', [0, 4, 0]],
  ])('%s: damaged', (_, bytes) => {
    expect(() => decodeCells(new CellGrid(64, 4), Buffer.from(bytes).toString('base64'))).toThrow(Malformed);
  });

  test('extents come back in their order, and none may lie outside the device', () => {
    const ranges: BlockRange[] = [
      { start: 2 ** 40, end: 2 ** 40 + 3 },
      { start: 5, end: 6 },
      { start: 6, end: 2 ** 30 },
    ];
    expect(decodeRanges(encodeRanges(ranges), 2 ** 41)).toEqual(ranges);
    expect(() => decodeRanges(encodeRanges(ranges), 2 ** 40)).toThrow(Malformed);
    expect(() => decodeRanges(encodeRanges([{ start: 3, end: 3 }]), 10)).toThrow(Malformed);
  });
});

describe('a picture from a file', () => {
  const picture = sketch({
    blocks: 1000,
    painted: [{ kind: 'free', start: 0, end: 500 }],
    files: [
      {
        name: 'a',
        inode: 12,
        ranges: [
          { start: 600, end: 610 },
          { start: 620, end: 630 },
        ],
      },
    ],
  });
  const text = JSON.stringify(picture);

  test('is the one that was written', () => {
    expect(parsePicture(text)).toEqual(picture);
  });

  test.each(['', 'x', '[]', 'null', '{"format":"ext4-defrag plan"}'])('%j is none', (other) => {
    expect(parsePicture(other)).toBe('it is no file that map -o wrote');
  });

  test('of another version is refused', () => {
    expect(parsePicture(JSON.stringify({ ...picture, version: 2 }))).toMatch(/another version/);
  });

  test('anything changed in it into what makes no sense is found', () => {
    const paths = [
      ...Object.keys(picture).map((key) => [key]),
      ...Object.keys(picture.totals).map((key) => ['totals', key]),
      ...Object.keys(picture.free).map((key) => ['free', key]),
      ...Object.keys(picture.files!).map((key) => ['files', key]),
      ...Object.keys(picture.named[0]).map((key) => ['named', '0', key]),
      ['free', 'sizes', '0', 'count'],
    ];
    for (const path of paths) {
      for (const wrong of [-1, { a: 1 }, [[1]], true]) {
        const copy = JSON.parse(text) as Record<string, unknown>;
        const holder = path.slice(0, -1).reduce((at, key) => at[key] as Record<string, unknown>, copy);
        holder[path.at(-1)!] = wrong;
        expect([path, typeof parsePicture(JSON.stringify(copy))]).toEqual([path, 'string']);
      }
    }
  });

  test('of something else is not laid over this', () => {
    expect(mismatch(picture, picture)).toBeUndefined();
    expect(mismatch({ ...picture, blocks: 999 }, picture)).toMatch(/another size/);
    expect(mismatch({ ...picture, uuid: 'a' }, { ...picture, uuid: 'b' })).toMatch(/another filesystem/);
    expect(mismatch({ ...picture, kind: 'file' }, picture)).toMatch(/of a file/);
    expect(mismatch(picture, { ...picture, kind: 'file' })).toMatch(/whole filesystem/);
  });
});
