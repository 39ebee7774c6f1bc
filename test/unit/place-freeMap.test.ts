import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { choose } from '../../lib/place/choice.ts';
import { LONGEST_UNWRITTEN, reserveOf, spendableOf } from '../../lib/place/donors.ts';
import { FreeMap, piecesOf, usualGeometry } from '../../lib/place/freeMap.ts';

const GROUPS = { firstDataBlock: 0, blocksPerGroup: 100 };
const run = (start: number, length: number) => ({ start: blocks(start), length: blocks(length) });
const mapOf = (...runs: [start: number, length: number][]) =>
  FreeMap.of(
    runs.map(([start, length]) => run(start, length)),
    GROUPS,
  );

const runs = fc
  .array(fc.tuple(fc.nat(50), fc.integer({ min: 1, max: 300 })), { maxLength: 30 })
  .map((pairs) => {
    let at = 0;
    return pairs.map(([gap, length]) => {
      at += gap + length;
      return run(at - length, length);
    });
  });

describe('a map of free space', () => {
  test('runs that lie end to end are one', () => {
    const map = mapOf([10, 5], [15, 5], [30, 1]);
    expect([...map.runs()]).toEqual([run(10, 10), run(30, 1)]);
    expect([map.count, map.freeBlocks, map.longestRun]).toEqual([2, 11, 10]);
  });

  test('an allocation ends at the border of a block group', () => {
    const map = mapOf([90, 130]);
    expect(map.longestRun).toBe(130);
    expect(map.longestPiece).toBe(100);
    expect([...piecesOf(map.runs(), GROUPS)]).toEqual([run(90, 10), run(100, 100), run(200, 20)]);
    // With 1 KiB blocks group 0 begins at block 1.
    const smallBlocks = piecesOf([run(8190, 5)], usualGeometry(bytes(1024)));
    expect([...smallBlocks]).toEqual([run(8190, 3), run(8193, 2)]);
  });

  test('what it includes is what is free block by block', () => {
    fc.assert(
      fc.property(runs, fc.nat(3000), fc.integer({ min: 1, max: 300 }), (free, start, length) => {
        const blocksFree = new Set(
          free.flatMap((r) => Array.from({ length: r.length }, (_, i) => r.start + i)),
        );
        const all = Array.from({ length }, (_, i) => start + i).every((block) => blocksFree.has(block));
        expect(FreeMap.of(free, GROUPS).includes(run(start, length))).toBe(all);
      }),
    );
  });

  test('nothing is free', () => {
    const map = mapOf();
    expect([map.count, map.freeBlocks, map.longestRun, map.longestPiece]).toEqual([0, 0, 0, 0]);
    expect(map.bestFit(blocks(1))).toBeUndefined();
  });

  test('the best fit is the shortest piece that holds it', () => {
    fc.assert(
      fc.property(runs, fc.integer({ min: 1, max: 120 }), (free, count) => {
        const map = FreeMap.of(free, GROUPS);
        const fitting = [...piecesOf(map.runs(), GROUPS)].filter(({ length }) => length >= count);
        const found = map.bestFit(blocks(count));
        expect(found?.length).toBe(fitting.map(({ length }) => length).sort((a, b) => a - b)[0]);
        if (found !== undefined) expect(fitting).toContainEqual(found);
      }),
    );
  });

  test('runs of at least so many blocks, and what else would be free', () => {
    expect([...mapOf([0, 3], [10, 9], [50, 5]).runs(blocks(5))]).toEqual([run(10, 9), run(50, 5)]);
    expect([
      ...mapOf([0, 3], [10, 9])
        .with([run(19, 1), run(3, 7)])
        .runs(),
    ]).toEqual([run(0, 20)]);
  });
});

describe('choosing from it', () => {
  const chosen = (needs: number[], map: FreeMap, most = 64) => choose(needs.map(blocks), map, most);

  test('the shortest run that holds a need whole, the largest need first', () => {
    const map = mapOf([0, 20], [30, 8], [50, 12]);
    expect(chosen([7, 11], map)).toEqual([
      { ...run(50, 11), long: false },
      { ...run(30, 7), long: false },
    ]);
  });

  test('one block group rather than two, where there is a choice', () => {
    expect(chosen([30], mapOf([80, 31], [210, 50]))).toEqual([{ ...run(210, 30), long: false }]);
    expect(chosen([30], mapOf([80, 31], [210, 29]))).toEqual([{ ...run(80, 30), long: true }]);
  });

  test('the longest runs in turn where none holds it whole', () => {
    expect(chosen([20], mapOf([0, 5], [10, 11], [30, 7]))).toEqual([
      { ...run(10, 11), long: false },
      { ...run(30, 7), long: false },
      { ...run(0, 2), long: false },
    ]);
  });

  test('nothing when it would be too many, or free space does not hold them', () => {
    expect(chosen([20], mapOf([0, 5], [10, 11], [30, 7]), 2)).toBeUndefined();
    expect(chosen([24], mapOf([0, 5], [10, 11], [30, 7]))).toBeUndefined();
  });

  test('what is longer than an extent is long', () => {
    const geometry = usualGeometry(bytes(4096));
    const map = FreeMap.of([run(32768, 32768)], geometry);
    expect(chosen([LONGEST_UNWRITTEN], map)).toMatchObject([{ long: false }]);
    expect(chosen([LONGEST_UNWRITTEN + 1], map)).toMatchObject([{ long: true }]);
  });

  test('what is longer than one allocation begins with a window of the allocator, where that leaves enough', () => {
    const geometry = usualGeometry(bytes(4096));
    const from = (length: number) => choose([blocks(40_000)], FreeMap.of([run(5000, length)], geometry), 1);
    expect(from(42_000)).toEqual([{ ...run(6144, 40_000), long: true }]);
    expect(from(41_000)).toEqual([{ ...run(5000, 40_000), long: true }]);
  });

  test('no block is chosen twice, all are free, and the needs are met exactly', () => {
    fc.assert(
      fc.property(runs, fc.array(fc.integer({ min: 1, max: 250 }), { maxLength: 8 }), (free, needs) => {
        const choices = chosen(needs, FreeMap.of(free, GROUPS), 1000);
        const total = needs.reduce((sum, need) => sum + need, 0);
        if (choices === undefined) {
          expect(free.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(total);
          return;
        }
        const taken = choices.flatMap(({ start, length }) => Array.from({ length }, (_, i) => start + i));
        expect(new Set(taken).size).toBe(total);
        for (const block of taken) {
          expect(free.some(({ start, length }) => block >= start && block < start + length)).toBe(true);
        }
        for (const { start, length, long } of choices) {
          expect(long).toBe(Math.floor(start / 100) !== Math.floor((start + length - 1) / 100));
        }
      }),
    );
  });
});

describe('the reserve', () => {
  const space = (total: number, free: number, available: number) => ({
    magic: 0xef53,
    blockSize: bytes(4096),
    total: blocks(total),
    free: blocks(free),
    available: blocks(available),
  });

  test('is the larger of 5 % and what is reserved for root, or what is asked for', () => {
    expect(reserveOf(space(1000, 500, 500))).toBe(50);
    expect(reserveOf(space(1000, 500, 400))).toBe(100);
    expect(reserveOf(space(1000, 500, 400), 0.01)).toBe(10);
    expect(spendableOf(space(1000, 500, 400), 0)).toBe(500);
    expect(spendableOf(space(1000, 40, 40))).toBe(0);
  });
});
