import { randomBytes } from 'node:crypto';
import { chmod, link, mkdir, mkdtemp, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { closeFd, O, setInodeFlags, INODE_FLAG, inodeFlags } from '../../lib/kernel/handle.ts';
import { inspectHandles } from '../../lib/kernel/inspect.ts';
import {
  bytes,
  check,
  defragment,
  plan,
  type CheckEvent,
  type CheckSummary,
  type DefragEvent,
  type FileEvent,
  type PlanEvent,
} from '../../lib/index.ts';
import type { CheckOptions } from '../../lib/scan/check.ts';
import { currentLayout, openForMove, Scanner } from '../../lib/scan/scan.ts';
import { openTarget } from '../../lib/scan/targets.ts';
import { filefrag, identify, MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

async function all<E>(events: AsyncIterable<E>): Promise<E[]> {
  const list: E[] = [];
  for await (const event of events) list.push(event);
  return list;
}

async function fragmented(l: Lab, name: string, blocks: number, run: number): Promise<void> {
  await writeFile(l.path(name), randomBytes(blocks * l.blockSize));
  await l.fragment(name, run);
}

/** Files of every kind that the scan tells apart. */
async function population(l: Lab): Promise<void> {
  await mkdir(l.path('a', 'deep', 'er'), { recursive: true });
  await mkdir(l.path('logs'));
  await fragmented(l, 'plain', 64, 2);
  await fragmented(l, 'a/three', 3, 1);
  await fragmented(l, 'a/deep/er/very', scaled(4096), 1);
  await fragmented(l, 'logs/a.log', 32, 4);
  await fragmented(l, 'new\nline\x01', 32, 8);
  await fragmented(l, 'linked', 16, 2);
  await link(l.path('linked'), l.path('a', 'second name'));
  await writeFile(l.path('whole'), randomBytes(MiB));
  for (let i = 0; i < 200; i++)
    await writeFile(l.path('a', `small${i}`), randomBytes(1 + ((i * 977) % 20000)));
  await writeFile(l.path('empty'), '');
  await writeFile(l.path('hole'), '');
  await truncate(l.path('hole'), MiB);
  const sparse = await l.create('sparse');
  for (const at of [0, 3, 9, 10]) await fallocate(sparse, 0, bytes(at * 65536), bytes(4096));
  await fragmented(l, 'fixed', 16, 1);
  await symlink('plain', l.path('link'));
  await execa('mkfifo', [l.path('fifo')]);
  await execa('sync', ['-f', l.mountPoint]);
  const fixed = await l.open('fixed', O.RDONLY);
  await setInodeFlags(fixed, (await inodeFlags(fixed)) | INODE_FLAG.IMMUTABLE);
}

const files = (events: readonly CheckEvent[]) =>
  events
    .filter((event): event is FileEvent => event.type === 'file' && event.fragments > event.idealFragments)
    .sort((a, b) => (a.path < b.path ? -1 : 1));

/** What both ways to scan must agree on. */
const totals = (events: readonly CheckEvent[]) => {
  const summary = events.at(-1) as CheckSummary;
  const { files, fragmentedFiles, fragments, idealFragments, bytes: size, score, fragmentSizes } = summary;
  const [now, ideal] = [summary.readSeconds.toFixed(6), summary.idealReadSeconds.toFixed(6)];
  return { files, fragmentedFiles, fragments, idealFragments, size, score, fragmentSizes, now, ideal };
};

async function bothWays(l: Lab, options: CheckOptions = {}) {
  const tables = await all(check([l.mountPoint], options));
  const walk = await all(check([l.mountPoint], { ...options, everyFile: true }));
  expect(tables[0]).toMatchObject({ type: 'target', method: 'inode-table' });
  expect(walk[0]).toMatchObject({ type: 'target', method: 'walk' });
  return { tables, walk };
}

describe.each([
  { what: 'blocks of 4096', blockSize: 4096, mkfs: [] },
  { what: 'blocks of 1024', blockSize: 1024, mkfs: [] },
  { what: 'inline data', blockSize: 4096, mkfs: ['-O', 'inline_data', '-I', '256'] },
  { what: 'block maps', blockSize: 4096, mkfs: ['-O', '^extent,^64bit,^flex_bg'] },
])('a filesystem with $what', ({ blockSize, mkfs }) => {
  test('the tables and FIEMAP of every file agree on the fragmented files and on every sum', async () => {
    const l = await useLab({ blockSize, mkfs });
    if (mkfs.includes('^extent,^64bit,^flex_bg')) {
      await writeFile(l.path('plain'), randomBytes(MiB));
      await execa('sync', ['-f', l.mountPoint]);
    } else await population(l);
    const { tables, walk } = await bothWays(l);
    expect(files(tables)).toEqual(files(walk));
    expect(totals(tables)).toEqual(totals(walk));
    for (const { path, fragments } of files(tables)) expect(await filefrag(path)).toBe(fragments);
    if (l.blockSize === 4096 && mkfs.length === 0) expect(files(tables)).toHaveLength(8);
    await execa('chattr', ['-i', l.path('fixed')], { reject: false });
  });
});

test('names, sizes and other targets decide as in a walk', async () => {
  const l = await useLab();
  await population(l);
  for (const options of [
    { exclude: ['*.log'] },
    { exclude: ['a/deep', 'plain'] },
    { exclude: ['a'] },
    // One of two names.
    { exclude: ['linked'] },
    { exclude: ['second name'] },
    { minSize: bytes(20000) },
    { maxSize: bytes(20000) },
  ]) {
    const { tables, walk } = await bothWays(l, options);
    expect(files(tables), JSON.stringify(options)).toEqual(files(walk));
    expect(totals(tables), JSON.stringify(options)).toEqual(totals(walk));
  }
  const once = await all(check([l.mountPoint]));
  for (const targets of [
    [l.mountPoint, l.path('plain'), l.path('a')],
    [l.path('plain'), l.path('a'), l.mountPoint],
  ]) {
    const { fragments, files: count } = (await all(check(targets))).at(-1) as CheckSummary;
    expect({ fragments, count }).toEqual({
      fragments: (once.at(-1) as CheckSummary).fragments,
      count: (once.at(-1) as CheckSummary).files,
    });
  }
  const twice = (await all(check([l.mountPoint, l.mountPoint]))).at(-1) as CheckSummary;
  const { 'hard-link': again, ...skipped } = twice.skipped;
  expect(again).toBe(twice.files);
  expect(skipped).toEqual((once.at(-1) as CheckSummary).skipped);
  await execa('chattr', ['-i', l.path('fixed')]);
});

test('what lies in lost+found is left to e2fsck', async () => {
  const l = await useLab();
  await fragmented(l, 'plain', 16, 1);
  await fragmented(l, 'lost+found/#12', 16, 1);
  await execa('sync', ['-f', l.mountPoint]);
  const { tables, walk } = await bothWays(l);
  expect(files(tables).map(({ path }) => path)).toEqual([l.path('plain')]);
  expect(totals(tables)).toEqual(totals(walk));
});

test('free space is what e2freefrag counts', async () => {
  const l = await useLab();
  await population(l);
  await execa('sync', ['-f', l.mountPoint]);
  const events = await all(check([await l.device()]));
  const free = events.find((event) => event.type === 'freeSpace');
  await execa('chattr', ['-i', l.path('fixed')]);
  await l.unmount();
  const { stdout } = await execa('e2freefrag', [l.image]);
  const number = (pattern: RegExp) => Number(pattern.exec(stdout)?.[1]);
  expect(free?.bytes).toBe(number(/Free blocks: (\d+)/) * l.blockSize);
  expect(free?.runs).toBe(number(/Num\. free extent: (\d+)/));
  expect(free?.largestRun).toBe(number(/Max\. free extent: (\d+) KB/) * 1024);
  expect(free?.histogram.reduce((sum, { count }) => sum + count, 0)).toBe(free?.runs);
  expect(free?.histogram.reduce((sum, { bytes: size }) => sum + size, 0)).toBe(free?.bytes);
});

test('who may not open files by number walks, and is told so', async () => {
  const l = await useLab();
  await fragmented(l, 'plain', 16, 1);
  await chmod(l.mountPoint, 0o755);
  await execa('sync', ['-f', l.mountPoint]);
  const { stdout } = await execa('setpriv', [
    '--bounding-set=-dac_read_search',
    '--inh-caps=-dac_read_search',
    process.execPath,
    new URL('../../dist/cli/main.js', import.meta.url).pathname,
    'check',
    '--json',
    l.mountPoint,
  ]);
  const [target, ...rest] = stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(target).toMatchObject({
    method: 'walk',
    walkReason: expect.stringMatching(/CAP_DAC_READ_SEARCH/) as string,
  });
  expect(rest.at(-1)).toMatchObject({ files: 1, fragmentedFiles: 1 });
});

test('a number of generation 0 stands for no other file that has it now', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-files-'));
  await writeFile(join(folder, 'old'), randomBytes(64 * 1024));
  const l = await useLab({ mkfs: ['-d', folder] }).finally(() => rm(folder, { recursive: true }));
  await writeFile(l.path('new'), randomBytes(64 * 1024));
  await execa('sync', ['-f', l.mountPoint]);
  const target = await openTarget(Buffer.from(l.mountPoint));
  try {
    const [old, young] = await Promise.all(
      ['old', 'new'].map(async (name) => (await stat(l.path(name))).ino),
    );
    const zero = new Uint32Array([0, 0]);
    const found = await inspectHandles(target.dirFd, new Uint32Array([old, young]), zero, l.blockSize);
    expect(found).toMatchObject([
      { kind: 'inode', inode: old },
      { kind: 'error', error: { code: 'ESTALE' } },
    ]);
    const scanner = new Scanner({}, false);
    const file = await scanner.byHandle(target, old, 0, found[0]);
    if (file.kind !== 'file') throw new Error(`no file but ${file.kind}`);
    const fd = await openForMove(file);
    if (fd === undefined) throw new Error('it is gone');
    expect(await currentLayout(fd, file)).toMatchObject({ size: 64 * 1024 });
    await closeFd(fd);
    expect(await openForMove({ ...file, inode: young })).toBeUndefined();
  } finally {
    await closeFd(target.dirFd);
  }
});

test('encrypted files are left alone, and named', async () => {
  const l = await useLab({ mkfs: ['-O', 'encrypt'], mount: 'test_dummy_encryption' });
  // A hole makes two fragments: the kernel does not exchange encrypted blocks.
  const fd = await l.create('secret');
  for (const at of [0, 5, 17]) await fallocate(fd, 0, bytes(at * 65536), bytes(4096));
  await execa('sync', ['-f', l.mountPoint]);
  for (const everyFile of [false, true]) {
    const events = await all(plan([l.mountPoint], { full: true, everyFile }));
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'skip', path: l.path('secret'), reason: 'encrypted' }),
    );
    expect(events.at(-1)).toMatchObject({ filesToMove: 0, failed: 0 });
  }
});

describe('defragmenting a whole filesystem', () => {
  test('goes by what is gained for each byte, leaves nothing else touched, and names every file', async () => {
    const l = await useLab();
    await population(l);
    const paths = files(await all(check([l.mountPoint]))).map(({ path }) => path);
    const before = new Map(
      await Promise.all(paths.map(async (path) => [path, await identify(path)] as const)),
    );
    const planned = (await all(plan([l.mountPoint]))).filter(
      (event): event is PlanEvent => event.type === 'plan',
    );
    // Small files of a directory go together.
    const groups = new Map<string, { saved: number; bytes: number }>();
    for (const { path, fragmentsBefore, fragmentsAfter, bytesToMove } of planned) {
      const key = bytesToMove > MiB ? path : dirname(path);
      const { saved, bytes } = groups.get(key) ?? { saved: 0, bytes: 0 };
      groups.delete(key);
      groups.set(key, {
        saved: saved + fragmentsBefore - fragmentsAfter,
        bytes: bytes + bytesToMove,
      });
    }
    expect(groups.size).toBeGreaterThan(2);
    const order = [...groups.values()].map(({ saved, bytes }) => saved / bytes);
    expect(order).toEqual([...order].sort((first, second) => second - first));
    const events = await all(defragment([l.mountPoint]));
    const done = events.filter((event) => event.type === 'defragmented');
    expect(new Set(done.map(({ path }) => path))).toEqual(new Set(planned.map(({ path }) => path)));
    expect(done.some(({ path }) => path === l.path('a', 'deep', 'er', 'very'))).toBe(true);
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'skip', path: l.path('fixed'), reason: 'immutable' }),
    );
    expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: planned.length, failed: 0 });
    for (const [path, identity] of before) expect(await identify(path)).toEqual(identity);
    for (const { path, fragmentsAfter } of done) expect(await filefrag(path)).toBe(fragmentsAfter);
    await execa('chattr', ['-i', l.path('fixed')]);
  });

  test('moves the worst before the scan has ended', async () => {
    // Many inodes, so that the tables take several reads.
    const l = await useLab({ size: 1024 * MiB, mkfs: ['-N', '100000'] });
    await fragmented(l, 'early', 512, 1);
    await mkdir(l.path('many'));
    for (let i = 0; i < scaled(30_000); i++) await writeFile(l.path('many', `file${i}`), 'x');
    await execa('sync', ['-f', l.mountPoint]);
    const types: DefragEvent['type'][] = [];
    let inodes = 0;
    let moved = false;
    for await (const event of defragment([l.mountPoint])) {
      types.push(event.type);
      if (event.type === 'progress') moved ||= event.bytesMoved > 0;
      if (event.type === 'scanning') {
        if (moved) break;
        inodes = Math.max(inodes, event.inodes);
      }
    }
    expect(moved, types.join(' ')).toBe(true);
    expect(await filefrag(l.path('early'))).toBe(1);
  });

  test('stops when it is told to, and says how many files were left', async () => {
    const l = await useLab();
    await mkdir(l.path('d'));
    for (let i = 0; i < 300; i++) await fragmented(l, `d/${i}`, 8, 1);
    await execa('sync', ['-f', l.mountPoint]);
    const stop = new AbortController();
    const events: DefragEvent[] = [];
    for await (const event of defragment([l.mountPoint], { signal: stop.signal })) {
      events.push(event);
      if (event.type === 'progress') stop.abort();
    }
    const summary = events.at(-1);
    expect(summary).toMatchObject({ type: 'summary', interrupted: true });
    if (summary?.type !== 'summary') throw new Error('no summary');
    expect(summary.defragmented).toBeLessThan(300);
    expect(summary.skipped.interrupted ?? 0).toBeGreaterThan(0);
    const named = events.filter((event) => event.type === 'defragmented');
    expect(named).toHaveLength(summary.defragmented);
    // Every file that was found became something, and every fragment is counted.
    const left = Object.values(summary.skipped).reduce((total, count) => total + count, 0);
    expect(summary.defragmented + left).toBe(summary.files);
    expect(summary.fragmentsBefore).toBe(8 * summary.files);
  });
});
