import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { FreeMap } from '../../lib/place/freeMap.ts';
import { fewestPieces, freeSpaceOf, Outside } from '../../lib/scan/freeSpace.ts';

const geometry = { firstDataBlock: 0, blocksPerGroup: 64 };

const SIZE = 200;
const bits = fc.array(fc.boolean(), { minLength: SIZE, maxLength: SIZE });

/** The runs of true among bits, cut in two at every multiple of `border`. */
function runsOf(free: readonly boolean[], border = Infinity) {
  const runs: { start: number; length: number }[] = [];
  free.forEach((isFree, at) => {
    const last = runs.at(-1);
    if (!isFree) return;
    if (last !== undefined && last.start + last.length === at && at % border !== 0) last.length++;
    else runs.push({ start: at, length: 1 });
  });
  return runs;
}

const mapOf = (free: readonly boolean[]) => FreeMap.of(runsOf(free), geometry);

describe('blocks outside a map', () => {
  test('are those that one source calls free and the other does not', () => {
    fc.assert(
      fc.property(bits, bits, fc.integer({ min: 1, max: 64 }), (bitmap, fsmap, border) => {
        const outside = new Outside(mapOf(fsmap));
        for (const { start, length } of runsOf(bitmap, border)) outside.add(start, length);
        expect(outside.blocks).toBe(bitmap.filter((free, at) => free && !fsmap[at]).length);
      }),
    );
  });

  test('are all where the map is empty', () => {
    const outside = new Outside(FreeMap.of([], geometry));
    outside.add(10, 5);
    outside.add(20, 1);
    expect(outside.blocks).toBe(6);
  });
});

describe('the fewest pieces that hold a file', () => {
  test('are the longest runs', () => {
    const map = FreeMap.of(
      [
        { start: 0, length: 10 },
        { start: 20, length: 100 },
        { start: 200, length: 30 },
      ],
      geometry,
    );
    const pieces = (count: number) => fewestPieces(map, blocks(count));
    expect([1, 100, 101, 130, 131, 140].map(pieces)).toEqual([1, 1, 2, 2, 3, 3]);
    expect(pieces(141)).toBeUndefined();
    expect(fewestPieces(FreeMap.of([], geometry), blocks(1))).toBeUndefined();
  });

  test('leave the map as it was', () => {
    const map = mapOf([true, false, true, true]);
    fewestPieces(map, blocks(3));
    expect([...map.length]).toEqual([1, 2]);
  });
});

test('the sums of a map', () => {
  fc.assert(
    fc.property(bits, (free) => {
      const sums = freeSpaceOf(mapOf(free), bytes(1024));
      const runs = runsOf(free);
      expect(sums).toMatchObject({
        source: 'fsmap',
        bytes: free.filter(Boolean).length * 1024,
        runs: runs.length,
        largestRun: Math.max(0, ...runs.map(({ length }) => length)) * 1024,
      });
      expect(sums.histogram.reduce((sum, { count }) => sum + count, 0)).toBe(runs.length);
      expect(sums.histogram.reduce((sum, { bytes: size }) => sum + size, 0)).toBe(sums.bytes);
    }),
  );
});
