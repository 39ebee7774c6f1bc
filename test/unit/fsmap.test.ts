import { expect, test } from 'vitest';
import fc from 'fast-check';
import { FsmapTable, freeOf } from '../../lib/kernel/fsmap.ts';
import { bytes } from '../../lib/layout/units.ts';

const BLOCK = bytes(4096);
/** fs/ext4/fsmap.h, EXT4_FMR_OWN_INODES: ext4's letter, and a number. */
const INODES = (0x66n << 32n) | 5n;

/** First block, blocks, owner. */
type Fields = readonly [number, number, bigint];

/** Records as the addon answers them. */
const wordsOf = (records: readonly Fields[]) =>
  BigUint64Array.from(
    records.flatMap(([start, length, owner]) => [BigInt(start) * 4096n, BigInt(length) * 4096n, owner, 0n]),
  );

const table = (records: readonly Fields[], from = 0, to = Infinity) =>
  new FsmapTable(wordsOf(records), BLOCK, from, to);

test('records tell what blocks are used for, also where the device is very large', () => {
  const far = 2 ** 40;
  const records = [
    ...table([
      [0, 3, INODES],
      [3, 5, 2n],
      [far, 7, 1n],
      [far + 7, 1, (0x66n << 32n) | 1n],
    ]),
  ];
  expect(records).toEqual([
    { start: 0, length: 3, use: 'metadata' },
    { start: 3, length: 5, use: 'data' },
    { start: far, length: 7, use: 'free' },
    // The numbers of ext4's own kinds are not those of all filesystems.
    { start: far + 7, length: 1, use: 'metadata' },
  ]);
});

test('what goes over the ends of the range is cut off, and what lies outside is left out', () => {
  const some = table(
    [
      [0, 10, 1n],
      [10, 10, 2n],
      [20, 10, 1n],
      [30, 10, 1n],
    ],
    5,
    25,
  );
  expect([...some]).toEqual([
    { start: 5, length: 5, use: 'free' },
    { start: 10, length: 10, use: 'data' },
    { start: 20, length: 5, use: 'free' },
  ]);
  expect(some.free()).toEqual({ start: Float64Array.of(5, 20), length: Float64Array.of(5, 5) });
  expect(some.end).toBe(25);
});

test('none is a table too', () => {
  const none = table([]);
  expect([...none]).toEqual([]);
  expect(none.end).toBe(0);
});

test('what is free is the same without making records of the rest, short ones left out', () => {
  const record = fc.tuple(
    fc.oneof(fc.nat(200), fc.constant(2 ** 40)),
    fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(2 ** 21)),
    fc.constantFrom(1n, 2n, INODES, (0x66n << 32n) | 1n),
  );
  const bound = fc.nat(150);
  fc.assert(
    fc.property(fc.array(record), bound, fc.oneof(bound, fc.constant(Infinity)), (records, from, to) => {
      expect(freeOf(wordsOf(records), BLOCK, from, to, 1)).toEqual(table(records, from, to).free());
      const long = records.filter(([, length, owner]) => length >= 20 || owner !== 1n);
      expect(freeOf(wordsOf(records), BLOCK, from, to, 20)).toEqual(table(long, from, to).free());
    }),
  );
});
