import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { joinClasses, SizeClasses } from '../../lib/layout/sizeClasses.ts';

const KiB = 1024;

const classesOf = (sizes: Iterable<number>) => {
  const classes = new SizeClasses();
  for (const size of sizes) classes.add(size);
  return classes.classes;
};

describe('size classes', () => {
  test('a class begins at its power of two and ends before the next', () => {
    expect(classesOf([8 * KiB, 4 * KiB, 7 * KiB, 1, 2 ** 40])).toEqual([
      { atLeast: 1, count: 1, bytes: 1 },
      { atLeast: 4 * KiB, count: 2, bytes: 11 * KiB },
      { atLeast: 8 * KiB, count: 1, bytes: 8 * KiB },
      { atLeast: 2 ** 40, count: 1, bytes: 2 ** 40 },
    ]);
  });

  test('many of one size at once', () => {
    const classes = new SizeClasses();
    classes.add(4 * KiB, 1000);
    expect(classes.classes).toEqual([{ atLeast: 4 * KiB, count: 1000, bytes: 4000 * KiB }]);
  });

  test('powers of two and their neighbours, up to the largest filesystem', () => {
    for (let power = 10; power <= 52; power++) {
      const [below, at] = classesOf([2 ** power, 2 ** (power + 1) - KiB, 2 ** (power + 1)]);
      expect(below).toMatchObject({ atLeast: 2 ** power, count: 2 });
      expect(at).toMatchObject({ atLeast: 2 ** (power + 1), count: 1 });
    }
  });

  test('every run is in one class, and nothing is lost', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2 ** 40 })), (sizes) => {
        const classes = classesOf(sizes);
        for (const { atLeast, count, bytes } of classes) {
          expect(count).toBe(sizes.filter((size) => size >= atLeast && size < 2 * atLeast).length);
          expect(bytes / count).toBeGreaterThanOrEqual(atLeast);
          expect(bytes / count).toBeLessThan(2 * atLeast);
        }
        expect(classes.reduce((sum, { count }) => sum + count, 0)).toBe(sizes.length);
      }),
    );
  });
});

describe('joining', () => {
  const joined = (sizes: number[], bounds: number[]) => joinClasses(classesOf(sizes), bounds);

  test('from each bound to the next, below the first, and from the last on', () => {
    const sizes = [KiB, 4 * KiB, 8 * KiB, 16 * KiB, 64 * KiB, 2 ** 30];
    expect(joined(sizes, [4 * KiB, 16 * KiB, 64 * KiB])).toEqual([
      { from: 0, to: 4 * KiB, count: 1, bytes: KiB },
      { from: 4 * KiB, to: 16 * KiB, count: 2, bytes: 12 * KiB },
      { from: 16 * KiB, to: 64 * KiB, count: 1, bytes: 16 * KiB },
      { from: 64 * KiB, to: Infinity, count: 2, bytes: 64 * KiB + 2 ** 30 },
    ]);
  });

  test('ranges without any are left out', () => {
    expect(joined([16 * KiB], [4 * KiB, 16 * KiB])).toEqual([
      { from: 16 * KiB, to: Infinity, count: 1, bytes: 16 * KiB },
    ]);
    expect(joined([], [4 * KiB])).toEqual([]);
  });
});
