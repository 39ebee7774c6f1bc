import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExtentTable, mergeExtents } from '../../lib/layout/extents.ts';
import { countFragments, fragmentLengths } from '../../lib/layout/fragments.ts';
import { blocks } from '../../lib/layout/units.ts';
import { assign, demand, RunPool, type Run } from '../../lib/place/assign.ts';
import {
  clip,
  fragmentsAfter,
  limitPlan,
  planFile,
  relocate,
  type FilePlan,
  type PlanOptions,
} from '../../lib/plan/plan.ts';
import { layouts } from '../support/arbitrary.ts';

/** A file whose fragments have these lengths, each far from the other. */
function scattered(...lengths: number[]): ExtentTable {
  let logical = 0;
  return ExtentTable.from(
    lengths.map((length, i) => {
      const extent = { logical, physical: 1_000_000 * (i + 1), length };
      logical += length;
      return extent;
    }),
  );
}

const options = (fragmentBlocks: number): PlanOptions => ({ fragmentBlocks, longestRun: blocks(2 ** 19) });
const planOf = (extents: ExtentTable, fragmentBlocks: number, end = extents.end) =>
  planFile(mergeExtents(extents), end, options(fragmentBlocks));

function plan(extents: ExtentTable, fragmentBlocks: number): FilePlan {
  const planned = planOf(extents, fragmentBlocks);
  if (typeof planned === 'string') throw new Error(`no plan: ${planned}`);
  return planned;
}

const ranges = (planned: FilePlan) =>
  planned.ranges.map(({ firstFragment, endFragment }) => [firstFragment, endFragment]);

describe('planning', () => {
  test('what is contiguous needs nothing', () => {
    expect(planOf(scattered(100), 8)).toBe('already-contiguous');
    expect(planOf(scattered(1), 8)).toBe('one-block');
    expect(planOf(ExtentTable.from([]), 8)).toBe('no-blocks');
  });

  test('fragments of at least the threshold stay', () => {
    expect(planOf(scattered(8, 9, 100), 4)).toBe('large-fragments');
  });

  test('neighbours shorter than the threshold are joined', () => {
    expect(ranges(plan(scattered(7, 7, 100, 3, 3, 3), 8))).toEqual([
      [0, 2],
      [3, 6],
    ]);
  });

  test('a lone short fragment stays, unless its neighbour is short enough to go with it', () => {
    expect(planOf(scattered(100, 1, 100), 8)).toBe('large-fragments');
    expect(ranges(plan(scattered(100, 1, 10, 100), 8))).toEqual([[1, 3]]);
  });

  test('a longer fragment between short ones is pulled in only when that is cheap', () => {
    expect(ranges(plan(scattered(2, 2, 15, 2, 2), 8))).toEqual([[0, 5]]);
    expect(ranges(plan(scattered(2, 2, 16, 2, 2), 8))).toEqual([
      [0, 2],
      [3, 5],
    ]);
  });

  test('without a threshold the whole file is one range', () => {
    const planned = plan(scattered(100, 1000, 1), Infinity);
    expect(ranges(planned)).toEqual([[0, 3]]);
    expect(planned).toMatchObject({ blocks: 1101, fragmentsBefore: 3, fragmentsAfter: 1 });
  });

  test('what lies behind the end of the file is not planned', () => {
    const extents = scattered(2, 2, 2, 2);
    const planned = planFile(extents, blocks(5), options(8)) as FilePlan;
    expect(planned.blocks).toBe(5);
    expect(planned.extents.end).toBe(5);
  });

  // The dynamic program against every subset of fragments.
  test('no cheaper set of ranges exists', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 9 });
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 8 }), (list, threshold) => {
        const perFragment = 2 * threshold;
        const cost = (moves: (i: number) => boolean) => {
          let sum = 0;
          list.forEach((length, i) => {
            if (moves(i)) sum += length;
            if (!moves(i) || i === 0 || !moves(i - 1)) sum += perFragment;
          });
          return sum;
        };
        let cheapest = Infinity;
        for (let set = 0; set < 2 ** list.length; set++) {
          const moves = (i: number) => (set & (2 ** i)) !== 0;
          if (list.every((length, i) => !moves(i) || length < perFragment))
            cheapest = Math.min(cheapest, cost(moves));
        }
        const planned = planOf(scattered(...list), threshold);
        const chosen =
          typeof planned === 'string'
            ? () => false
            : (i: number) => planned.ranges.some((r) => r.firstFragment <= i && i < r.endFragment);
        expect(cost(chosen)).toBe(cheapest);
      }),
      { numRuns: 500 },
    );
  });

  test('a limited plan is the first part that fits, or nothing', () => {
    const planned = plan(scattered(3, 3, 3, 3), 8);
    expect(limitPlan(planned, blocks(10))).toMatchObject({ blocks: 9, fragmentsAfter: 2 });
    expect(limitPlan(planned, blocks(5))).toBeUndefined();
  });
});

describe('relocating', () => {
  const endOf = ({ logical, length }: { logical: number; length: number }) => logical + length;

  test('parts of extents move, the rest stays', () => {
    const moved = relocate(scattered(10, 10), [
      { logical: blocks(4), physical: blocks(5000), length: blocks(10) },
    ]);
    expect([...moved].map(({ logical, physical, length }) => [logical, physical, length])).toEqual([
      [0, 1_000_000, 4],
      [4, 5000, 10],
      [14, 2_000_004, 6],
    ]);
  });

  test('fragments are counted as those of the layout that it makes', () => {
    const cuts = fc.array(
      fc.record({ skip: fc.nat(30), length: fc.integer({ min: 1, max: 50 }), jump: fc.nat(3) }),
    );
    fc.assert(
      fc.property(layouts(), cuts, (extents, some) => {
        // In logical order, each in what is mapped; some right behind the one before, or as far as the hole between them.
        const pieces: { logical: number; physical: number; length: number }[] = [];
        let at = 0;
        for (const { skip, length, jump } of some) {
          at += skip;
          const hit = [...extents].find((extent) => extent.logical + extent.length > at);
          if (hit === undefined) break;
          const logical = Math.max(at, hit.logical);
          const last = pieces.at(-1);
          const behind = last === undefined ? 7000 : last.physical + last.length;
          const hole = last === undefined ? 0 : logical - last.logical - last.length;
          const physical = behind + [0, hole, 5, 1000][jump];
          pieces.push({ logical, physical, length: Math.min(length, hit.logical + hit.length - logical) });
          at = logical + pieces[pieces.length - 1].length;
        }
        const moves = pieces as unknown as Parameters<typeof relocate>[1];
        const after = relocate(extents, moves);
        expect(fragmentsAfter(extents, moves)).toBe(countFragments(after));
        // Merged, and as much as before.
        expect(mergeExtents(after)).toBe(after);
        expect(after.blocks).toBe(extents.blocks);
        // The same where one goes over several extents, and over holes.
        const wide = pieces.flatMap((piece, i) =>
          i % 3 !== 0
            ? []
            : [{ ...piece, length: endOf(pieces[Math.min(i + 2, pieces.length - 1)]) - piece.logical }],
        ) as unknown as typeof moves;
        expect(fragmentsAfter(extents, wide)).toBe(countFragments(relocate(extents, wide)));
      }),
    );
  });

  test('clipping cuts the last extent', () => {
    expect(clip(scattered(10, 10), blocks(15)).blocks).toBe(15);
    expect(clip(scattered(10, 10), blocks(99)).blocks).toBe(20);
  });
});

/** Donor runs of these lengths, far apart, in one donor file. */
function donor(...lengths: number[]): Run[] {
  let start = 0;
  return lengths.map((length, i) => {
    const run = {
      donorFd: 9,
      start: blocks(start),
      physical: blocks(500_000_000 + 1_000_003 * i),
      length: blocks(length),
    };
    start += length;
    return run;
  });
}

describe('assigning', () => {
  test('takes the shortest run that holds the whole range', () => {
    const segments = assign(plan(scattered(3, 3), 8), new RunPool(donor(100, 6, 7)), 1);
    expect(segments).toHaveLength(1);
    expect(segments[0]).toMatchObject({ logical: 0, donor: 100, length: 6 });
  });

  test('holes are closed where a block is a page', () => {
    const extents = ExtentTable.from([
      { logical: 0, physical: 1000, length: 4 },
      { logical: 1000, physical: 9000, length: 4 },
    ]);
    expect(assign(plan(extents, 8), new RunPool(donor(8)), 1)).toMatchObject([
      { logical: 0, donor: 0, length: 4 },
      { logical: 1000, donor: 4, length: 4 },
    ]);
  });

  test('with several short runs, each takes as many whole fragments as it holds, the longest first', () => {
    const planned = plan(scattered(4, 4, 4, 4, 4, 4), 8);
    const segments = assign(planned, new RunPool(donor(9, 13, 3)), 1);
    expect(segments.map(({ logical, length }) => [logical, length])).toEqual([
      [0, 12],
      [12, 8],
    ]);
    expect(fragmentsAfter(planned.extents, segments)).toBe(3);
  });

  test('a run that holds no two fragments is of no use', () => {
    expect(assign(plan(scattered(4, 4, 4), 8), new RunPool(donor(7, 7, 7)), 1)).toEqual([]);
  });

  test('whatever the runs: blocks fit, nothing overlaps, offsets are congruent, and the file is never worse', () => {
    const runs = fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 12 });
    fc.assert(
      fc.property(layouts(), runs, fc.constantFrom(1, 2, 4), (extents, lengths, blocksPerPage) => {
        const planned = planOf(extents, 50);
        if (typeof planned === 'string') return;
        const segments = assign(planned, new RunPool(donor(...lengths)), blocksPerPage);
        const used = new Set<number>();
        for (const { logical, donor: at, physical, length } of segments) {
          expect(Math.abs(logical - at) % blocksPerPage).toBe(0);
          for (let i = 0; i < length; i++) {
            expect(used.has(at + i)).toBe(false);
            used.add(at + i);
          }
          const run = donor(...lengths).find((r) => r.start <= at && at + length <= r.start + r.length);
          expect(run).toBeDefined();
          expect(physical - (run as Run).physical).toBe(at - (run as Run).start);
        }
        expect(relocate(planned.extents, segments).blocks).toBe(planned.extents.blocks);
        if (blocksPerPage === 1 && segments.length > 0) {
          expect(fragmentsAfter(planned.extents, segments)).toBeLessThan(planned.fragmentsBefore);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('what is demanded is enough, wherever the run begins', () => {
    fc.assert(
      fc.property(
        layouts(),
        fc.constantFrom(1, 2, 4),
        fc.integer({ min: 0, max: 3 }),
        (extents, page, offset) => {
          const planned = planOf(extents, Infinity);
          if (typeof planned === 'string') return;
          const need = demand(planned, planned.ranges[0], page);
          const run = { donorFd: 9, start: blocks(offset), physical: blocks(77_000_000), length: need };
          const segments = assign(planned, new RunPool([run]), page);
          expect(segments.reduce((sum, { length }) => sum + length, 0)).toBe(planned.blocks);
          if (page === 1) expect(countFragments(relocate(planned.extents, segments))).toBe(1);
        },
      ),
    );
  });
});

test('fragment lengths of the fixture are what the tests say', () => {
  expect([...fragmentLengths(scattered(3, 1, 4))]).toEqual([3, 1, 4]);
});

test('what a file took that is refused is there for the next one', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.nat({ max: 40 }).map((n) => n + 1),
        { minLength: 1, maxLength: 12 },
      ),
      fc.array(
        fc.nat({ max: 20 }).map((n) => n + 1),
        { minLength: 2, maxLength: 12 },
      ),
      (runs, fragments) => {
        const lengths = (pool: RunPool) => {
          const all: number[] = [];
          for (let run = pool.take(Infinity); run !== undefined; run = pool.take(Infinity))
            all.push(run.length);
          return all;
        };
        const pool = new RunPool(donor(...runs));
        pool.begin();
        assign(plan(scattered(...fragments), Infinity), pool, 1);
        pool.giveUp();
        expect(lengths(pool)).toEqual(lengths(new RunPool(donor(...runs))));
      },
    ),
  );
});
