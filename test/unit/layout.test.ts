import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EXTENT_FLAG, ExtentTable, mergeExtents } from '../../lib/layout/extents.ts';
import {
  countFragments,
  fragmentLengths,
  fragmentStarts,
  idealFragments,
} from '../../lib/layout/fragments.ts';
import { readSeconds } from '../../lib/layout/readCost.ts';
import { e4defragScore, verdict } from '../../lib/layout/score.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { layouts } from '../support/arbitrary.ts';

type Row = [logical: number, physical: number, length: number, flags?: number];
const table = (...rows: Row[]) =>
  ExtentTable.from(
    rows.map(([logical, physical, length, flags = 0]) => ({ logical, physical, length, flags })),
  );
const rows = (extents: ExtentTable): Row[] =>
  [...extents].map(({ logical, physical, length, flags }) => [logical, physical, length, flags]);
const fragments = (...list: Row[]) => countFragments(mergeExtents(table(...list)));

describe('decoding', () => {
  const word = (extent: [bigint, bigint, bigint, bigint]) => extent;

  test('bytes become blocks, exactly, up to the 48 bits that ext4 has', () => {
    const physical = (2n ** 48n - 1n) * 1024n;
    const words = new BigUint64Array([...word([2048n, physical, 3072n, 0x801n])]);
    expect(rows(ExtentTable.decode(words, bytes(1024)))).toEqual([[2, 2 ** 48 - 1, 3, 0x801]]);
  });

  test('inline data, shorter than a block, counts as one', () => {
    const words = new BigUint64Array([0n, 100n, 60n, BigInt(EXTENT_FLAG.INLINE)]);
    expect(ExtentTable.decode(words, bytes(4096)).at(0).length).toBe(1);
  });
});

describe('merging', () => {
  test('joins what lies end to end, in the file and on the device', () => {
    expect(rows(mergeExtents(table([0, 100, 10], [10, 110, 5], [15, 200, 1])))).toEqual([
      [0, 100, 15, 0],
      [15, 200, 1, 0],
    ]);
  });

  test('keeps written and unwritten apart', () => {
    expect(mergeExtents(table([0, 100, 10], [10, 110, 5, EXTENT_FLAG.UNWRITTEN])).count).toBe(2);
  });

  test('leaves out what has no place yet', () => {
    const delayed = EXTENT_FLAG.DELALLOC | EXTENT_FLAG.UNKNOWN;
    expect(rows(mergeExtents(table([0, 100, 10], [10, 0, 5, delayed])))).toEqual([[0, 100, 10, 0]]);
  });

  test('a table that is merged already is answered as it is', () => {
    const merged = table([0, 100, 10], [10, 200, 5], [20, 205, 1]);
    expect(mergeExtents(merged)).toBe(merged);
  });

  test('tables are equal when every column is', () => {
    const same = () => table([0, 100, 10], [10, 200, 5, EXTENT_FLAG.UNWRITTEN]);
    expect(same().equals(same())).toBe(true);
    for (const other of [
      table([0, 100, 10]),
      table([1, 100, 10], [10, 200, 5, EXTENT_FLAG.UNWRITTEN]),
      table([0, 100, 10], [10, 201, 5, EXTENT_FLAG.UNWRITTEN]),
      table([0, 100, 10], [10, 200, 6, EXTENT_FLAG.UNWRITTEN]),
      table([0, 100, 10], [10, 200, 5]),
    ])
      expect(same().equals(other)).toBe(false);
  });

  test('is linear: a million extents take well under a second', () => {
    const many = new ExtentTable(1_000_000);
    for (let i = 0; i < many.count; i++) many.set(i, i, 2 * i, 1, 0);
    const merged = mergeExtents(many);
    expect(merged.count).toBe(1_000_000);
    expect(countFragments(merged)).toBe(1_000_000);
  }, 5_000);
});

describe('fragments by filefrag’s rule', () => {
  test('nothing mapped is no fragment', () => expect(fragments()).toBe(0));
  test('one extent is one', () => expect(fragments([7, 100, 10])).toBe(1));
  test('a jump begins a new one', () => expect(fragments([0, 100, 10], [10, 300, 10])).toBe(2));
  test('backwards is a jump', () => expect(fragments([0, 100, 10], [10, 90, 10])).toBe(2));
  test('unwritten behind written does not break a run', () =>
    expect(fragments([0, 100, 10], [10, 110, 10, EXTENT_FLAG.UNWRITTEN])).toBe(1));
  test('a hole mirrored on the device does not', () =>
    expect(fragments([0, 100, 10], [50, 150, 10])).toBe(1));
  test('a hole closed on the device does not', () => expect(fragments([0, 100, 10], [50, 110, 10])).toBe(1));
  test('a hole of another length does', () => expect(fragments([0, 100, 10], [50, 120, 10])).toBe(2));

  test('starts and lengths agree with the count and cover every block', () => {
    fc.assert(
      fc.property(layouts(), (extents) => {
        const merged = mergeExtents(extents);
        const starts = fragmentStarts(merged);
        const lengths = fragmentLengths(merged, starts);
        expect(lengths.length).toBe(countFragments(merged));
        expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(merged.blocks);
        expect(starts.at(-1)).toBe(merged.count);
      }),
    );
  });

  test('merging changes neither the count nor the blocks', () => {
    fc.assert(
      fc.property(layouts(), (extents) => {
        expect(countFragments(mergeExtents(extents))).toBe(countFragments(extents));
        expect(mergeExtents(extents).blocks).toBe(extents.blocks);
      }),
    );
  });
});

test('the ideal is one fragment for each longest run begun', () => {
  expect(idealFragments(blocks(0), blocks(100))).toBe(0);
  expect(idealFragments(blocks(100), blocks(100))).toBe(1);
  expect(idealFragments(blocks(101), blocks(100))).toBe(2);
});

test('e4defrag’s score and words', () => {
  expect(e4defragScore(1, 1, 1000)).toBe(0);
  expect(e4defragScore(11, 1, 1000)).toBe(8);
  expect(e4defragScore(101, 1, 1000)).toBe(80);
  expect(e4defragScore(1001, 1, 1000)).toBe(100);
  expect(e4defragScore(0, 0, 0)).toBe(0);
  expect([30, 31, 55, 56].map(verdict)).toEqual([
    'no problem',
    'a little bit fragmented',
    'a little bit fragmented',
    'needs defragmentation',
  ]);
});

test('reading costs the transfer and a seek for each fragment', () => {
  expect(readSeconds(bytes(1000), 3, { seek: 2, bandwidth: 100 })).toBe(16);
});
