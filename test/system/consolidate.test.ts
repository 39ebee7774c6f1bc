// Free space is joined into longer runs; the reserve of free space stays, and who fills the filesystem gets it.
import { closeSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import {
  consolidate,
  defragment,
  type ConsolidatedEvent,
  type ConsolidateEvent,
  type ConsolidateOptions,
  type DefragEvent,
  type Event,
} from '../../lib/index.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { bytes } from '../../lib/layout/units.ts';
import { age } from '../support/age.ts';
import { crumble } from '../support/crumble.ts';
import { IN_VM, MiB, type Lab } from '../support/lab.ts';
import { changeOf, contentsOf, freeRuns, layoutOf } from '../support/layout.ts';
import { randomFrom } from '../support/random.ts';
import { useLab } from '../support/use.ts';

// The command as it is installed: compiled, in a process of its own.
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const consolidated = (events: readonly ConsolidateEvent[]): ConsolidatedEvent => {
  const event = events.find(({ type }) => type === 'consolidated');
  if (event?.type !== 'consolidated') throw new Error(`nothing was told: ${JSON.stringify(events)}`);
  return event;
};

const longest = (runs: readonly number[]): number => Math.max(...runs);

/** Consolidates, and asserts that no file is the worse for it. */
async function consolidateAll(l: Lab, names: readonly string[], options: ConsolidateOptions) {
  const before = await layoutOf(l, names);
  const contents = contentsOf(l, names);
  await l.remount();
  const events = await collect(consolidate([l.mountPoint], options));
  await l.remount();
  expect(changeOf(before, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
  expect(contentsOf(l, names)).toEqual(contents);
  expect(events.filter(({ type }) => type === 'failed' || type === 'unsupported')).toEqual([]);
  expect(events.at(-1)).toMatchObject({ type: 'summary', command: 'consolidate', filesystems: 1 });
  return { events, event: consolidated(events), before, runs: await freeRuns(l) };
}

const SIZE = (IN_VM ? 256 : 384) * MiB;

describe('space --consolidate', () => {
  test.each(
    IN_VM
      ? [{ run: 16, seed: 1 }]
      : [
          { run: 16, seed: 1 },
          { run: 16, seed: 2 },
          { run: 32, seed: 3 },
          { run: 64, seed: 4 },
        ],
  )('leaves one free run of $run MiB (seed $seed)', async ({ run, seed }) => {
    const l = await useLab({ size: SIZE, mkfs: ['-m', '0'] });
    const names = await crumble(l, seed);
    const { event, before, runs } = await consolidateAll(l, names, { run: run * MiB });
    expect(before.free.longest).toBeLessThan(4 * MiB);
    expect(longest(runs)).toBeGreaterThanOrEqual(run * MiB);
    expect(event).toMatchObject({ reached: true, goal: { kind: 'run', bytes: run * MiB } });
    expect(event.before.largestRun).toBe(before.free.longest);
    expect(event.after.largestRun).toBe(longest(runs));
    // What lay there is about as long as the window.
    expect(event.bytesEvacuated).toBeGreaterThan(0);
    expect(event.bytesEvacuated).toBeLessThan(1.5 * run * MiB);
  });

  // To age one takes minutes on an emulated processor.
  test.each(IN_VM ? [] : [5, 6])(
    'of an aged filesystem, where files are in fragments (seed %i)',
    async (seed) => {
      const l = await useLab({ size: SIZE, mkfs: ['-m', '0'] });
      const names = await age(l, { fill: 0.7, seed });
      const { event, runs } = await consolidateAll(l, names, { run: 16 * MiB });
      expect(event).toMatchObject({ reached: true });
      expect(longest(runs)).toBeGreaterThanOrEqual(16 * MiB);
    },
  );

  test('by how much lies in long runs; and what is there already is left alone', async () => {
    const l = await useLab({ size: SIZE, mkfs: ['-m', '0'] });
    const names = await crumble(l, 7);
    const inLong = (runs: readonly number[]) =>
      runs.filter((length) => length >= 8 * MiB).reduce((sum, length) => sum + length, 0);
    const first = await consolidateAll(l, names, { bytes: 24 * MiB });
    expect(inLong(first.runs)).toBeGreaterThanOrEqual(24 * MiB);
    expect(first.event).toMatchObject({ reached: true, before: { inLongRuns: 0 }, longRun: 8 * MiB });
    expect(first.event.after.inLongRuns).toBe(inLong(first.runs));
    const again = await consolidateAll(l, names, { run: 8 * MiB });
    expect(again.event).toMatchObject({ reached: true, windows: 0, bytesEvacuated: 0 });
    const more = await consolidateAll(l, names, { bytes: 16 * MiB });
    expect(inLong(more.runs)).toBeGreaterThanOrEqual(inLong(first.runs) + 16 * MiB);
  });

  test('says why not: the reserve, or files that cannot be moved', async () => {
    const l = await useLab({ size: 192 * MiB, mkfs: ['-m', '0'] });
    const names = await crumble(l, 8);
    const large = await consolidateAll(l, names, { run: 128 * MiB });
    expect(large.event).toMatchObject({ reached: false, windows: 0, bytesEvacuated: 0 });
    expect(large.event.detail).toMatch(/^needs a run of 128.0 MiB; the largest is .*; the reserve .* leaves/);
    await execa('chattr', ['+i', ...names], { cwd: l.mountPoint });
    const stuck = await collect(consolidate([l.mountPoint]));
    await execa('chattr', ['-i', ...names], { cwd: l.mountPoint });
    expect(consolidated(stuck)).toMatchObject({ reached: false, windows: 0, bytesEvacuated: 0 });
    expect(consolidated(stuck).detail).toMatch(/cannot be moved|no window/);
    // By then it would have gone.
    expect((await consolidateAll(l, names, { run: 8 * MiB })).event).toMatchObject({ reached: true });
  });

  test('as a command: what was gained, exit codes, limits', async () => {
    const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
    await crumble(l, 9);
    const run = (...args: string[]) =>
      execa(process.execPath, [CLI, 'space', '--consolidate', ...args, l.mountPoint], { reject: false });
    const limited = await run('--run', '16M', '--max-bytes', '1M');
    expect(limited).toMatchObject({ exitCode: 4, stderr: '' });
    expect(limited.stdout).toContain('Stopped at its limit of bytes to move');
    expect(longest(await freeRuns(l))).toBeLessThan(16 * MiB);
    const done = await run('--run', '16M');
    expect(done).toMatchObject({ exitCode: 0, stderr: '' });
    expect(done.stdout).toContain('a free run of 16.0 MiB\n');
    expect(longest(await freeRuns(l))).toBeGreaterThanOrEqual(16 * MiB);
    const json = await run('--json', '--run', '16M');
    const lines = json.stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.at(-1)).toMatchObject({ type: 'summary', schema: 1, command: 'consolidate', reached: 1 });
  });

  test('killed at any time it leaves nothing behind, and every file whole', async () => {
    const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
    const names = await crumble(l, 10);
    const before = await layoutOf(l, names);
    const contents = contentsOf(l, names);
    const free = await l.freeBytes();
    const below = randomFrom(11);
    let killed = 0;
    for (let round = 0; round < (IN_VM ? 3 : 8); round++) {
      await l.remount();
      const args = ['space', '--consolidate', '--json', '--bytes', '32M', '--max-rate', '24M'];
      const child = execa(process.execPath, [CLI, ...args, l.mountPoint], { reject: false });
      // Before that it only reads.
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await sleep(below(IN_VM ? 4000 : 1200));
      child.kill('SIGKILL');
      killed += Number((await child).signal === 'SIGKILL');
      // What it held is free again, but for the trees of the files.
      expect(Math.abs((await l.freeBytes()) - free)).toBeLessThan(MiB);
    }
    expect(killed).toBeGreaterThan(0);
    expect(changeOf(before, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  });
});

/** Looks at free space every few milliseconds, in another process. Answers the least that it has seen, in bytes. */
function watchFreeSpace(l: Lab): () => Promise<number> {
  const script = `
    const { statfsSync } = require('node:fs');
    let least = Infinity;
    setInterval(() => (least = Math.min(least, statfsSync(process.argv[1]).bfree)), 2);
    process.stdin.resume().on('end', () => { console.log(least); process.exit(); });
  `;
  const child = execa(process.execPath, ['-e', script, l.mountPoint]);
  return async () => {
    child.stdin.end();
    return Number((await child).stdout) * l.blockSize;
  };
}

const freeNow = (l: Lab): number => {
  const { bfree, bsize } = statfsSync(l.mountPoint);
  return bfree * bsize;
};

describe('the reserve of free space is never entered, not for a moment', () => {
  test.each(IN_VM ? [] : [{ reserve: undefined }, { reserve: 9 }])(
    'defragment, with room made, asked for $reserve %',
    async ({ reserve }) => {
      const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
      const names = await age(l, { fill: 0.85, seed: 12 });
      const contents = contentsOf(l, names);
      await l.remount();
      const { blocks, bsize } = statfsSync(l.mountPoint);
      const least = (blocks * bsize * (reserve ?? 5)) / 100;
      const before = freeNow(l);
      const stop = watchFreeSpace(l);
      const events = await collect(defragment([l.mountPoint], { reserve }));
      const seen = await stop();
      expect(seen).toBeGreaterThanOrEqual(least);
      // It did use what it may, so the reserve was what kept it from more.
      expect(seen - least).toBeLessThan((before - least) / 3);
      expect(events.at(-1)).toMatchObject({ type: 'summary', failed: 0 });
      expect(contentsOf(l, names)).toEqual(contents);
    },
  );

  test('consolidate, also with all of it', async () => {
    const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
    const names = await crumble(l, 13);
    const { blocks, bsize } = statfsSync(l.mountPoint);
    const stop = watchFreeSpace(l);
    await consolidateAll(l, names, { run: 40 * MiB });
    expect(await stop()).toBeGreaterThanOrEqual(blocks * bsize * 0.05);
    const least = freeNow(l) / (blocks * bsize) - 0.15;
    const { event } = await consolidateAll(l, names, { run: 40 * MiB + MiB, reserve: least * 100 });
    expect(event.reached).toBe(false);
    expect(event.detail).toMatch(/the reserve of free space leaves/);
  });
});

/**
 * Fills the filesystem below its reserve, and measures how long it takes until everything but that is free again.
 *
 * @param before free bytes when nothing was held
 */
async function fillUp(l: Lab, before: number) {
  const { blocks, bsize } = statfsSync(l.mountPoint);
  const hog = openSync(l.path('hog'), 'wx');
  const size = freeNow(l) - blocks * bsize * 0.05 + 4 * MiB;
  await fallocate(hog, 0, bytes(0), bytes(size));
  closeSync(hog);
  const started = performance.now();
  const held = before - size - freeNow(l);
  while (freeNow(l) < before - size - MiB && performance.now() - started < 10_000) await sleep(5);
  return { took: performance.now() - started, held };
}

/** Of giving back what is held, in milliseconds. */
const AT_ONCE = IN_VM ? 5000 : 1000;

describe('who fills the filesystem gets what is held', () => {
  /** Two files in fragments, each too large to be moved beside the other. */
  async function twoFiles(l: Lab): Promise<string[]> {
    for (const name of ['a', 'b']) {
      const fd = await l.create(name);
      for (let i = 0; i < 40; i++) writeSync(fd, Buffer.alloc(MiB, `${name}${i}`));
      await l.fragment(name, 64);
    }
    await l.remount();
    return ['a', 'b'];
  }

  test('while files are moved; then the others have their turn', async () => {
    const l = await useLab({ size: 384 * MiB, mkfs: ['-m', '0'] });
    const names = await twoFiles(l);
    const contents = contentsOf(l, names);
    await l.remount();
    const before = freeNow(l);
    const events: DefragEvent[] = [];
    let filling: ReturnType<typeof fillUp> | undefined;
    for await (const event of defragment([l.mountPoint], { maxRate: 12 * MiB, makeRoom: false })) {
      events.push(event);
      if (event.type === 'progress') filling ??= fillUp(l, before);
      if (event.type !== 'defragmented' || event.incomplete === undefined) continue;
      // There is room again.
      await filling;
      rmSync(l.path('hog'));
    }
    const { took, held } = await filling!;
    expect(held).toBeGreaterThan(20 * MiB);
    expect(took).toBeLessThan(AT_ONCE);
    const results = events.filter((event) => event.type === 'defragmented');
    expect(results).toMatchObject([
      {
        incomplete: 'no-space',
        detail: expect.stringMatching(/^others have filled the filesystem: .* are free/) as string,
      },
      { fragmentsAfter: 1 },
    ]);
    expect(results[1]).not.toHaveProperty('incomplete');
    expect(events.at(-1)).toMatchObject({ type: 'summary', failed: 0, interrupted: false });
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('while room is made', async () => {
    const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
    const names = await crumble(l, 14);
    const layout = await layoutOf(l, names);
    const contents = contentsOf(l, names);
    await l.remount();
    const before = freeNow(l);
    const events: ConsolidateEvent[] = [];
    let filling: ReturnType<typeof fillUp> | undefined;
    for await (const event of consolidate([l.mountPoint], { run: 40 * MiB, maxRate: 8 * MiB })) {
      events.push(event);
      if (event.type === 'progress') filling ??= fillUp(l, before);
    }
    const { took, held } = await filling!;
    expect(held).toBeGreaterThan(10 * MiB);
    expect(took).toBeLessThan(AT_ONCE);
    expect(consolidated(events)).toMatchObject({ reached: false, windows: 0 });
    // It may see it before the watchdog does.
    expect(consolidated(events).detail).toMatch(
      /others have filled the filesystem|the reserve of free space/,
    );
    expect(events.at(-1)).toMatchObject({ type: 'summary', failed: 0, interrupted: false });
    expect(changeOf(layout, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  /** Asks for events until one of progress, and then for no more until somebody has filled the filesystem. */
  async function stopAsking(l: Lab, before: number, events: AsyncIterable<Event>) {
    const told: Event[] = [];
    let filled: Awaited<ReturnType<typeof fillUp>> | undefined;
    for await (const event of events) {
      told.push(event);
      // Several, so that something is held and something has been exchanged.
      if (filled === undefined && told.filter(({ type }) => type === 'progress').length === 3)
        filled = await fillUp(l, before);
    }
    expect(filled!.held).toBeGreaterThan(10 * MiB);
    expect(filled!.took).toBeLessThan(AT_ONCE);
    expect(told.at(-1)).toMatchObject({ type: 'summary', failed: 0, interrupted: false });
    return told;
  }

  test('also when nobody asks for what comes next: files that are moved', async () => {
    const l = await useLab({ size: 384 * MiB, mkfs: ['-m', '0'] });
    const names = await twoFiles(l);
    const [layout, contents] = [await layoutOf(l, names), contentsOf(l, names)];
    await l.remount();
    const run = defragment([l.mountPoint], { maxRate: 48 * MiB, makeRoom: false });
    const told = await stopAsking(l, freeNow(l), run);
    const results = told.filter(({ type }) => type === 'defragmented' || type === 'skip');
    expect(results[0]).toMatchObject({ type: 'defragmented', incomplete: 'no-space' });
    expect(changeOf(layout, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('also when nobody asks for what comes next: a window that is cleared', async () => {
    const l = await useLab({ size: 256 * MiB, mkfs: ['-m', '0'] });
    const names = await crumble(l, 15);
    const [layout, contents] = [await layoutOf(l, names), contentsOf(l, names)];
    await l.remount();
    const run = consolidate([l.mountPoint], { run: 40 * MiB, maxRate: 32 * MiB });
    await stopAsking(l, freeNow(l), run);
    expect(changeOf(layout, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('also when nobody asks for what comes next: files that are laid in an order', async () => {
    const l = await useLab({ size: 384 * MiB, mkfs: ['-m', '0'] });
    const names = await twoFiles(l);
    writeFileSync(l.path('list'), names.map((name) => `${l.path(name)}\n`).join(''));
    const [layout, contents] = [await layoutOf(l, names), contentsOf(l, names)];
    await l.remount();
    const options = { orderFile: l.path('list'), maxRate: 48 * MiB, makeRoom: false };
    await stopAsking(l, freeNow(l), defragment([l.mountPoint], options));
    expect(changeOf(layout, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  });
});
