import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { execa } from 'execa';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { FALLOC, fallocate, openTemporary } from '../../lib/kernel/allocate.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { closeFd, filesystemUuid, fsyncFd, O, statFilesystem } from '../../lib/kernel/handle.ts';
import { ExtentTable, mergeExtents } from '../../lib/layout/extents.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { DonorStock, reserveOf } from '../../lib/place/donors.ts';
import { placeExactly, type ExactPlacement, type FileBlock, type Site } from '../../lib/place/exact.ts';
import { FreeMap, piecesOf, type FreeRun } from '../../lib/place/freeMap.ts';
import { allocateLong } from '../../lib/place/longRun.ts';
import { freeNearby } from '../../lib/place/nearby.ts';
import { place } from '../../lib/place/place.ts';
import type { PlacementStep } from '../../lib/report/events.ts';
import { restoreLeftOver, SearchDepth } from '../../lib/place/searchDepth.ts';
import { planFile, type FilePlan } from '../../lib/plan/plan.ts';
import { inspectFilesystem, kernelName } from '../../lib/scan/filesystem.ts';
import { Crumbs } from '../support/crumble.ts';
import { IN_VM, MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

/** Numbers that are the same each time. @returns whole ones from 0 up to the limit, which is not among them */
function seeded(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fff_ffff;
    return (state >> 8) % limit;
  };
}

const GROUP = 32768;

/**
 * A filesystem of 1 GiB, 8 block groups, that two nameless files fill to the last blocks: one for the first groups, and
 * one for the others, whose extent tree stays small.
 */
async function useFull(l: Lab) {
  const dirFd = await l.open('.', O.RDONLY);
  const fds = [await openTemporary(dirFd), await openTemporary(dirFd)];
  onTestFinished(async () => void (await Promise.all(fds.map(closeFd))));
  await allocateUpTo(l, fds[0], 5 * GROUP - 16_000);
  await allocateUpTo(l, fds[1], Infinity);
  /** Frees blocks, as far as they are the files'. */
  const free = async (start: number, length: number) => {
    for (const fd of fds) {
      for (const extent of await fiemap(fd, l.blockSize)) {
        const from = Math.max(start, extent.physical);
        const to = Math.min(start + length, extent.physical + extent.length);
        if (from < to) await punch(l, fd, extent.logical + from - extent.physical, to - from);
      }
    }
  };
  return { fds, dirFd, free, commit: () => fsyncFd(dirFd) };
}

async function allocateUpTo(l: Lab, fd: number, most: number): Promise<void> {
  // No more at once than one extent holds: of more, something is kept for the file.
  for (let end = 0, step = 32767; step >= 1 && end < most;) {
    try {
      await fallocate(fd, 0, bytes(end * l.blockSize), bytes(step * l.blockSize));
      end += step;
    } catch {
      step = Math.floor(step / 2);
    }
  }
}

function punch(l: Lab, fd: number, logical: number, length: number): Promise<void> {
  const range = [bytes(logical * l.blockSize), bytes(length * l.blockSize)] as const;
  return fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, ...range);
}

type Full = Awaited<ReturnType<typeof useFull>>;

/**
 * Shatters the free space of a few groups, some 17 000 runs here: of 2 to 9 blocks, with a longer one now and then, too
 * few for the allocator to come upon them.
 */
async function shatter(
  l: Lab,
  { fds, dirFd, commit }: Full,
  random: (limit: number) => number,
): Promise<void> {
  const holes = scaled(17_000);
  const wide = Math.floor(holes / 40);
  let made = 0;
  for (const extent of await fiemap(fds[0], l.blockSize)) {
    for (const piece of piecesOf([{ start: extent.physical, length: extent.length }], GEOMETRY)) {
      const logical = extent.logical + piece.start - extent.physical;
      for (let at = 1; at < piece.length - 2048 && made < holes; made++) {
        const length = made % wide === wide - 1 ? Math.round(17 * 2 ** (random(650) / 100)) : 2 + random(8);
        await punch(l, fds[0], logical + at, length);
        at += length + 1 + random(3);
      }
    }
  }
  await commit();
  // What could not be filled is as long a run as the filesystem keeps for its own metadata.
  const rest = await openTemporary(dirFd);
  onTestFinished(() => closeFd(rest));
  for (let end = 0; ;) {
    const { longestPiece } = await FreeMap.read(dirFd, l.blockSize);
    if (longestPiece <= LONGEST_WIDE) break;
    await fallocate(rest, 0, bytes(end * l.blockSize), bytes(longestPiece * l.blockSize));
    end += longestPiece;
  }
}

const LONGEST_WIDE = 17 * 2 ** 6.5;

const GEOMETRY = { firstDataBlock: 0, blocksPerGroup: GROUP };

/** A file of two fragments and so many blocks, which wants to be in one. */
function planOf(count: number, longestRun: number): FilePlan {
  const extents = ExtentTable.from([
    { logical: 0, physical: 100, length: 1 },
    { logical: 1, physical: 200, length: count - 1 },
  ]);
  const options = { fragmentBlocks: Infinity, longestRun: blocks(longestRun) };
  const plan = planFile(extents, blocks(count), options);
  if (typeof plan === 'string') throw new Error(plan);
  return plan;
}

describe('the ladder', () => {
  /** Places a file of so many blocks. @returns the pieces of its donor, and the steps it took */
  async function ladder(l: Lab, { dirFd, commit }: Full, count: number, longestRun: number, near?: FreeMap) {
    const depth = await SearchDepth.of(await inspectFilesystem(dirFd), dirFd);
    expect(depth).toBeDefined();
    const stock = new DonorStock([dirFd], l.blockSize);
    const steps: { step: PlacementStep; reason: string }[] = [];
    try {
      const [placement] = await place([planOf(count, longestRun)], stock, 1, {
        told: (step, reason) => steps.push({ step, reason }),
        deep: { depth: depth!, commit, near },
      });
      const space = await statFilesystem(dirFd);
      expect(space.free).toBeGreaterThanOrEqual(reserveOf(space));
      const pieces =
        typeof placement === 'string' ? placement : placement.map(({ length }) => length as number);
      return { pieces, steps };
    } finally {
      await stock.close();
      await commit();
    }
  }

  test('finds a donor of N blocks wherever a block group has a free run of N: 100 of 100', async () => {
    const l = await useLab({ size: 1024 * MiB, mkfs: ['-m', '0'] });
    const full = await useFull(l);
    const random = seeded(20260728);
    await shatter(l, full, random);
    const { longestRun } = await inspectFilesystem(full.dirFd);
    const failed: unknown[] = [];
    const steps = new Set<PlacementStep>();
    let tries = 0;
    const attempt = async (count: number) => {
      const free = await FreeMap.read(full.dirFd, l.blockSize);
      expect(free.longestPiece).toBeGreaterThanOrEqual(count);
      const result = await ladder(l, full, count, longestRun);
      for (const { step } of result.steps) steps.add(step);
      if (result.pieces[0] !== count) failed.push({ count, ...result });
      tries++;
    };
    const lengths = async (least: number) => {
      const free = await FreeMap.read(full.dirFd, l.blockSize);
      return [...piecesOf(free.runs(), free.geometry)]
        .map(({ length }) => Math.min(length, 32767))
        .filter((length) => length >= least)
        .sort((a, b) => b - a);
    };
    // While no group is nearly free: the allocator would take that one for everything.
    const wide = await lengths(17);
    expect(wide.length).toBeGreaterThan(20);
    for (let i = 0; i < 60; i++) {
      const some = wide[random(wide.length)];
      await attempt(i % 3 === 0 ? some : i % 3 === 1 ? wide[i % 20] : 2 + random(some - 1));
    }
    expect(steps).toContain('search-depth');
    await full.free(5 * GROUP + 25_000, 2 * GROUP - 25_000);
    await full.commit();
    const all = await lengths(2);
    expect(all[0]).toBe(32767);
    for (let i = 0; i < 40; i++) {
      await attempt(i < 4 ? all[i] : i % 2 === 0 ? 2 + random(32766) : all[random(all.length)]);
    }
    expect(failed).toEqual([]);
    expect(tries).toBe(100);
  });

  /** Free space in pieces, but for one run that goes over the border of two groups. */
  async function useLongRun(seed: number) {
    const l = await useLab({ size: 1024 * MiB, mkfs: ['-m', '0'] });
    const full = await useFull(l);
    await shatter(l, full, seeded(seed));
    await full.free(5 * GROUP + 25_000, 2 * GROUP - 25_000);
    await full.commit();
    const { longestRun } = await inspectFilesystem(full.dirFd);
    return { l, full, longestRun };
  }

  test('grows a run that is longer than one allocation', async () => {
    const { l, full, longestRun } = await useLongRun(5);
    const { longestRun: longest } = await FreeMap.read(full.dirFd, l.blockSize);
    expect(longest).toBeGreaterThan(40_000);
    for (const count of [longest, 36_000]) {
      const { pieces, steps } = await ladder(l, full, count, longestRun);
      expect({ pieces, steps }).toMatchObject({ pieces: [count] });
    }
  });

  test('takes a long run nearby before anything is tried on', async () => {
    const { l, full, longestRun } = await useLongRun(11);
    const near = await freeNearby(full.dirFd, l.blockSize, GEOMETRY, 6 * GROUP, blocks(36_000));
    const count = 36_000;
    expect(near!.longestRun).toBeGreaterThan(count);
    const found = await ladder(l, full, count, longestRun, near);
    expect(found).toEqual({
      pieces: [count],
      steps: [
        { step: 'long-run', reason: expect.stringMatching(/^free space nearby has 1 run of /) as string },
      ],
    });
    // What is not free any more is not there: the ladder goes on as without.
    const wrong = FreeMap.of([{ start: 100, length: GROUP + 20_000 }], GEOMETRY);
    expect((await ladder(l, full, count, longestRun, wrong)).pieces).toEqual([count]);
    // And without a word where there is none.
    const none = FreeMap.of([{ start: 100, length: 100 }], GEOMETRY);
    expect((await ladder(l, full, 1000, longestRun, none)).pieces).toEqual([1000]);
  });

  test('takes a long run where the allocator finds its beginning, of many places that are as good', async () => {
    const l = await useLab({ size: 4096 * MiB, mkfs: ['-m', '0'] });
    const dirFd = await l.open('.', O.RDONLY);
    const full = { dirFd, commit: () => fsyncFd(dirFd) } as Full;
    const { longestRun } = await inspectFilesystem(dirFd);
    // So that the first answer is never good enough: what is asked for comes in pieces.
    const small = await openTemporary(dirFd);
    onTestFinished(() => closeFd(small));
    const count = 4 * GROUP;
    let rounds = 0;
    for (let round = 0; round < 8; round++) {
      await fallocate(small, 0, bytes(round * 16 * MiB), bytes((1 + round) * MiB));
      const free = await FreeMap.read(dirFd, l.blockSize);
      // Some kernels put what is small in the middle of them.
      if (free.longestRun < count) break;
      rounds++;
      const { pieces, steps } = await ladder(l, full, count, longestRun);
      expect({ round, pieces, steps }).toMatchObject({ pieces: [count] });
    }
    expect(rounds).toBeGreaterThan(2);
  });

  test('asks for a long run no more when all that is left is small pieces', async () => {
    const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
    await Crumbs.make(l, 20261129, 45);
    const dirFd = await l.open('.', O.RDONLY);
    const depth = await SearchDepth.of(await inspectFilesystem(dirFd), dirFd);
    const run = { start: blocks(25_000), length: blocks(10_000) };
    const stock = new DonorStock([dirFd], l.blockSize);
    onTestFinished(() => stock.close());
    expect(await stock.spendable()).toBeGreaterThan(2 * run.length);
    await allocateLong(run, FreeMap.of([run], GEOMETRY), stock, depth!, () => fsyncFd(dirFd), 1);
    // There is room for another answer, which would take thousands of looks at all of free space.
    expect(new Set(Array.from(stock.runs(), ({ donorFd }) => donorFd)).size).toBe(1);
  });

  test('says what was wanted and what there is when there is nothing better', async () => {
    const l = await useLab({ size: 1024 * MiB, mkfs: ['-m', '0'] });
    const full = await useFull(l);
    await shatter(l, full, seeded(7));
    await full.commit();
    const { longestRun } = await inspectFilesystem(full.dirFd);
    const { steps } = await ladder(l, full, scaled(20_000), longestRun);
    expect(steps.at(-1)).toMatchObject({
      step: 'give-up',
      reason: expect.stringMatching(
        /^runs of up to .* are wanted; the longest free one is [\d.]+ [KM]iB/,
      ) as string,
    });
  });

  test('takes nothing more than a plain donor where free space is good', async () => {
    const l = await useLab();
    const dirFd = await l.open('.', O.RDONLY);
    const { longestRun } = await inspectFilesystem(dirFd);
    const full = { dirFd, commit: () => fsyncFd(dirFd) } as Full;
    expect(await ladder(l, full, 1000, longestRun)).toEqual({ pieces: [1000], steps: [] });
  });
});

describe('exact placement', () => {
  /** Sites in the free space of a filesystem whose blocks are a file's. */
  async function sitesBeside(
    l: Lab,
    { fds, dirFd }: Pick<Full, 'fds' | 'dirFd'>,
  ): Promise<{ before: Site[]; behind: Site[] }> {
    const last = new Map<number, FileBlock>();
    const first = new Map<number, FileBlock>();
    for (const fd of fds) {
      for (const { logical, physical, length } of mergeExtents(await fiemap(fd, l.blockSize))) {
        first.set(physical, { fd, logical });
        last.set(physical + length, { fd, logical: blocks(logical + length - 1) });
      }
    }
    const free = await FreeMap.read(dirFd, l.blockSize);
    const before: Site[] = [];
    const behind: Site[] = [];
    for (const run of free.runs()) {
      const [left, right] = [last.get(run.start), first.get(run.start + run.length)];
      if (left !== undefined) before.push({ ...run, before: left });
      if (right !== undefined) behind.push({ ...run, behind: right });
    }
    return { before, behind };
  }

  /** What is free beside a site's neighbour must be ours now, and nobody's file may have changed. */
  async function expectWhole(l: Lab, placed: ExactPlacement, sites: readonly Site[]): Promise<void> {
    expect([...placed.why]).toEqual([]);
    for (const [i, site] of sites.entries()) {
      let at: number = site.start;
      for (const run of placed.got[i]) {
        expect(run.physical).toBe(at);
        at += run.length;
        const range = { start: bytes(run.start * l.blockSize), length: bytes(run.length * l.blockSize) };
        const [extent] = mergeExtents(await fiemap(run.donorFd, l.blockSize, range));
        expect(extent.physical + run.start - extent.logical).toBe(run.physical);
      }
      expect(at).toBe(site.start + site.length);
    }
    await Promise.all(placed.files.map(closeFd));
  }

  const options = (l: Lab) => ({
    blockSize: l.blockSize,
    blocksPerPage: 4096 / l.blockSize,
    commit: async () => void (await execa('sync', ['-f', l.mountPoint])),
    notGivenBack: () => expect.unreachable('a block was not given back'),
  });

  test('50 of 50, with the neighbour before or behind, and one longer than an allocation', async () => {
    const l = await useLab({ size: 1024 * MiB, mkfs: ['-m', '0'] });
    const full = await useFull(l);
    const random = seeded(11);
    await shatter(l, full, random);
    await full.free(5 * GROUP + 25_000, 2 * GROUP - 25_000);
    await full.commit();
    const layouts = () =>
      Promise.all(full.fds.map(async (fd) => [...mergeExtents(await fiemap(fd, l.blockSize))]));
    const layout = await layouts();
    const { before, behind } = await sitesBeside(l, full);
    const longest = before.reduce((a, b) => (a.length > b.length ? a : b));
    expect(longest.length).toBeGreaterThan(32767);
    const chosen = new Map<number, Site>([[longest.start, longest]]);
    for (let i = 1; chosen.size < 50; i++) {
      const some = i % 2 === 0 ? before : behind;
      const site = some[random(some.length)];
      if (!chosen.has(site.start)) chosen.set(site.start, site);
    }
    const sites = [...chosen.values()];
    const placed = await placeExactly(full.dirFd, sites, options(l));
    await expectWhole(l, placed, sites);
    // With the few holes that there are in the VM, stand-ins come into the long one itself, and it is held in parts.
    if (!IN_VM) expect(placed.got[0]).toHaveLength(1);
    // What was borrowed is where it was.
    expect(await layouts()).toEqual(layout);
  });

  test.each([{ side: 'before' as const }, { side: 'behind' as const }])(
    'a file with data has its block back, $side',
    async ({ side }) => {
      const l = await useLab();
      const content = Buffer.alloc(256 * l.blockSize, 'what is in it');
      await writeFile(l.path('file'), content);
      const [fd, dirFd] = [await l.open('file'), await l.open('.', O.RDONLY)];
      await fsyncFd(fd);
      // A hole in the middle of its blocks.
      const [first] = mergeExtents(await fiemap(fd, l.blockSize));
      expect(first.length).toBe(256);
      const range = [bytes(100 * l.blockSize), bytes(50 * l.blockSize)] as const;
      await fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, ...range);
      await fsyncFd(dirFd);
      const layout = [...mergeExtents(await fiemap(fd, l.blockSize))];
      const neighbour = { fd, logical: blocks(side === 'before' ? 99 : 150) };
      const run: FreeRun = { start: blocks(first.physical + 100), length: blocks(50) };
      const site = { ...run, [side]: neighbour } as unknown as Site;
      const placed = await placeExactly(dirFd, [site], options(l));
      await expectWhole(l, placed, [site]);
      await fsyncFd(dirFd);
      expect([...mergeExtents(await fiemap(fd, l.blockSize))]).toEqual(layout);
      content.fill(0, 100 * l.blockSize, 150 * l.blockSize);
      await l.remount();
      expect((await readFile(l.path('file'))).equals(content)).toBe(true);
    },
  );

  test('blocks smaller than pages: what the kernel can exchange is placed, and the rest refused', async () => {
    const l = await useLab({ size: 256 * MiB, blockSize: 1024, mkfs: ['-m', '0'] });
    const dirFd = await l.open('.', O.RDONLY);
    const fd = await openTemporary(dirFd);
    onTestFinished(() => closeFd(fd));
    await fallocate(fd, 0, bytes(0), bytes(6000 * 1024));
    const holes = [
      [100, 3],
      [202, 30],
      [303, 37],
      [401, 5],
      [1000, 4000],
    ];
    for (const [at, length] of holes) {
      await fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, bytes(at * 1024), bytes(length * 1024));
    }
    await fsyncFd(dirFd);
    const { before, behind } = await sitesBeside(l, { fds: [fd], dirFd });
    const lengths = holes.map(([, length]) => length);
    const own = (sites: Site[]) => sites.filter(({ length }) => lengths.includes(length));
    expect(own(before)).toHaveLength(holes.length);
    const placed = await placeExactly(dirFd, own(before), options(l));
    await expectWhole(l, placed, own(before));
    const refused = await placeExactly(dirFd, own(behind), options(l));
    onTestFinished(async () => void (await Promise.all(refused.files.map(closeFd))));
    expect([...refused.why.values()].join()).toContain('blocks are smaller than pages');
  });

  test('what is not free is not got, and nobody is worse off', async () => {
    const l = await useLab();
    const dirFd = await l.open('.', O.RDONLY);
    const fd = await openTemporary(dirFd);
    onTestFinished(() => closeFd(fd));
    await fallocate(fd, 0, bytes(0), bytes(1000 * l.blockSize));
    const layout = [...mergeExtents(await fiemap(fd, l.blockSize))];
    const start = blocks(layout[0].physical + 500);
    const site: Site = { start, length: blocks(10), before: { fd, logical: blocks(499) } };
    const placed = await placeExactly(dirFd, [site], options(l));
    onTestFinished(async () => void (await Promise.all(placed.files.map(closeFd))));
    expect(placed.got).toEqual([[]]);
    expect(placed.why.get(site)).toMatch(/not all of it is free/);
    expect([...mergeExtents(await fiemap(fd, l.blockSize))]).toEqual(layout);
  });

  test('the reserve is not entered', async () => {
    const l = await useLab();
    const dirFd = await l.open('.', O.RDONLY);
    const fd = await openTemporary(dirFd);
    onTestFinished(() => closeFd(fd));
    await fallocate(fd, 0, bytes(0), l.blockSize);
    const [{ physical }] = await fiemap(fd, l.blockSize);
    const site: Site = {
      start: blocks(physical + 1),
      length: blocks(10),
      before: { fd, logical: blocks(0) },
    };
    const placed = await placeExactly(dirFd, [site], { ...options(l), reserveShare: 1 });
    expect(placed).toMatchObject({ files: [], got: [[]], elsewhere: [] });
    expect(placed.why.get(site)).toBe('free space is at its reserve');
  });
});

describe('the search depth', () => {
  const FOLDER = '/run/ext4-defrag';
  const RAISED = 10_000_000;
  /** Of the filesystem in hand: other runs may be at work on theirs. */
  let uuid: string | undefined;
  const records = () =>
    existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => name.includes(`-${uuid}`)) : [];
  afterEach(() => expect(records()).toEqual([]));

  async function useDepth() {
    const l = await useLab({ size: 64 * MiB });
    const dirFd = await l.open('.', O.RDONLY);
    const filesystem = await inspectFilesystem(dirFd);
    uuid = await filesystemUuid(dirFd);
    const tunable = `/sys/fs/ext4/${await kernelName(filesystem.id)}/mb_max_to_scan`;
    const value = () => Number(readFileSync(tunable, 'latin1'));
    const set = (to: number) => writeFileSync(tunable, String(to));
    const depth = await SearchDepth.of(filesystem, dirFd);
    set(123);
    return { l, dirFd, filesystem, value, set, depth: depth! };
  }

  test('is raised meanwhile and put back, whatever happens', async () => {
    const { depth, value } = await useDepth();
    await depth.raisedDuring(async () => {
      expect(value()).toBe(RAISED);
      expect(records()).toHaveLength(1);
      await depth.raisedDuring(() => Promise.resolve(expect(value()).toBe(RAISED)));
      // The outer one still needs it.
      expect(value()).toBe(RAISED);
    });
    expect(value()).toBe(123);
    await expect(depth.raisedDuring(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(value()).toBe(123);
    expect(records()).toEqual([]);
  });

  test('what somebody else sets meanwhile stays', async () => {
    const { depth, value, set } = await useDepth();
    await depth.raisedDuring(() => Promise.resolve(set(500)));
    expect(value()).toBe(500);
  });

  /** Runs something in a process that holds the depth raised. It prints a line when it has. */
  function raising(l: Lab, then: string) {
    const script = `
      import { O, openAt, AT_FDCWD } from ${JSON.stringify(new URL('../../lib/kernel/handle.ts', import.meta.url))};
      import { SearchDepth } from ${JSON.stringify(new URL('../../lib/place/searchDepth.ts', import.meta.url))};
      import { inspectFilesystem } from ${JSON.stringify(new URL('../../lib/scan/filesystem.ts', import.meta.url))};
      const fd = await openAt(AT_FDCWD, Buffer.from(${JSON.stringify(l.mountPoint)}), O.RDONLY);
      const depth = await SearchDepth.of(await inspectFilesystem(fd), fd);
      await depth.raisedDuring(async () => { console.log('raised'); ${then} });`;
    const flags = ['--import', 'tsx', '--input-type=module', '-e', script];
    return spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
  }

  test('is put back when the process exits meanwhile', async () => {
    const { l, value } = await useDepth();
    const child = raising(l, 'process.exit(7)');
    expect(await once(child, 'exit')).toEqual([7, null]);
    expect(value()).toBe(123);
  });

  test('is put back by the next run when the process was killed', async () => {
    const { l, dirFd, filesystem, value } = await useDepth();
    const child = raising(l, 'await new Promise((done) => setTimeout(done, 60_000))');
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(value()).toBe(RAISED);
    expect(records()).toHaveLength(1);
    expect(await restoreLeftOver(filesystem, dirFd)).toBe(true);
    expect(value()).toBe(123);
    expect(await restoreLeftOver(filesystem, dirFd)).toBe(false);
  });

  test('a record that a killed run had not finished goes with the next run', async () => {
    const { dirFd, filesystem, depth, value } = await useDepth();
    await depth.raisedDuring(() => {
      writeFileSync(`${FOLDER}/${records()[0]}.new`, '');
      return Promise.resolve();
    });
    expect(records()).toHaveLength(1);
    expect(await restoreLeftOver(filesystem, dirFd)).toBe(false);
    expect(value()).toBe(123);
  });

  test('a run that finds it raised by one that was killed puts back what was before that', async () => {
    const { l, depth, value } = await useDepth();
    const child = raising(l, 'await new Promise((done) => setTimeout(done, 60_000))');
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await depth.raisedDuring(() => Promise.resolve(expect(value()).toBe(RAISED)));
    expect(value()).toBe(123);
  });

  test('a value that is not the raised one is not put back, and the record goes', async () => {
    const { dirFd, filesystem, depth, value, set } = await useDepth();
    await depth.raisedDuring(async () => {
      set(99);
      expect(await restoreLeftOver(filesystem, dirFd)).toBe(false);
    });
    expect(value()).toBe(99);
  });

  test('is not raised where others could have made the record', async () => {
    const { depth, value } = await useDepth();
    await rm(FOLDER, { recursive: true, force: true });
    onTestFinished(() => rm(FOLDER, { recursive: true, force: true }));
    await mkdir(FOLDER);
    await chmod(FOLDER, 0o777);
    expect(await depth.raisedDuring(() => Promise.resolve(value()))).toBe(123);
    await rm(FOLDER, { recursive: true });
    await symlink('/tmp', FOLDER);
    expect(await depth.raisedDuring(() => Promise.resolve(value()))).toBe(123);
    await rm(FOLDER);
    expect(await depth.raisedDuring(() => Promise.resolve(value()))).toBe(RAISED);
  });
});
