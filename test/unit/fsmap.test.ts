import { expect, test } from 'vitest';
import { FsmapTable } from '../../lib/kernel/fsmap.ts';
import { bytes } from '../../lib/layout/units.ts';

const BLOCK = bytes(4096);
/** fs/ext4/fsmap.h, EXT4_FMR_OWN_INODES: ext4's letter, and a number. */
const INODES = (0x66n << 32n) | 5n;

/** Records as the addon answers them: first block, blocks, owner. */
const table = (records: readonly (readonly [number, number, bigint])[], from = 0, to = Infinity) =>
  new FsmapTable(
    BigUint64Array.from(
      records.flatMap(([start, length, owner]) => [BigInt(start) * 4096n, BigInt(length) * 4096n, owner, 0n]),
    ),
    BLOCK,
    from,
    to,
  );

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
