import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { defragment, type DefragEvent, type DefragmentOptions, type DefragSummary } from '../../lib/index.ts';
import { FADV, fadvise, residentPages } from '../../lib/kernel/cache.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { O } from '../../lib/kernel/handle.ts';
import { getIoPriority, IO_CLASS } from '../../lib/kernel/priority.ts';
import { mergeExtents } from '../../lib/layout/extents.ts';
import { fragmentLengths } from '../../lib/layout/fragments.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { EarlyReading } from '../../lib/move/earlyReading.ts';
import { findPressureFile, readNow } from '../../lib/move/pace/counters.ts';
import { stretchesOf } from '../../lib/move/readAhead.ts';
import { planFile, rangeOf, withRanges } from '../../lib/plan/plan.ts';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

async function collect(run: AsyncIterable<DefragEvent>): Promise<DefragEvent[]> {
  const events: DefragEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

const summaryOf = (events: readonly DefragEvent[]) => events.at(-1) as DefragSummary;

const run = async (target: string, options: DefragmentOptions = {}) => {
  const events = await collect(defragment([target], options));
  return { events, summary: summaryOf(events) };
};

/** Goes on until something has moved. */
async function begin(events: AsyncGenerator<DefragEvent, void, void>): Promise<void> {
  for (let step = await events.next(); !step.done && step.value.type !== 'progress';)
    step = await events.next();
}

/** Files of 4 MiB in fragments of 4 blocks, not cached. */
async function fragmented(l: Lab, ...names: string[]): Promise<void> {
  for (const name of names) {
    await writeFile(l.path(name), randomBytes(4 * MiB));
    await l.fragment(name, 4);
  }
  await l.remount();
}

test('two runs do not work on a filesystem at the same time: the second says who does, or waits', async () => {
  const l = await useLab();
  await fragmented(l, 'a', 'b');
  const first = defragment([l.path('a')]);
  await begin(first);
  const second = await run(l.path('b'));
  expect(second.events.find(({ type }) => type === 'failed')).toMatchObject({
    code: 'EWOULDBLOCK',
    message: expect.stringContaining(`process ${process.pid}:`) as string,
  });
  expect(await filefrag(l.path('b'))).toBeGreaterThan(100);
  const stopping = new AbortController();
  const stopped = run(l.path('b'), { wait: true, signal: stopping.signal });
  const waiting = run(l.path('b'), { wait: true });
  stopping.abort();
  expect((await stopped).summary).toMatchObject({ defragmented: 0, interrupted: true });
  expect(summaryOf(await collect(first))).toMatchObject({ defragmented: 1, failed: 0 });
  expect((await waiting).summary).toMatchObject({ defragmented: 1, failed: 0, fragmentsAfter: 1 });
});

test.each([{ whole: true }, { whole: false }])(
  'a limit of bytes ends the run, and the next goes on (whole filesystem: $whole)',
  async ({ whole }) => {
    const l = await useLab();
    await mkdir(l.path('d'));
    const names = ['d/a', 'd/b', 'd/c', 'd/e'];
    await fragmented(l, ...names);
    const before = await Promise.all(names.map((name) => identify(l.path(name))));
    await l.remount();
    const target = whole ? l.mountPoint : l.path('d');
    const limit = 10 * MiB;
    const { summary } = await run(target, { maxBytes: limit });
    expect(summary.bytesMoved).toBeLessThanOrEqual(limit);
    expect(summary.bytesMoved).toBeGreaterThan(limit * 0.8);
    expect(summary.budget).toMatchObject({ reached: 'bytes' });
    // Two files, and a part of the third.
    expect(summary.budget?.filesLeft).toBe(2);
    expect(summary.budget!.bytesLeft + summary.bytesMoved).toBeCloseTo(16 * MiB, -6);
    expect(summary.interrupted).toBe(false);
    const rest = await run(target);
    expect(rest.summary.budget).toBeUndefined();
    expect(rest.summary.bytesMoved).toBeGreaterThan(5 * MiB);
    for (const name of names) expect(await filefrag(l.path(name))).toBeLessThanOrEqual(2);
    expect(await Promise.all(names.map((name) => identify(l.path(name))))).toEqual(before);
  },
);

test('a share of the filesystem is a limit as well, of each', async () => {
  const [one, two] = [await useLab({ size: 128 * MiB }), await useLab({ size: 128 * MiB })];
  for (const l of [one, two]) await fragmented(l, 'a', 'b');
  const events = await collect(defragment([one.mountPoint, two.mountPoint], { maxWrittenPercent: 4 }));
  const { bytesMoved, budget } = summaryOf(events);
  const sizes = await Promise.all(
    [one, two].map(async (l) => {
      const { stdout } = await execa('stat', ['-f', '-c', '%b', l.mountPoint]);
      return Number(stdout) * l.blockSize * 0.04;
    }),
  );
  expect(bytesMoved).toBeLessThanOrEqual(sizes[0] + sizes[1]);
  expect(bytesMoved).toBeGreaterThan((sizes[0] + sizes[1]) * 0.8);
  expect(budget).toMatchObject({ reached: 'bytes' });
});

test('a limit of time ends the run after the chunk in hand', async () => {
  const l = await useLab();
  await fragmented(l, 'a', 'b', 'c');
  const before = await identify(l.path('a'));
  await l.remount();
  // At this rate it would take 12 seconds.
  const { summary } = await run(l.mountPoint, { timeLimit: 2, maxRate: MiB });
  expect(summary.budget).toMatchObject({ reached: 'time' });
  expect(summary.seconds).toBeLessThan(8);
  expect(summary.bytesMoved).toBeLessThan(6 * MiB);
  expect(summary.budget!.bytesLeft).toBeGreaterThan(6 * MiB);
  expect(await identify(l.path('a'))).toEqual(before);
});

test('no more is moved in a time than the rate allows', async () => {
  const l = await useLab();
  await fragmented(l, 'a', 'b');
  const started = performance.now();
  const { summary } = await run(l.mountPoint, { maxRate: 4 * MiB });
  expect(summary).toMatchObject({ defragmented: 2, bytesMoved: 8 * MiB });
  // A quarter of a second's worth may come at once.
  expect(performance.now() - started).toBeGreaterThan(1700);
});

test('chunks become small when calls take longer than they may', async () => {
  const l = await useLab();
  await writeFile(l.path('a'), randomBytes(32 * MiB));
  const chunks = async (options: DefragmentOptions) => {
    await l.fragment('a', 4);
    await l.remount();
    const { events, summary } = await run(l.path('a'), options);
    expect(summary).toMatchObject({ defragmented: 1, fragmentsAfter: 1 });
    return events.filter(({ type }) => type === 'progress').length;
  };
  // 1, 2, 4, 8, 16 MiB and the rest; and not even 64 KiB in a hundredth of a millisecond.
  expect(await chunks({ maxLatency: 10_000 })).toBeLessThan(10);
  expect(await chunks({ maxLatency: 0.01 })).toBeGreaterThan(200);
});

test('the run goes on where an earlier one stopped, and says so', async () => {
  const l = await useLab();
  await fragmented(l, 'a', 'b', 'c');
  const state = `${l.image}.state`;
  const first = await run(l.mountPoint, { state, maxBytes: 6 * MiB });
  expect(first.summary).toMatchObject({ continued: false, budget: { reached: 'bytes' } });
  const moved = first.events.find((event) => event.type === 'defragmented' && event.incomplete === undefined);
  // Meanwhile it is in pieces again: what was dealt with has to wait for its next turn all the same.
  await l.fragment((moved as { path: string }).path.slice(l.mountPoint.length + 1), 4);
  const second = await run(l.mountPoint, { state });
  expect(second.summary).toMatchObject({ continued: true, defragmented: 2, skipped: { 'done-earlier': 1 } });
  const third = await run(l.mountPoint, { state });
  expect(third.summary).toMatchObject({ continued: false, defragmented: 1 });
  // What belongs to another filesystem, or is none, is nothing.
  await l.fragment('b', 4);
  await writeFile(state, '{"format":1,');
  const fourth = await run(l.mountPoint, { state });
  expect(fourth.summary).toMatchObject({ continued: false, defragmented: 1 });
  expect(fourth.events.some((event) => event.type === 'notice' && event.about === 'state')).toBe(true);
  expect((await stat(state)).mode & 0o777).toBe(0o600);
});

test.each([{ whole: true }, { whole: false }])(
  'a file that fragments again each time is left alone in the end (whole filesystem: $whole)',
  async ({ whole }) => {
    const l = await useLab();
    await fragmented(l, 'log');
    const target = whole ? l.mountPoint : l.path('log');
    const state = `${l.image}.state`;
    for (let round = 0; round < 3; round++) {
      expect((await run(target, { state })).summary).toMatchObject({ defragmented: 1 });
      await l.fragment('log', 4);
    }
    const { events, summary } = await run(target, { state });
    expect(summary).toMatchObject({ defragmented: 0, skipped: { 'fragments-again': 1 } });
    expect(events.find(({ type }) => type === 'skip')).toMatchObject({
      reason: 'fragments-again',
      path: l.path('log'),
    });
    const ignoring = await run(target, { state, ignoreHistory: true });
    expect(ignoring.summary).toMatchObject({ defragmented: 1 });
  },
);

test('a state that cannot be written is told of, and the run goes on', async () => {
  const l = await useLab();
  await fragmented(l, 'a');
  const { events, summary } = await run(l.mountPoint, { state: `${l.image}/below/a/file` });
  expect(summary).toMatchObject({ defragmented: 1, failed: 0 });
  expect(events.some((event) => event.type === 'notice' && event.message.includes('ENOTDIR'))).toBe(true);
});

const cached = async (l: Lab, name: string) => residentPages(await l.open(name), bytes(0), bytes(4 * MiB));

/** Has a part of a file cached. @returns which pages */
async function cachePart(l: Lab, name: string): Promise<Uint8Array> {
  const fd = await l.open(name);
  // No more than is asked for.
  await fadvise(fd, bytes(0), bytes(0), FADV.RANDOM);
  readSync(fd, Buffer.alloc(MiB), 0, MiB, MiB);
  const pages = await cached(l, name);
  expect(pages.includes(0) && pages.includes(1)).toBe(true);
  return pages;
}

test.each([['a'], ['a', 'b']])(
  'what was cached stays cached, and what was not is not: %s',
  async (...names) => {
    const l = await useLab();
    await fragmented(l, ...names);
    const before = await cachePart(l, 'a');
    // A single one is read before it is known where it lies now.
    const { summary } = await run(names.length === 1 ? l.path('a') : l.mountPoint);
    expect(summary).toMatchObject({ defragmented: names.length });
    expect(await cached(l, 'a')).toEqual(before);
    for (const other of names.slice(1)) expect((await cached(l, other)).includes(1)).toBe(false);
  },
);

test('reading that begins by what the scan found goes on when that holds, and leaves nothing when not', async () => {
  const l = await useLab();
  await fragmented(l, 'a');
  const before = await cachePart(l, 'a');
  const fd = await l.open('a', O.RDWR);
  const extents = mergeExtents(await fiemap(fd, l.blockSize));
  const options = { fragmentBlocks: Infinity, longestRun: blocks(32_768) };
  const plan = planFile(extents, blocks((4 * MiB) / l.blockSize), options);
  if (typeof plan === 'string') expect.unreachable(plan);
  const file = { fd, plan, path: Buffer.from('a'), segments: [], moved: 0, toDrop: [] };
  const more = { error: undefined, writeFailed: false, stopped: undefined };
  const early = new EarlyReading({ blockSize: l.blockSize, pageSize: bytes(4096), dropFolios: false });

  const all = [...stretchesOf(plan, l.blockSize)];
  void early.begin(fd, all);
  const less = withRanges(plan, [rangeOf(fragmentLengths(plan.extents, plan.starts), 0, 100)]);
  expect(await early.of([{ ...file, ...more, plan: less }])).toBeUndefined();
  expect(await cached(l, 'a')).toEqual(before);

  void early.begin(fd, all);
  const reading = await early.of([{ ...file, ...more }]);
  const { uncached } = await reading!.ready(fd, bytes(0), bytes(4 * MiB));
  await reading!.close();
  expect(uncached.reduce((sum, { length }) => sum + length, 0)).toBe(
    before.filter((page) => page === 0).length * 4096,
  );
  expect((await cached(l, 'a')).includes(0)).toBe(false);
});

test('every thread of the process steps back, and forward again', async () => {
  const l = await useLab();
  await fragmented(l, 'a');
  const threads = async () => {
    const ids = (await readdir('/proc/self/task')).map(Number);
    return Promise.all(
      ids.map(async (id) => ({ nice: getPriority(id), class: (await getIoPriority(id)).class })),
    );
  };
  const before = await threads();
  const events = defragment([l.path('a')], { priority: 'idle' });
  await begin(events);
  expect(new Set((await threads()).map((thread) => thread.class))).toEqual(new Set([IO_CLASS.IDLE]));
  expect((await threads()).every(({ nice }) => nice >= 10)).toBe(true);
  await collect(events);
  expect(await threads()).toEqual(before);
});

test('reading is measured before and after', async () => {
  const l = await useLab();
  await fragmented(l, 'a', 'b');
  const before = await identify(l.path('a'));
  await l.remount();
  // This one is in use.
  const fd = await l.open('b');
  readSync(fd, Buffer.alloc(MiB), 0, MiB, 0);
  const { events, summary } = await run(l.mountPoint, { measure: true });
  expect(summary.measured).toMatchObject({ files: 1, bytes: 4 * MiB });
  expect(summary.measured!.secondsBefore).toBeGreaterThan(0);
  expect(summary.measured!.secondsAfter).toBeGreaterThan(0);
  const measured = events.filter(
    (event) => event.type === 'defragmented' && 'measuredSecondsBefore' in event,
  );
  expect(measured).toHaveLength(1);
  const pages = await residentPages(await l.open('a'), bytes(0), bytes(4 * MiB));
  expect(pages.includes(1)).toBe(false);
  expect(await identify(l.path('a'))).toEqual(before);
});

test.each([{ whole: true }, { whole: false }])(
  'small files of a directory come to lie side by side, in its order (whole filesystem: $whole)',
  async ({ whole }) => {
    const l = await useLab();
    const directories = ['d', 'e', 'f'];
    for (const directory of directories) await mkdir(l.path(directory));
    // In turns, so that neither the order of their making nor that of their inodes is a directory's.
    for (let i = 0; i < 90; i++) {
      const name = `${directories[i % 3]}/${(i * 37) % 90}`;
      await writeFile(l.path(name), randomBytes(64 * 1024));
      await l.fragment(name, 2);
    }
    await l.remount();
    expect((await run(whole ? l.mountPoint : l.path('.'))).summary).toMatchObject({ defragmented: 90 });
    const ends: number[] = [];
    for (const directory of directories) {
      // As they come: Node's readdir() sorts.
      const names = (await execa('ls', ['-U', l.path(directory)])).stdout.split('\n');
      let adjacent = 0;
      let end = -1;
      for (const name of names) {
        const [extent] = await fiemap(await l.open(`${directory}/${name}`, O.RDONLY), l.blockSize);
        if (extent.physical === end) adjacent++;
        end = extent.physical + extent.length;
      }
      ends.push(end);
      expect(adjacent).toBeGreaterThanOrEqual(names.length - 3);
    }
    expect(new Set(ends).size).toBe(3);
  },
);

test('a run gives way to others that wait for the device, and goes on when they have done', async (context) => {
  if (findPressureFile(readNow) === undefined) {
    return context.skip('this kernel does not tell pressure (CONFIG_PSI, psi=1)');
  }
  const l = await useLab();
  await fragmented(l, 'a', 'b');
  await writeFile(l.path('other'), randomBytes(64 * MiB));
  const fd = openSync(l.path('other'), 'r+');
  fsyncSync(fd);
  writeSync(fd, randomBytes(4096), 0, 4096, 0);
  fsyncSync(fd);
  closeSync(fd);
  // Reads past the cache and waits for each: nearly all of its time it waits for the device.
  const reader = execa(
    'sh',
    ['-c', `while :; do dd if=${l.path('other')} of=/dev/null bs=4k iflag=direct status=none; done`],
    { reject: false, forceKillAfterDelay: false },
  );
  onTestFinished(async () => {
    reader.kill('SIGKILL');
    await reader;
  });
  const pressure = async () =>
    Number(/some avg10=([\d.]+)/.exec(await readFile('/proc/pressure/io', 'utf8'))?.[1]);
  const until = performance.now() + 60_000;
  while ((await pressure()) < 15 && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const events = defragment([l.mountPoint], { pressure: 10 });
  const seen: DefragEvent[] = [];
  for (let step = await events.next(); !step.done; step = await events.next()) {
    seen.push(step.value);
    if (step.value.type !== 'pause') continue;
    if (step.value.paused) {
      expect(step.value.percent).toBeGreaterThan(10);
      // Nothing was moved while the others were waiting.
      expect(seen.some(({ type }) => type === 'progress')).toBe(false);
      reader.kill('SIGKILL');
    }
  }
  const pauses = seen.flatMap((event) => (event.type === 'pause' ? [event.paused] : []));
  expect(pauses).toEqual([true, false]);
  expect(summaryOf(seen)).toMatchObject({ defragmented: 2, failed: 0 });
});
