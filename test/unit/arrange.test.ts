import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCommandLine } from '../../lib/cli/options.ts';
import { UsageError } from '../../lib/cli/usageError.ts';
import {
  defragment,
  plan as planTargets,
  type DefragEvent,
  type Event,
  type PlanningEvent,
} from '../../lib/index.ts';
import { ExtentTable, mergeExtents } from '../../lib/layout/extents.ts';
import { fingerprint } from '../../lib/layout/fingerprint.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { assign, countUnaligned, demand, RunPool, type Run, type Segment } from '../../lib/place/assign.ts';
import {
  backAgain,
  countJumps,
  filesMoved,
  followShare,
  groupsOf,
  planSequence,
  sequenceOf,
  shareOut,
} from '../../lib/plan/arrange.ts';
import { Destinations } from '../../lib/plan/destinations.ts';
import { planFile, relocate, type FilePlan, type PlanOptions } from '../../lib/plan/plan.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';
import { layouts } from '../support/arbitrary.ts';

const BLOCK = bytes(4096);
const options = (changes: Partial<PlanOptions> = {}): PlanOptions => ({
  fragmentBlocks: 2048,
  longestRun: blocks(2 ** 19),
  ...changes,
});

/** A file in one piece. */
const at = (physical: number, length: number): ExtentTable =>
  ExtentTable.from([{ logical: 0, physical, length }]);

const run = (physical: number, length: number, donorFd = 9): Run => ({
  donorFd,
  start: blocks(0),
  physical: blocks(physical),
  length: blocks(length),
});

function planOf(files: readonly ExtentTable[], whole = false, blocksPerPage = 1): FilePlan {
  const planned = planSequence(sequenceOf(files, blocksPerPage), whole, options(), BLOCK);
  if (typeof planned === 'string') throw new Error(`no plan: ${planned}`);
  return planned;
}

describe('files in order', () => {
  test('jumps are counted between files as well as within them', () => {
    const inside = ExtentTable.from([
      { logical: 0, physical: 110, length: 5 },
      { logical: 5, physical: 900, length: 5 },
    ]);
    expect(countJumps(sequenceOf([], 1))).toBe(0);
    expect(countJumps(sequenceOf([at(100, 10)], 1))).toBe(0);
    expect(countJumps(sequenceOf([at(100, 10), at(110, 5)], 1))).toBe(0);
    expect(countJumps(sequenceOf([at(110, 5), at(100, 10)], 1))).toBe(1);
    expect(countJumps(sequenceOf([at(100, 10), inside, at(905, 1)], 1))).toBe(1);
  });

  test('where blocks are smaller than pages, what begins with the next page is next to it', () => {
    // Two blocks of a page of four, and the next page.
    const files = [at(100, 2), at(104, 4), at(108, 1)];
    expect(countJumps(sequenceOf(files, 4))).toBe(0);
    expect(countJumps(sequenceOf(files, 1))).toBe(1);
  });

  test('what is in order, or lies together in long runs, stays', () => {
    const plan = (files: readonly ExtentTable[], whole = false) =>
      planSequence(sequenceOf(files, 1), whole, options(), BLOCK);
    expect(plan([at(100, 10), at(110, 3)])).toBe('already-contiguous');
    // Runs of 2 MiB each: one jump is not worth writing 4 MiB.
    const runs = [at(0, 256), at(256, 256), at(5000, 256), at(5256, 256)];
    expect(plan(runs)).toBe('large-fragments');
    expect(plan(runs, true)).toMatchObject({ blocks: 1024, fragmentsAfter: 1 });
    expect(plan([at(500, 255), at(100, 255)])).toMatchObject({ blocks: 510, fragmentsAfter: 1 });
  });

  test('of a long run that stays no file is moved', () => {
    const files = [at(0, 4000), at(9000, 2), at(8000, 2), at(7000, 2)];
    const planned = planOf(files);
    expect([...filesMoved(sequenceOf(files, 1), planned)]).toEqual([1, 2, 3]);
    expect(planned.blocks).toBe(6);
  });

  test('each file gets its own blocks of a run', () => {
    const files = [at(900, 3), at(700, 2), at(800, 4)];
    const shares = shareOut(
      files,
      sequenceOf(files, 1),
      assign(planOf(files), new RunPool([run(50, 20)]), 1),
    );
    const expected = [
      [{ donorFd: 9, logical: 0, donor: 0, physical: 50, length: 3 }],
      [{ donorFd: 9, logical: 0, donor: 3, physical: 53, length: 2 }],
      [{ donorFd: 9, logical: 0, donor: 5, physical: 55, length: 4 }],
    ];
    expect(shares).toEqual(expected);
  });

  test('files go into groups of a size, in order', () => {
    const sizes = [3, 3, 3, 20, 1, 9, 1];
    const groups = groupsOf(
      sizes.map((size) => ({ size: bytes(size) })),
      10,
    );
    expect([...groups].map((group) => group.map(({ size }) => size))).toEqual([[3, 3, 3], [20], [1, 9], [1]]);
  });
});

/** Files that do not share blocks. */
const files = fc
  .array(layouts(), { minLength: 2, maxLength: 8 })
  .map((all) =>
    all.map((layout, i) =>
      mergeExtents(
        ExtentTable.from([...layout].map((e) => ({ ...e, physical: e.physical + i * 10_000_000 }))),
      ),
    ),
  );
const runs = fc
  .array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 5 })
  .map((lengths) => lengths.map((length, i) => run(2 ** 32 + i * 10_000, length, i)));

/** As much of some segments as was exchanged before something came in between. */
function firstBlocks(segments: readonly Segment[], seed: number): Segment[] {
  const all = segments.reduce((sum, { length }) => sum + length, 0);
  let left = all === 0 ? 0 : seed % all;
  const some: Segment[] = [];
  for (const segment of segments) {
    if (left === 0) break;
    const length = blocks(Math.min(left, segment.length));
    some.push({ ...segment, length });
    left -= length;
  }
  return some;
}

describe.each([1, 4])('with %i blocks to a page', (blocksPerPage) => {
  test('no file gets more fragments, there are fewer jumps, and it can be undone', () => {
    fc.assert(
      fc.property(files, runs, fc.boolean(), fc.nat(), (layoutsNow, donors, whole, cutAt) => {
        const sequence = sequenceOf(layoutsNow, blocksPerPage);
        const planned = planSequence(sequence, whole, options(), BLOCK);
        if (typeof planned === 'string') return;
        const segments = assign(planned, new RunPool(donors), blocksPerPage);
        const shares = shareOut(layoutsNow, sequence, segments);
        const after = layoutsNow.map((layout, i) => relocate(layout, shares[i]));
        const jumps = countJumps(sequenceOf(after, blocksPerPage));
        // With smaller blocks than pages a gap may have to be left where there was none: the mover puts it back then.
        if (segments.length > 0 && blocksPerPage === 1) expect(jumps).toBeLessThan(countJumps(sequence));
        const moved = filesMoved(sequence, planned);
        for (const [i, layout] of layoutsNow.entries()) {
          expect(countFragments(after[i])).toBeLessThanOrEqual(countFragments(layout));
          if (shares[i].length > 0) expect(moved).toContain(i);
          for (const { logical, donor } of shares[i])
            expect(Math.abs(logical - donor) % blocksPerPage).toBe(0);
          // What was exchanged, and exchanged again, is where it was; also when the first time ended midway.
          for (const share of [shares[i], firstBlocks(shares[i], cutAt)]) {
            const now = relocate(layout, share);
            const back = relocate(now, backAgain(shares[i], layout, now));
            expect(fingerprint(back)).toBe(fingerprint(mergeExtents(layout)));
          }
        }
      }),
    );
  });

  test('a share moves the fragments that it covers, and all of them', () => {
    fc.assert(
      fc.property(files, runs, (layoutsNow, donors) => {
        const sequence = sequenceOf(layoutsNow, blocksPerPage);
        const planned = planSequence(sequence, true, options(), BLOCK);
        if (typeof planned === 'string') return;
        const shares = shareOut(layoutsNow, sequence, assign(planned, new RunPool(donors), blocksPerPage));
        for (const [i, layout] of layoutsNow.entries()) {
          const share = { fingerprint: fingerprint(layout), segments: shares[i] };
          const followed = followShare(share, layout, layout.end, blocks(2 ** 19)) as FilePlan;
          expect(followed.blocks).toBe(shares[i].reduce((sum, { length }) => sum + length, 0));
        }
      }),
    );
  });
});

test('a share is for one layout only', () => {
  const segments: Segment[] = [
    { donorFd: 9, logical: blocks(0), donor: blocks(0), physical: blocks(50), length: blocks(3) },
  ];
  const share = { fingerprint: fingerprint(at(900, 3)), segments };
  expect(followShare(share, at(900, 3), blocks(3), blocks(100))).toMatchObject({ blocks: 3 });
  expect(followShare(share, at(901, 3), blocks(3), blocks(100))).toBe('changed-since-plan');
});

describe('alignment', () => {
  const align = blocks(256);
  /** Of three fragments. */
  const scattered = (length: number) =>
    ExtentTable.from([0, 1, 2].map((i) => ({ logical: i * length, physical: 1_000_001 * (i + 1), length })));
  function aligned(length: number, blocksPerPage = 1, changes: Partial<PlanOptions> = {}) {
    const planned = planFile(scattered(length), blocks(3 * length), options({ align, ...changes }));
    if (typeof planned === 'string') throw new Error(`no plan: ${planned}`);
    return { planned, need: demand(planned, planned.ranges[0], blocksPerPage) };
  }

  test('a run that is longer by what it may take to align it is asked for, and the rest given back', () => {
    const { planned, need } = aligned(100);
    expect(need).toBe(300 + 255);
    const pool = new RunPool([run(1000, need)]);
    const segments = assign(planned, pool, 1);
    expect(segments).toMatchObject([{ physical: 1024, donor: 24, length: 300 }]);
    expect(countUnaligned(planned, segments)).toBe(0);
    // Both ends of the run are there for others.
    expect([pool.take(1), pool.take(1)]).toMatchObject([
      { physical: 1000, start: 0, length: 24 },
      { physical: 1324, start: 324, length: 231 },
    ]);
    expect(pool.take(1)).toBeUndefined();
  });

  test('what is shorter goes anywhere', () => {
    const { planned, need } = aligned(80);
    expect(need).toBe(240);
    const segments = assign(planned, new RunPool([run(1000, need)]), 1);
    expect(segments).toMatchObject([{ physical: 1000, length: 240 }]);
    expect(countUnaligned(planned, segments)).toBe(0);
  });

  test('contiguous comes before aligned', () => {
    const { planned } = aligned(100);
    const segments = assign(planned, new RunPool([run(1000, 310)]), 1);
    expect(segments).toMatchObject([{ physical: 1000, length: 300 }]);
    expect(countUnaligned(planned, segments)).toBe(1);
  });

  test('where blocks are smaller than pages, both must fit', () => {
    const { planned, need } = aligned(100, 4);
    // Donor and file lie alike in their pages, where the donor's first block is that of a page on the device.
    expect(assign(planned, new RunPool([run(1000, need)]), 4)).toMatchObject([{ physical: 1024, donor: 24 }]);
    const [{ physical, donor }] = assign(planned, new RunPool([run(1001, need)]), 4);
    expect({ physical, donor: donor % 4 }).toEqual({ physical: 1001, donor: 0 });
  });

  test('it is a matter of the device, whatever the run', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5000 }),
        fc.integer({ min: 86, max: 500 }),
        (physical, length) => {
          const { planned, need } = aligned(length);
          const segments = assign(planned, new RunPool([run(physical, need)]), 1);
          expect(segments).toHaveLength(1);
          expect(segments[0].physical % 256).toBe(0);
        },
      ),
    );
  });

  test('what is contiguous is not moved for it', () => {
    expect(planFile(at(1001, 1000), blocks(1000), options({ align }))).toBe('already-contiguous');
    expect(planFile(at(1001, 1000), blocks(1000), options({ align, fragmentBlocks: Infinity }))).toBe(
      'already-contiguous',
    );
  });

  test('destinations of a plan file are aligned where a run is long enough, and each block is given once', () => {
    const free = [
      { start: blocks(1000), length: blocks(30) },
      { start: blocks(2000), length: blocks(100) },
    ];
    const destinations = new Destinations(free);
    expect(destinations.take(blocks(20), 64)).toEqual({ start: 2048, length: 20 });
    expect(destinations.take(blocks(40), 64)).toEqual({ start: 2000, length: 40 });
    expect(destinations.take(blocks(30), 64)).toEqual({ start: 1000, length: 30 });
    expect(destinations.take(blocks(32), 1)).toEqual({ start: 2068, length: 32 });
    expect(destinations.take(blocks(9), 64)).toBeUndefined();
    expect(destinations.take(blocks(8), 64)).toEqual({ start: 2040, length: 8 });
  });
});

describe('the command line', () => {
  const engine = (...args: string[]) => {
    const line = parseCommandLine(args);
    if (line.kind !== 'run') throw new Error(`not a run: ${line.kind}`);
    return line.engine;
  };

  test.each([[], ['plan']])('%j: where files are to go reaches the engine', (...command: string[]) => {
    expect(engine(...command, '/srv')).toMatchObject({
      cluster: false,
      align: undefined,
      orderFile: undefined,
    });
    const args = ['--cluster', '--order-file', 'boot.list', '--align', '1M', '/srv'];
    expect(engine(...command, ...args)).toMatchObject({
      cluster: true,
      orderFile: 'boot.list',
      align: 2 ** 20,
    });
  });

  test.each([
    [['--align', '12K', '/srv'], /--align 12K is not a power of two/],
    [['--align', '0', '/srv'], /--align 0 is not a power of two/],
    [['--align', 'stripe', '/srv'], /--align stripe is not a size/],
    [['check', '--cluster', '/srv'], /check has no option --cluster/],
    [['apply', '--align', '1M', 'plan.json'], /apply has no option --align/],
    [['--order-file', 'a\ufffd', '/srv'], /--order-file a\ufffd is not UTF-8/],
    [['plan', '-o', 'p', '--cluster', '/srv'], /leave --cluster and --order-file out/],
    [['plan', '-o', 'p', '--order-file=l', '/srv'], /leave --cluster and --order-file out/],
  ])('%j is wrong usage', (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
    expect(() => parseCommandLine(args)).toThrow(message);
  });
});

async function all(events: AsyncIterable<Event>): Promise<Event[]> {
  const list: Event[] = [];
  for await (const event of events) list.push(event);
  return list;
}

describe('the library', () => {
  test.each([defragment, planTargets])('%o refuses options that make no sense', async (command) => {
    await expect(all(command(['/srv'], { align: 12288 }))).rejects.toThrow(RangeError);
    await expect(all(command(['/srv'], { order: '/boot.list' as never }))).rejects.toThrow(TypeError);
    await expect(all(command(['/srv'], { order: [], orderFile: '/boot.list' }))).rejects.toThrow(RangeError);
  });

  test('a plan file has no place for what is moved together', async () => {
    await expect(all(planTargets(['/srv'], { output: '/tmp/p', cluster: true }))).rejects.toThrow(RangeError);
  });

  test.each([defragment, planTargets])('%o: an order list that is not there is told of', async (command) => {
    const events = await all(command(['/does/not/exist'], { orderFile: '/no/such/list' }));
    expect(events).toMatchObject([
      { type: 'failed', path: '/no/such/list', code: 'ENOENT' },
      { type: 'summary', failed: 1 },
    ]);
  });
});

describe('reports', () => {
  const style = NO_COLOURS;
  const lines = (command: 'defrag' | 'plan', event: DefragEvent | PlanningEvent) =>
    textReporter(command, { verbose: false, style, errorStyle: style })
      .lines(event)
      .map(({ text }) => text);
  const arranged = {
    type: 'arranged' as const,
    path: '/srv/mail',
    files: 12,
    bytesMoved: 2 ** 20,
    jumpsBefore: 1200,
    jumpsAfter: 1,
  };
  const summary: DefragEvent = {
    type: 'summary',
    command: 'defrag',
    files: 10,
    defragmented: 0,
    skipped: {},
    failed: 0,
    unsupported: 0,
    fragmentsBefore: 10,
    fragmentsAfter: 10,
    bytesMoved: 2 ** 20,
    bytesEvacuated: 0,
    bytesWritten: 0,
    gained: {
      fragmentsBefore: 0,
      fragmentsAfter: 0,
      extentsBefore: 0,
      extentsAfter: 0,
      readSecondsBefore: 0,
      readSecondsAfter: 0,
    },
    arranged: { groups: 3, groupsMoved: 1, files: 10, jumpsBefore: 1234, jumpsAfter: 5 },
    continued: false,
    interrupted: false,
    seconds: 2,
  };

  test('what a directory gained', () => {
    expect(lines('defrag', arranged)).toEqual(['/srv/mail: 1200 -> 1 jump, 12 files and 1.0 MiB moved']);
    expect(lines('defrag', { ...arranged, incomplete: 'budget' })[0]).toMatch(/moved; not all of it: /);
    expect(lines('defrag', { ...arranged, detail: 'in two runs' })[0]).toMatch(/moved; in two runs$/);
    expect(lines('defrag', { ...arranged, files: 0, incomplete: 'no-better-place' })[0]).toMatch(
      /^\/srv\/mail: not put in order: free space is in pieces/,
    );
  });

  test('what the run gained, whether files were defragmented by themselves or not', () => {
    const text = lines('defrag', summary).join('\n');
    expect(text).toContain('10 files laid one behind the other in 1 group: 1.0 MiB moved, in 2.00 s.');
    expect(text).toContain('Jumps between files in order: 1234 -> 5.');
    expect(text).not.toContain('Nothing was moved');
    const both = lines('defrag', { ...summary, defragmented: 2 }).join('\n');
    expect(both).toMatch(
      /2 of 10 files defragmented.*\n.*\n10 files laid one behind the other in 1 group\.\n/,
    );
  });

  test('what would be put in order', () => {
    const arrangement: PlanningEvent = {
      type: 'arrangement',
      path: '/srv/mail',
      files: 12,
      bytesToMove: 2 ** 20,
      jumpsBefore: 1200,
      jumpsAfter: 0,
    };
    expect(lines('plan', arrangement)).toEqual([
      '/srv/mail: 1200 -> 0 jumps in reading 12 files, by moving 1.0 MiB',
    ]);
  });
});
