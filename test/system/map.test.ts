import { createHash, randomBytes } from 'node:crypto';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { check } from '../../lib/scan/check.ts';
import { map } from '../../lib/scan/map.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { bytes } from '../../lib/layout/units.ts';
import { CellGrid, KINDS } from '../../lib/report/picture/cells.ts';
import { decodeCells, decodeRanges } from '../../lib/report/picture/codec.ts';
import { parsePicture } from '../../lib/report/picture/parse.ts';
import type { PageData, Picture } from '../../lib/report/picture/picture.ts';
import { age } from '../support/age.ts';
import { as, NOBODY } from '../support/as.ts';
import { filefrag, MiB, scaled, type Lab } from '../support/lab.ts';
import { extentsOf } from '../support/layout.ts';
import { useLab } from '../support/use.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-map-'))));
afterAll(() => rm(folder, { recursive: true }));

const run = (args: readonly string[], options: Options = {}) =>
  execa(process.execPath, [CLI, ...args], { reject: false, ...options }) as Promise<{
    exitCode: number;
    stdout: string;
    stderr: string;
  }>;

async function all<E>(events: AsyncIterable<E>): Promise<E[]> {
  const list: E[] = [];
  for await (const event of events) list.push(event);
  return list;
}

async function readPicture(path: string): Promise<Picture> {
  const picture = parsePicture(await readFile(path, 'utf8'));
  if (typeof picture === 'string') throw new Error(picture);
  return picture;
}

async function dataOf(page: string): Promise<PageData> {
  const html = await readFile(page, 'utf8');
  return JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(html)![1]) as PageData;
}

/** What every block is used for, by FIEMAP and dumpe2fs: the first letter of each kind. */
async function kindsOf(l: Lab, names: readonly string[]): Promise<string[]> {
  const layouts = [];
  for (const name of names) layouts.push(await extentsOf(l, name));
  await l.unmount();
  const { stdout } = await execa('dumpe2fs', [l.image]);
  await l.mount();
  const kinds = Array<string>(Number(/^Block count: +(\d+)$/m.exec(stdout)![1])).fill('o');
  const fill = (kind: string, first: number, end: number) => kinds.fill(kind, first, end);
  if (l.blockSize === 1024) fill('m', 0, 1);
  for (const extents of layouts) {
    const kind = countFragments(extents) > 1 ? 'f' : 'c';
    for (const { physical, length } of extents) fill(kind, physical, physical + length);
  }
  for (const [, list] of stdout.matchAll(/^ {2}Free blocks: (.+)$/gm)) {
    for (const range of list.split(', ')) {
      const [first, last = first] = range.split('-').map(Number);
      fill('.', first, last + 1);
    }
  }
  const metadata = /(?:superblock|descriptors|GDT blocks|bitmap|Inode table) at (\d+)(?:-(\d+))?/g;
  for (const [, first, last = first] of stdout.matchAll(metadata)) fill('m', Number(first), Number(last) + 1);
  return kinds;
}

describe.each([4096, 1024])('in blocks of %i', (blockSize) => {
  test('every block is what FIEMAP and dumpe2fs say, and the worst files lie where FIEMAP says', async () => {
    const l = await useLab({ size: scaled(64) * MiB + 16 * MiB, blockSize });
    const names = await age(l, { fill: 0.8, largest: bytes(4 * MiB) });
    const kinds = await kindsOf(l, names);
    const output = join(folder, 'scan.json');
    const events = await all(map([l.mountPoint], { output }));
    expect(events.at(-1)).toMatchObject({ type: 'summary', maps: 1, failed: 0 });
    const picture = await readPicture(output);
    expect(picture).toMatchObject({ blocks: kinds.length, blockSize, kind: 'filesystem', unknown: null });
    const grid = new CellGrid(picture.blocks);
    const counts = decodeCells(grid, picture.cells);
    const wrong: unknown[] = [];
    for (let cell = 0; cell < grid.count; cell++) {
      const real = kinds.slice(grid.start(cell), grid.start(cell + 1));
      const count = (kind: string) => real.filter((one) => one === kind).length;
      const want = {
        free: count('.'),
        contiguous: count('c'),
        fragmented: count('f'),
        metadata: count('m'),
        other: count('o'),
      };
      const got = Object.fromEntries(KINDS.map((kind) => [kind, counts[kind][cell]]));
      if (KINDS.some((kind) => got[kind] !== want[kind])) wrong.push({ cell, want, got });
    }
    expect(wrong.slice(0, 3)).toEqual([]);

    const checked = await all(check([l.mountPoint]));
    const summary = checked.at(-1);
    if (summary?.type !== 'summary' || summary.command !== 'check') throw new Error('no summary');
    expect(picture.files).toEqual({
      count: summary.files,
      fragmented: summary.fragmentedFiles,
      fragments: summary.fragments,
      idealFragments: summary.idealFragments,
      sizes: summary.fragmentSizes,
    });
    expect(picture.files!.fragmented).toBeGreaterThan(20);
    const excess = checked
      .filter((event) => event.type === 'file')
      .map((file) => file.fragments - file.idealFragments)
      .sort((a, b) => b - a);
    expect(picture.named.map((file) => file.fragments - file.idealFragments)).toEqual(excess.slice(0, 100));
    for (const { name, fragments, extents } of picture.named.slice(0, 10)) {
      const layout = await extentsOf(l, name);
      expect(countFragments(layout)).toBe(fragments);
      const real = [...layout].map(({ physical, length }) => ({ start: physical, end: physical + length }));
      expect(joined(decodeRanges(extents, picture.blocks))).toEqual(joined(real));
    }
    const told = events.filter((event) => event.type === 'mappedFile');
    expect(told).toHaveLength(10);
    expect(told.map(({ path }) => path)).toEqual(picture.named.slice(0, 10).map(({ name }) => l.path(name)));
  });
});

/** Ranges that lie end to end as one. */
function joined(ranges: readonly { start: number; end: number }[]): { start: number; end: number }[] {
  const result: { start: number; end: number }[] = [];
  for (const { start, end } of ranges) {
    const last = result.at(-1);
    if (last?.end === start) last.end = end;
    else result.push({ start, end });
  }
  return result;
}

/** A file in single blocks, with a name that nobody would choose. */
async function hostile(l: Lab): Promise<Buffer> {
  await mkdir(l.path('evil<'));
  await writeFile(l.path('plain'), randomBytes(MiB));
  await l.fragment('plain', 1);
  const path = Buffer.concat([
    Buffer.from(l.path('evil<', 'script><b>\u001b[2J\u202e')),
    Buffer.from([0xff]),
  ]);
  await rename(l.path('plain'), path);
  return path;
}
const sha256 = async (path: Buffer) =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
const SHOWN = 'evil</script><b>\\x1b[2J\\u{202e}\\xff';

test('a file: its extents, on a page too; what has no layout has a reason', async () => {
  const l = await useLab({ size: 64 * MiB });
  await writeFile(l.path('file'), randomBytes(MiB));
  await l.fragment('file', 16);
  await writeFile(l.path('empty'), '');
  const page = join(folder, 'file.html');
  const { exitCode, stdout } = await run(['map', '--html', page, l.path('file')]);
  expect(exitCode).toBe(0);
  expect(stdout).toContain(`${l.path('file')}: 1.0 MiB in 16 fragments (ideal 1)`);
  expect(stdout).toContain('and 6 more');
  const { now, before } = await dataOf(page);
  expect(now).toMatchObject({ kind: 'file', totals: { fragmented: 256, contiguous: 0 } });
  expect(before).toBeNull();
  expect((await run(['map', l.path('empty')])).stdout).toBe(`${l.path('empty')}: left alone: it is empty`);
  const json = await run(['map', '--json', l.path('file'), l.path('empty')]);
  const lines = json.stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  for (const line of lines) expect(line).toMatchObject({ schema: 1, type: expect.any(String) as string });
  expect(lines.map(({ type }) => type)).toEqual(['map', 'mappedFile', 'skip', 'summary']);
  expect(lines[1]).toMatchObject({ fragments: 16, path: l.path('file') });
  expect(lines[3]).toMatchObject({ maps: 1, failed: 0, skipped: { empty: 1 } });
});

test('anybody is shown what is free and what is metadata, and told what is missing and why', async () => {
  const l = await useLab({ size: 64 * MiB });
  await writeFile(l.path('file'), randomBytes(4 * MiB));
  await execa('sync', ['-f', l.mountPoint]);
  await chmod(dirname(l.mountPoint), 0o755);
  const root = (await all(map([l.mountPoint]))).find((event) => event.type === 'map')!;
  const events = await as(NOBODY, () => all(map([l.mountPoint])));
  const mine = events.find((event) => event.type === 'map')!;
  expect(events.at(-1)).toMatchObject({ maps: 1, failed: 0, unsupported: 0 });
  expect(mine.unknown).toMatch(/CAP_DAC_READ_SEARCH/);
  expect(mine).toMatchObject({
    blocks: root.blocks,
    files: null,
    cells: { free: root.cells.free, metadata: root.cells.metadata },
  });
  expect(root.totals.contiguous).toBe(1024);
  expect(mine.totals).toEqual({ ...root.totals, contiguous: 0, other: root.totals.other + 1024 });
});

test('defrag --report: the page shows before and after, and a hostile name harms neither', async () => {
  const l = await useLab({ size: 96 * MiB });
  const path = await hostile(l);
  const sha = await sha256(path);
  const page = join(folder, 'report.html');
  const { exitCode, stdout, stderr } = await run(['--report', page, '--no-state', l.mountPoint]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).toContain(`Page written to ${page}`);
  expect(await sha256(path)).toBe(sha);
  const html = await readFile(page, 'utf8');
  // Nothing in a name ends the element that the data is in.
  expect(html.match(/<\/script>/g)).toHaveLength(2);
  // eslint-disable-next-line no-control-regex
  expect(html).not.toMatch(/[\u0000-\u0008\u001b\u202e]/);
  const data = await dataOf(page);
  expect(data.before).toMatchObject({ named: [{ name: SHOWN, fragments: 256 }], files: { fragmented: 1 } });
  expect(data.now).toMatchObject({ named: [{ name: SHOWN, fragments: 1 }], files: { fragmented: 0 } });
  expect((await lstat(page)).mode & 0o777).toBe(0o600);
});

test('a scan is compared with what is there now, and refused when it is of something else', async () => {
  const l = await useLab({ size: 64 * MiB });
  const other = await useLab({ size: 32 * MiB });
  await writeFile(l.path('file'), randomBytes(MiB));
  await l.fragment('file', 4);
  const [scan, page] = [join(folder, 'before.json'), join(folder, 'compare.html')];
  expect(await run(['map', '-o', scan, l.mountPoint])).toMatchObject({ exitCode: 0 });
  await run(['--no-state', l.path('file')]);
  expect(await run(['map', '--html', page, '--compare', scan, l.mountPoint])).toMatchObject({ exitCode: 0 });
  const data = await dataOf(page);
  expect(data.before!.named[0]).toMatchObject({ name: 'file', fragments: 64 });
  expect(data.now.named[0]).toMatchObject({ name: 'file', fragments: 1 });

  const refused = join(folder, 'refused.html');
  const wrong = await run(['map', '--html', refused, '--compare', scan, other.mountPoint]);
  expect(wrong).toMatchObject({ exitCode: 1 });
  expect(wrong.stderr).toMatch(/before\.json: .*another filesystem/);
  const damaged = join(folder, 'damaged.json');
  await writeFile(damaged, (await readFile(scan, 'utf8')).replace(/"cells":"./, '"cells":"_'));
  const bad = await run(['map', '--html', refused, '--compare', damaged, l.mountPoint]);
  expect(bad).toMatchObject({ exitCode: 1 });
  expect(bad.stderr).toMatch(/damaged\.json: .*damaged/);
  await expect(lstat(refused)).rejects.toThrow(/ENOENT/);
});

test('a link is never followed, nothing but a file is replaced, and nothing is moved without the report', async () => {
  const l = await useLab({ size: 64 * MiB });
  await writeFile(l.path('file'), randomBytes(MiB));
  await l.fragment('file', 4);
  const place = await mkdtemp(join(folder, 'links-'));
  const [victim, link] = [join(place, 'victim'), join(place, 'link')];
  await writeFile(victim, 'mine');
  await symlink(victim, link);
  for (const path of [link, '/dev/null', join(place, 'no', 'such')]) {
    for (const args of [
      ['map', '--html', path],
      ['map', '-o', path],
      ['--no-state', '--report', path],
    ]) {
      const { exitCode, stderr } = await run([...args, l.mountPoint]);
      expect([args, exitCode]).toEqual([args, 1]);
      expect(stderr).toContain(path);
    }
  }
  expect(await readFile(victim, 'utf8')).toBe('mine');
  expect((await lstat('/dev/null')).isCharacterDevice()).toBe(true);
  expect((await readdir(place)).sort()).toEqual(['link', 'victim']);
  expect(await filefrag(l.path('file'))).toBe(64);
});
