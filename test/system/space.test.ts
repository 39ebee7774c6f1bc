import { fstatSync, fsyncSync, unlinkSync, writeSync } from 'node:fs';
import { chmod, link, mkdir, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { describe, expect, test } from 'vitest';
import {
  bytes,
  check,
  fiemap,
  mergeExtents,
  space,
  type CheckEvent,
  type LargestFileEvent,
  type SpaceEvent,
  type SpaceReportEvent,
} from '../../lib/index.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { errorCode } from '../../lib/kernel/errors.ts';
import { O } from '../../lib/kernel/handle.ts';
import { FreeMap } from '../../lib/place/freeMap.ts';
import { as, NOBODY } from '../support/as.ts';
import { MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const KiB = 1024;

async function all<E>(events: AsyncIterable<E>): Promise<E[]> {
  const list: E[] = [];
  for await (const event of events) list.push(event);
  return list;
}

const spaceOf = async (...targets: string[]): Promise<SpaceEvent> => {
  const event = (await all(space(targets))).find(({ type }) => type === 'space');
  if (event?.type !== 'space') throw new Error('nothing was said of free space');
  return event;
};

const largestOf = (events: readonly SpaceReportEvent[]): LargestFileEvent | undefined =>
  events.find((event) => event.type === 'largestFile');

/** Lets everybody come as far as the mount point. */
const openToAll = (l: Lab) => chmod(dirname(l.mountPoint), 0o755);

/** The same numbers each time (Numerical Recipes' LCG). */
function random(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Of a filesystem that {@link shatter} nearly fills. */
const SIZE = 192 * MiB;

/** Free space in many pieces, by files of which some were deleted; nothing is pending and nothing preallocated. */
async function shatter(l: Lab): Promise<void> {
  const below = random(7);
  await mkdir(l.path('d'));
  for (let i = 0; i < 500; i++) {
    const size = (below(10) === 0 ? 512 : 4) * KiB * (1 + below(8));
    await writeFile(l.path('d', String(i)), Buffer.alloc(size, i));
  }
  await execa('sync', ['-f', l.mountPoint]);
  for (const name of await readdir(l.path('d'))) if (below(3) === 0) await rm(l.path('d', name));
  await l.remount();
}

/** What dumpe2fs and e2freefrag read from the bitmaps of an image. */
async function byE2fsprogs(l: Lab) {
  const [dump, frag] = await Promise.all([execa('dumpe2fs', [l.image]), execa('e2freefrag', [l.image])]);
  const size = (pattern: RegExp, text: string) => Number(pattern.exec(text)?.[1]);
  // A line a group, so a run ends where its group does.
  const pieces = [...dump.stdout.matchAll(/^ {2}Free blocks: (.+)$/gm)].flatMap(([, list]) =>
    list.split(', ').map((text) => {
      const [first, last = first] = text.split('-').map(Number);
      return { first, end: last + 1 };
    }),
  );
  const runs: { first: number; end: number }[] = [];
  for (const { first, end } of pieces) {
    const last = runs.at(-1);
    if (last?.end === first) last.end = end;
    else runs.push({ first, end });
  }
  const longest = (list: typeof runs) => Math.max(...list.map(({ first, end }) => end - first));
  return {
    bytes: size(/^Free blocks: +(\d+)$/m, dump.stdout) * l.blockSize,
    runs: size(/Num\. free extent: (\d+)/, frag.stdout),
    largestRun: size(/Max\. free extent: (\d+) KB/, frag.stdout) * KiB,
    largestAllocation: longest(pieces) * l.blockSize,
    lengths: runs.map(({ first, end }) => (end - first) * l.blockSize).sort((a, b) => b - a),
    reserved: size(/^Reserved block count: +(\d+)$/m, dump.stdout) * l.blockSize,
    total: size(/^Block count: +(\d+)$/m, dump.stdout) * l.blockSize,
  };
}

describe.each([4096, 1024])('free space in blocks of %i', (blockSize) => {
  test('is what dumpe2fs and e2freefrag say, to root and to anybody', async () => {
    const l = await useLab({ size: SIZE, blockSize });
    await shatter(l);
    await openToAll(l);
    const asRoot = await spaceOf(l.path('d'));
    const asNobody = await as(NOBODY, () => spaceOf(l.path('d')));
    const asDevice = await spaceOf(await l.device());
    const checkedByRoot = (await all(check([l.mountPoint]))).find(({ type }) => type === 'freeSpace');
    const checkedByNobody = await as(NOBODY, () => all(check([l.mountPoint])));
    await l.unmount();
    const { lengths, reserved, total, ...expected } = await byE2fsprogs(l);
    expect(expected.runs).toBeGreaterThan(50);
    expect(lengths).toHaveLength(expected.runs);
    expect(asRoot).toMatchObject({ source: 'fsmap', heldBack: 0, promised: 0, ...expected });
    expect(asRoot.histogram.reduce((sum, { count }) => sum + count, 0)).toBe(expected.runs);
    // ext4 keeps some blocks for itself, beside those that root has (s_resv_clusters).
    expect(asRoot.reserve).toBeGreaterThanOrEqual(Math.max(reserved, 0.04 * total));
    expect(asRoot.reserve).toBeLessThan(reserved + 0.05 * total);
    expect(asRoot.spendable).toBe(asRoot.bytes - asRoot.reserve);
    expect(asDevice).toEqual({ ...asRoot, path: asDevice.path });
    expect(asNobody).toEqual({
      ...asRoot,
      unreadable: expect.stringMatching(/CAP_DAC_READ_SEARCH/) as string,
    });
    const { bytes: free, runs, largestRun } = expected;
    expect(checkedByRoot).toMatchObject({ source: 'bitmaps', bytes: free, runs, largestRun });
    expect(checkedByNobody.find(({ type }) => type === 'freeSpace')).toMatchObject({
      source: 'fsmap',
      ...{ bytes: free, runs, largestRun, histogram: asRoot.histogram },
    });
    expect(checkedByNobody.at(-1)).toMatchObject({ type: 'summary', failed: 0 });
  });
});

test('check says nothing of free space where only a part was asked for', async () => {
  const l = await useLab({ size: 64 * MiB });
  await mkdir(l.path('d'));
  await openToAll(l);
  const events: CheckEvent[] = await as(NOBODY, () => all(check([l.path('d')])));
  expect(events.map(({ type }) => type)).not.toContain('freeSpace');
});

describe('the largest file', () => {
  test('is the one with the most blocks, by its name, and comes in as many pieces as runs hold it', async () => {
    const l = await useLab({ size: SIZE });
    await shatter(l);
    const name = 'd/big\n\u001b[2J';
    const fd = await l.create(name);
    await fallocate(fd, 0, bytes(0), bytes(20 * MiB));
    await fallocate(await l.create('second'), 0, bytes(0), bytes(8 * MiB));
    await writeFile(l.path('hole'), '');
    await truncate(l.path('hole'), 1024 * MiB);
    await l.remount();
    const events = await all(space([l.path('d', '..', 'second')]));
    const event = largestOf(events)!;
    const { ino } = fstatSync(await l.open(name, O.RDONLY));
    const map = await fiemap(await l.open(name, O.RDONLY), l.blockSize);
    expect(map.blocks * l.blockSize).toBe(20 * MiB);
    await l.unmount();
    const { lengths } = await byE2fsprogs(l);
    let [pieces, left] = [0, 20 * MiB];
    for (; left > 0; pieces++) left -= lengths[pieces];
    expect(pieces).toBeGreaterThan(1);
    expect(event).toEqual({
      type: 'largestFile',
      path: l.path(name),
      inode: ino,
      bytes: 20 * MiB,
      fragments: event.fragments,
      idealFragments: 1,
      pieces,
      largestPiece: Math.min(20 * MiB, lengths[0]),
    });
  });

  test('does not fit where it would take of the reserve, and there may be none', async () => {
    const l = await useLab({ size: 128 * MiB });
    expect(largestOf(await all(space([l.mountPoint])))).toBeUndefined();
    await fallocate(await l.create('big'), 0, bytes(0), bytes(56 * MiB));
    await link(l.path('big'), l.path('again'));
    const events = await all(space([l.mountPoint]));
    const { spendable, bytes: free } = events.find((event): event is SpaceEvent => event.type === 'space')!;
    // It is the reserve alone that there is not enough for.
    expect(spendable).toBeLessThan(56 * MiB);
    expect(free).toBeGreaterThan(spendable);
    expect(largestOf(events)).toMatchObject({ bytes: 56 * MiB, pieces: null });
  });
});

describe('a longer run', () => {
  /** A full filesystem of which every other file is deleted. */
  async function combed(l: Lab): Promise<string[]> {
    for (let i = 0; ; i++) {
      const fd = await l.create(String(i));
      if ((await fallocate(fd, 0, bytes(0), bytes(512 * KiB)).catch(errorCode)) === 'ENOSPC') break;
    }
    for (const name of await readdir(l.mountPoint)) if (Number(name) % 2 === 1) await rm(l.path(name));
    await l.remount();
    return (await readdir(l.mountPoint))
      .filter((name) => /^\d+$/.test(name))
      .sort((a, b) => Number(a) - Number(b));
  }

  const windowsOf = async (l: Lab) => {
    const event = (await all(space([l.mountPoint]))).find(({ type }) => type === 'windows');
    return event?.type === 'windows' ? event.windows : undefined;
  };

  test('could be made of free blocks and of files that would be moved', async () => {
    const l = await useLab({ size: SIZE });
    const names = await combed(l);
    const windows = await windowsOf(l);
    expect(windows?.map(({ run }) => run)).toEqual([16 * MiB, 64 * MiB]);
    const root = await l.open('.', O.RDONLY);
    const free = [...(await FreeMap.read(root, l.blockSize)).runs()];
    const used: { start: number; length: number }[] = [];
    for (const name of names) {
      const extents = mergeExtents(await fiemap(await l.open(name, O.RDONLY), l.blockSize));
      for (const { physical, length } of extents) used.push({ start: physical, length });
    }
    for (const { run, start, evacuate } of windows!) {
      if (start === null || evacuate === null) throw new Error('none of that length');
      const end = start + run / l.blockSize;
      const within = (runs: typeof used) =>
        runs.filter((one) => one.start < end && one.start + one.length > start);
      const inside = [...within(free), ...within(used)].map(
        (one) => Math.min(end, one.start + one.length) - Math.max(start, one.start),
      );
      expect(inside.reduce((sum, length) => sum + length, 0)).toBe(end - start);
      expect(within(used).reduce((sum, { length }) => sum + length, 0) * l.blockSize).toBe(evacuate);
      // Half of everything is free.
      expect(evacuate).toBeLessThan(0.6 * run);
    }
  });

  test('cannot be made of files that may not be moved, and is not asked after where there is one', async () => {
    const l = await useLab({ size: SIZE });
    const names = await combed(l);
    await execa('chattr', ['+i', ...names.map((name) => l.path(name))]);
    const none = { start: null, evacuate: null };
    expect(await windowsOf(l)).toEqual([
      { run: 16 * MiB, ...none },
      { run: 64 * MiB, ...none },
    ]);
    await execa('chattr', ['-i', ...names.map((name) => l.path(name))]);
    for (const name of names.slice(0, 40)) await rm(l.path(name));
    expect((await windowsOf(l))?.map(({ run }) => run)).toEqual([64 * MiB]);
  });
});

describe('what is held back', () => {
  test('a preallocation, which is nobody’s and not free, as long as the file is open', async () => {
    const l = await useLab();
    await openToAll(l);
    await l.remount();
    const before = await spaceOf(l.mountPoint);
    expect(before.heldBack).toBe(0);
    // One request of 260 blocks is rounded up to 2 MiB or more (ext4_mb_normalize_request): the rest is set aside.
    const fd = await l.create('growing');
    const written = 260 * l.blockSize;
    writeSync(fd, Buffer.alloc(written, 1));
    fsyncSync(fd);
    const extent = mergeExtents(await fiemap(fd, l.blockSize));
    expect(extent).toMatchObject({ count: 1, blocks: 260 });
    // What lies behind it is no file's on this empty filesystem, and still not free.
    const end = extent.physical[0] + 260;
    const behind = [...(await FreeMap.read(fd, l.blockSize)).runs()].find(({ start }) => start >= end)!;
    const setAside = (behind.start - end) * l.blockSize;
    expect(setAside).toBeGreaterThan(0);
    const asRoot = await spaceOf(l.mountPoint);
    const asNobody = await as(NOBODY, () => spaceOf(l.mountPoint));
    expect(asRoot.heldBack).toBe(setAside);
    expect(asNobody.heldBack).toBe(setAside);
    expect(before.bytes - asRoot.bytes).toBe(written + setAside);
    await l.remount();
    expect((await spaceOf(l.mountPoint)).heldBack).toBe(0);
  });

  test('what is written and has no place yet is promised', async () => {
    const l = await useLab();
    await writeFile(l.path('delayed'), Buffer.alloc(8 * MiB, 1));
    const { promised, bytes: free, spendable, reserve } = await spaceOf(l.mountPoint);
    expect(promised).toBeGreaterThanOrEqual(8 * MiB);
    expect(promised).toBeLessThan(9 * MiB);
    expect(spendable).toBe(free - promised! - reserve);
  });

  test('what was deleted and not committed is free afterwards', async () => {
    const l = await useLab();
    await openToAll(l);
    for (const [i, user] of [0, NOBODY].entries()) {
      const name = `gone${i}`;
      const fd = await l.create(name);
      await fallocate(fd, 0, bytes(0), bytes(64 * MiB));
      await l.remount();
      const root = await l.open('.', O.RDONLY);
      const free = (await FreeMap.read(root, l.blockSize)).freeBlocks;
      unlinkSync(l.path(name));
      // The kernel does not show it as free yet.
      expect((await FreeMap.read(root, l.blockSize)).freeBlocks).toBe(free);
      const event = await as(user, () => spaceOf(l.mountPoint));
      expect(event.heldBack).toBe(0);
      expect(event.bytes).toBe(free * l.blockSize + 64 * MiB);
    }
  });
});

// The command as it is installed: compiled, in a process of its own.
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

const run = (args: readonly string[], options: Options = {}) =>
  execa(process.execPath, [CLI, 'space', ...args], { reject: false, ...options }) as Promise<{
    exitCode: number;
    stdout: string;
    stderr: string;
  }>;

describe('the command', () => {
  test('--json: a filesystem once, whatever is named of it, and the summary at the end', async () => {
    const [l, other] = [await useLab({ size: 64 * MiB }), await useLab({ size: 64 * MiB })];
    await writeFile(l.path('file'), 'x');
    await symlink(l.path('file'), l.path('link'));
    await execa('sync', ['-f', l.mountPoint]);
    const targets = [l.path('file'), l.mountPoint, l.path('link'), await l.device(), other.mountPoint];
    const { exitCode, stdout, stderr } = await run(['--json', ...targets]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    const events = stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    for (const event of events)
      expect(event).toMatchObject({ schema: 1, type: expect.any(String) as string });
    const spaces = events.filter(({ type }) => type === 'space');
    expect(spaces.map(({ path }) => path)).toEqual([l.path('file'), other.mountPoint]);
    expect(events.at(-1)).toMatchObject({
      type: 'summary',
      command: 'space',
      filesystems: 2,
      bytes: spaces.reduce((sum, { bytes: free }) => sum + Number(free), 0),
      failed: 0,
      unsupported: 0,
      interrupted: false,
      seconds: expect.any(Number) as number,
    });
  });

  test('an ordinary user is told what there is, and what cannot be known', async () => {
    const l = await useLab({ size: 64 * MiB });
    await mkdir(l.path('closed'), { mode: 0o700 });
    await openToAll(l);
    const anybody = { uid: NOBODY, gid: NOBODY };
    const { exitCode, stdout, stderr } = await run([l.mountPoint], anybody);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toMatch(/^Free space: \d+\.\d MiB in \d+ runs?/m);
    expect(stdout).toMatch(/^Held back +nothing$/m);
    expect(stdout).toMatch(/^Not known +the largest file .*since /m);
    // A directory that shows nothing of the root: what is known is the same.
    await chmod(l.mountPoint, 0o711);
    await mkdir(l.path('own'));
    expect((await run([l.path('own')], anybody)).stdout).toMatch(
      /^Not known +the largest file .*since its root directory/m,
    );
  });

  test('exit status: 1 for what is missing, 2 for wrong usage, 3 for what is no ext4', async () => {
    const l = await useLab({ size: 64 * MiB });
    expect(await run([l.path('missing'), l.mountPoint])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/missing: no such file/) as string,
      stdout: expect.stringMatching(/^Free space: /m) as string,
    });
    expect((await run(['/proc'])).exitCode).toBe(3);
    expect((await run([])).exitCode).toBe(2);
    expect((await run(['--full', l.mountPoint])).exitCode).toBe(2);
  });
});

test('a signal ends it, with what is known by then', async () => {
  const l = await useLab({ size: 64 * MiB });
  await fallocate(await l.create('file'), 0, bytes(0), bytes(MiB));
  await execa('sync', ['-f', l.mountPoint]);
  const stop = new AbortController();
  const events: SpaceReportEvent[] = [];
  for await (const event of space([l.mountPoint], { signal: stop.signal })) {
    events.push(event);
    if (event.type === 'space') stop.abort();
  }
  expect(events.map(({ type }) => type)).toEqual(['space', 'summary']);
  expect(events.at(-1)).toMatchObject({ filesystems: 1, interrupted: true });
});

test('a part of a filesystem that is mounted alone stands for the whole', async () => {
  const l = await useLab({ size: 64 * MiB });
  await mkdir(l.path('part'));
  await mkdir(l.path('part', 'in'));
  await mkdir(join(dirname(l.mountPoint), 'bind'));
  const bind = join(dirname(l.mountPoint), 'bind');
  await execa('mount', ['--bind', l.path('part'), bind]);
  try {
    await fallocate(await l.create('big'), 0, bytes(0), bytes(MiB));
    const events = await all(space([join(bind, 'in'), l.mountPoint]));
    expect(events.filter(({ type }) => type === 'space')).toHaveLength(1);
    expect(largestOf(events)).toMatchObject({ path: l.path('big'), bytes: MiB });
  } finally {
    await execa('umount', [bind]);
  }
});
