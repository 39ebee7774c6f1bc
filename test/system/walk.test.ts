import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { link, mkdir, rename, stat, symlink, writeFile } from 'node:fs/promises';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { defragment } from '../../lib/index.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { AT_FDCWD, closeFd, O, openAt, openBeneath, RESOLVE } from '../../lib/kernel/handle.ts';
import { closeAll, inspectHandles, inspectNames, readDirectories } from '../../lib/kernel/inspect.ts';
import { native } from '../../lib/kernel/native.ts';
import { mergeExtents } from '../../lib/layout/extents.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';
import { Scanner, type ScanItem, type ScanOptions } from '../../lib/scan/scan.ts';
import { openTarget } from '../../lib/scan/targets.ts';
import { IN_VM, MiB, scaled } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const CONFINED = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV;

/** Every item of a scan of a path. */
async function scan(path: string, options: ScanOptions = {}): Promise<ScanItem[]> {
  const target = await openTarget(Buffer.from(path));
  try {
    const items: ScanItem[] = [];
    for await (const item of new Scanner(options, false).scan(target)) items.push(item);
    return items;
  } finally {
    await closeFd(target.dirFd);
  }
}

const below = (root: string, { path }: ScanItem) => path.toString('latin1').slice(root.length + 1);

/** What a scan made of each name, by its path below the root: 'file', 'failed', or the reason. */
async function verdicts(root: string, options: ScanOptions = {}): Promise<Record<string, string>> {
  const items = await scan(root, options);
  const found = Object.fromEntries(
    items.map((item) => [below(root, item), item.kind === 'skip' ? item.reason : item.kind]),
  );
  // Every name once.
  expect(Object.keys(found)).toHaveLength(items.length);
  return found;
}

const openFds = () => readdirSync('/proc/self/fd').length;

/** Makes a chain of directories below a path and answers the deepest one, open. */
async function makeDeep(top: string, levels: number, name: (level: number) => string): Promise<number> {
  await mkdir(top);
  let fd = await openAt(AT_FDCWD, Buffer.from(top), O.RDONLY | O.DIRECTORY);
  for (let level = 0; level < levels; level++) {
    await mkdir(`/proc/self/fd/${fd}/${name(level)}`);
    const next = await openAt(fd, Buffer.from(name(level)), O.RDONLY | O.DIRECTORY);
    await closeFd(fd);
    fd = next;
  }
  return fd;
}

test('4 000 levels deep: a fragmented file at the bottom is found, and made contiguous', async () => {
  const l = await useLab();
  const levels = 4000;
  const top = l.path('deep');
  const dirFd = await makeDeep(top, levels, (level) => `level${level % 10}`);
  const file = `/proc/self/fd/${dirFd}/file`;
  await writeFile(file, randomBytes(MiB));
  const fd = await openAt(dirFd, Buffer.from('file'), O.RDWR);
  await fragmentFile(fd, dirFd, l.blockSize, () => blocks(4));
  const before = readFileSync(file);
  const fds = openFds();
  const found = await scan(top);
  expect(openFds()).toBe(fds);
  expect(found).toMatchObject([{ kind: 'file', inode: (await stat(file)).ino }]);
  expect(found[0].path.length).toBeGreaterThan(levels * 7);
  if (found[0].kind === 'file') expect(countFragments(found[0].extents)).toBe(64);
  await closeFd(fd);
  for await (const event of defragment([top])) {
    if (event.type === 'summary') expect(event).toMatchObject({ defragmented: 1, failed: 0 });
  }
  const again = await openAt(dirFd, Buffer.from('file'), O.RDONLY);
  expect(countFragments(mergeExtents(await fiemap(again, l.blockSize)))).toBe(1);
  expect(readFileSync(file).equals(before)).toBe(true);
  await closeFd(again);
  await closeFd(dirFd);
});

test('a deep tree with a sibling at every level, of names as long as can be', async () => {
  const l = await useLab();
  const levels = scaled(400);
  const name = 'n'.repeat(255);
  const top = l.path('deep');
  await mkdir(top);
  let fd = await openAt(AT_FDCWD, Buffer.from(top), O.RDONLY | O.DIRECTORY);
  for (let level = 0; level < levels; level++) {
    await mkdir(`/proc/self/fd/${fd}/sibling`);
    await writeFile(`/proc/self/fd/${fd}/sibling/file`, 'content');
    await mkdir(`/proc/self/fd/${fd}/${name}`);
    const next = await openAt(fd, Buffer.from(name), O.RDONLY | O.DIRECTORY);
    await closeFd(fd);
    fd = next;
  }
  await closeFd(fd);
  await execa('sync', ['-f', top]);
  const fds = openFds();
  const items = await scan(top);
  expect(openFds()).toBe(fds);
  expect(items).toHaveLength(levels);
  expect(items.every(({ kind }) => kind === 'file')).toBe(true);
  expect(new Set(items.map((item) => item.path.toString())).size).toBe(levels);
});

test('a path of any length is opened beneath a directory, and by the rules', async () => {
  const l = await useLab();
  const dirFd = await makeDeep(l.path('deep'), 1200, () => 'level');
  await symlink('level', `/proc/self/fd/${dirFd}/link`);
  await closeFd(dirFd);
  const root = await l.open('.', O.RDONLY);
  const path = Buffer.from(`deep${'/level'.repeat(1200)}`);
  const open = (relative: Buffer) => openBeneath(root, relative, O.RDONLY, { resolve: CONFINED });
  await closeFd(await open(path));
  await closeFd(await open(Buffer.alloc(0)));
  const fds = openFds();
  await expect(open(Buffer.concat([path, Buffer.from('/none')]))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(open(Buffer.concat([path, Buffer.from('/link')]))).rejects.toMatchObject({ code: 'ELOOP' });
  await expect(open(Buffer.from('x'.repeat(5000)))).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
  expect(openFds()).toBe(fds);
});

test('a directory with 100 000 names: each once', async () => {
  const count = scaled(100_000);
  const l = await useLab({ size: 1024 * MiB, mkfs: ['-N', String(count + 5000)] });
  const root = l.path('wide');
  await mkdir(root);
  for (let i = 0; i < count; i++) {
    writeFileSync(`${root}/name-${i}`, i % 10 === 0 ? 'x' : '');
    if (i % 100 === 0) await mkdir(`${root}/dir-${i}`);
  }
  await execa('sync', ['-f', root]);
  const fds = openFds();
  const found = await verdicts(root);
  expect(openFds()).toBe(fds);
  expect(Object.keys(found)).toHaveLength(count);
  for (let i = 0; i < count; i++) {
    if (found[`name-${i}`] !== (i % 10 === 0 ? 'file' : 'empty')) expect.fail(`name-${i}`);
  }
});

test('what is not cached is read ahead through the device, and is the same', async () => {
  const l = await useLab();
  const folders = Array.from({ length: 60 }, (_, i) => `dir${i}`);
  for (const folder of folders) {
    await mkdir(l.path(folder));
    for (let i = 0; i < 50; i++) writeFileSync(l.path(folder, `file${i}`), 'content');
  }
  await l.remount();
  const cold = await verdicts(l.mountPoint);
  expect(Object.keys(cold)).toHaveLength(60 * 50 + 1);
  expect(await verdicts(l.mountPoint)).toEqual(cold);
  await l.remount();
  const target = await openTarget(Buffer.from(l.mountPoint));
  const deviceFd = await openAt(AT_FDCWD, Buffer.from(await l.device()), O.RDONLY);
  const names = Buffer.from(`${folders.join('\0')}\0`);
  const offsets = Uint32Array.from(folders, (folder) => names.indexOf(`${folder}\0`));
  const fds = new Int32Array(folders.length).fill(target.dirFd);
  try {
    for (const expected of [expect.any(Number), 0] as number[]) {
      const listing = await readDirectories({ fds, offsets, names }, bytes(65536), CONFINED, deviceFd);
      await closeAll(listing.directories.flatMap(({ fd }) => fd ?? []));
      expect(listing.bytesRead).toEqual(expected);
      expect(listing.directories).toHaveLength(60);
      for (const directory of listing.directories) {
        expect(directory).toMatchObject({ error: undefined, more: false, count: 50 });
      }
    }
  } finally {
    await closeFd(deviceFd);
    await closeFd(target.dirFd);
  }
});

test('names are bytes: a newline, and what is not UTF-8', async () => {
  const l = await useLab();
  const root = l.path('names');
  const names = ['new\nline', ' ', '\xff\xfe', 'caf\xe9', 'caf\xc3\xa9', '*', '-rf', '\x01'];
  await mkdir(root);
  for (const name of names) {
    const folder = Buffer.from(`${root}/dir${name}`, 'latin1');
    await mkdir(folder);
    await writeFile(Buffer.concat([folder, Buffer.from(`/${name}`, 'latin1')]), 'content');
  }
  await execa('sync', ['-f', root]);
  expect(await verdicts(root)).toEqual(
    Object.fromEntries(names.map((name) => [`dir${name}/${name}`, 'file'])),
  );
  for (const item of await scan(root)) {
    if (item.kind !== 'file') continue;
    expect(item.relative.toString('latin1')).toBe(below(root, item));
    expect(item.inode).toBe((await stat(item.path)).ino);
  }
  // A file as the target is a walk of one name.
  expect(await scan(`${root}/dir*/*`)).toMatchObject([{ kind: 'file', relative: Buffer.from('*') }]);
});

describe.each([
  { what: 'that tell what their names are', mkfs: [] },
  { what: 'that do not', mkfs: ['-O', '^filetype'] },
])('directories $what', ({ mkfs }) => {
  test('links, FIFOs, sockets and devices are left alone, other names of a file too', async () => {
    const l = await useLab({ mkfs });
    const root = l.mountPoint;
    await mkdir(l.path('dir'));
    await mkdir(l.path('outside'));
    await writeFile(l.path('dir/file'), 'content');
    await writeFile(l.path('outside/file'), 'content');
    await writeFile(l.path('dir/empty'), '');
    await link(l.path('dir/file'), l.path('dir/second'));
    await symlink('../outside', l.path('dir/link'));
    await symlink('../outside/file', l.path('dir/link-to-file'));
    await symlink('.', l.path('dir/loop'));
    await execa('mkfifo', [l.path('dir/fifo')]);
    await execa('mknod', [l.path('dir/null'), 'c', '1', '3']);
    // A tape drive that is not there: opening it fails, and would rewind one that is.
    await execa('mknod', [l.path('dir/tape'), 'c', '9', '0']);
    await execa('mknod', [l.path('dir/block'), 'b', '240', '7']);
    await execa('sync', ['-f', root]);
    const found = await verdicts(root);
    expect([found['dir/file'], found['dir/second']].sort()).toEqual(['file', 'hard-link']);
    delete found['dir/file'];
    delete found['dir/second'];
    expect(found).toEqual({
      'lost+found': 'lost-found',
      'outside/file': 'file',
      'dir/empty': 'empty',
      'dir/link': 'not-regular',
      'dir/link-to-file': 'not-regular',
      'dir/loop': 'not-regular',
      'dir/fifo': 'not-regular',
      'dir/null': 'not-regular',
      'dir/tape': 'not-regular',
      'dir/block': 'not-regular',
    });
  });
});

test('what is excluded is neither opened nor entered', async () => {
  const l = await useLab();
  await mkdir(l.path('keep/cache'), { recursive: true });
  await mkdir(l.path('cache'));
  for (const name of ['keep/file', 'keep/cache/file', 'cache/file', 'keep/file.log'])
    await writeFile(l.path(name), 'content');
  await execa('sync', ['-f', l.mountPoint]);
  expect(await verdicts(l.mountPoint, { exclude: ['*.log', 'keep/cache'] })).toEqual({
    'lost+found': 'lost-found',
    'cache/file': 'file',
    'keep/file': 'file',
    'keep/file.log': 'excluded',
    'keep/cache': 'excluded',
  });
});

test('another mount is not entered, whether it is on a directory or on a file', async () => {
  const l = await useLab();
  await mkdir(l.path('mount'));
  await mkdir(l.path('bind'));
  await mkdir(l.path('dir'));
  await writeFile(l.path('dir/file'), 'content');
  await writeFile(l.path('covered'), 'content');
  await execa('sync', ['-f', l.mountPoint]);
  await execa('mount', ['-t', 'tmpfs', 'tmpfs', l.path('mount')]);
  try {
    await writeFile(l.path('mount/inside'), 'content');
    await execa('mount', ['--bind', l.path('dir'), l.path('bind')]);
    try {
      await execa('mount', ['--bind', l.path('dir/file'), l.path('covered')]);
      try {
        expect(await verdicts(l.mountPoint)).toEqual({
          'lost+found': 'lost-found',
          mount: 'other-filesystem',
          bind: 'other-filesystem',
          covered: 'other-filesystem',
          'dir/file': 'file',
        });
      } finally {
        await execa('umount', [l.path('covered')]);
      }
    } finally {
      await execa('umount', [l.path('bind')]);
    }
  } finally {
    await execa('umount', [l.path('mount')]);
  }
});

// Renames, replaces and unlinks files and directories below the folder that it is given, until it is killed.
const RACER = `
const fs = require('node:fs');
const root = process.argv[1];
const attempt = (work) => { try { work(); } catch {} };
for (let i = 0; ; i++) {
  const [a, b] = [i * 7 % 50, i * 13 % 50];
  attempt(() => fs.mkdirSync(root + '/dir' + a));
  attempt(() => fs.writeFileSync(root + '/dir' + a + '/file' + b, 'content'));
  attempt(() => fs.renameSync(root + '/dir' + a + '/file' + b, root + '/dir' + b + '/file' + a));
  attempt(() => fs.renameSync(root + '/dir' + b, root + '/dir' + b + '/../new' + a));
  attempt(() => fs.renameSync(root + '/new' + a, root + '/dir' + (a + b) % 50));
  attempt(() => fs.rmSync(root + '/dir' + (i * 3 % 50), { recursive: i % 2 === 0 }));
  attempt(() => fs.symlinkSync('/', root + '/dir' + (i * 3 % 50)));
  attempt(() => fs.unlinkSync(root + '/dir' + (i * 3 % 50)));
  attempt(() => fs.unlinkSync(root + '/dir' + b + '/file' + (i % 50)));
}`;

test('whatever others rename and unlink meanwhile is skipped and not an error', async () => {
  const l = await useLab();
  const root = l.path('race');
  await mkdir(root);
  const fds = openFds();
  const racer = spawn(process.execPath, ['-e', RACER, root], { stdio: 'inherit' });
  const ended = new Promise((resolve) => racer.once('exit', resolve));
  const seen = new Map<string, number>();
  try {
    for (const until = Date.now() + (IN_VM ? 10_000 : 4000); Date.now() < until;) {
      for (const item of await scan(root)) {
        if (item.kind === 'failed') throw item.error;
        const what = item.kind === 'skip' ? item.reason : item.kind;
        seen.set(what, (seen.get(what) ?? 0) + 1);
      }
    }
  } finally {
    racer.kill('SIGKILL');
    await ended;
  }
  expect(openFds()).toBeLessThanOrEqual(fds);
  // Content may not be allocated yet, so that files have no blocks or still are empty. What is moved out of a directory
  // while its name is looked up there is EXDEV for openat2 (fs/namei.c, complete_walk), as a mount point is.
  for (const what of seen.keys()) {
    expect(['file', 'empty', 'no-blocks', 'vanished', 'not-regular', 'other-filesystem']).toContain(what);
  }
  expect((seen.get('file') ?? 0) + (seen.get('no-blocks') ?? 0)).toBeGreaterThan(0);
});

test('a directory that is moved out of the target while it is walked is still read as it was', async () => {
  const l = await useLab();
  await mkdir(l.path('target/dir'), { recursive: true });
  for (let i = 0; i < 300; i++) writeFileSync(l.path(`target/dir/file${i}`), 'content');
  const target = await openTarget(Buffer.from(l.path('target')));
  let first = true;
  for await (const item of new Scanner({}, false).scan(target)) {
    if (first) await rename(l.path('target/dir'), l.path('dir'));
    first = false;
    expect(item.kind === 'skip' ? item.reason : item.kind).toMatch(/^(file|vanished|no-blocks)$/);
  }
  await closeFd(target.dirFd);
});

test('a scan that is stopped closes what it opened', async () => {
  const l = await useLab();
  for (let i = 0; i < 100; i++) {
    await mkdir(l.path(`dir${i}`));
    for (let k = 0; k < 10; k++) writeFileSync(l.path(`dir${i}/file${k}`), 'content');
  }
  const target = await openTarget(Buffer.from(l.mountPoint));
  const fds = openFds();
  for await (const item of new Scanner({}, false).scan(target)) if (item.kind === 'file') break;
  expect(openFds()).toBe(fds);
  const abort = new AbortController();
  const signal = abort.signal;
  let count = 0;
  for await (const { kind } of new Scanner({ signal }, false).scan(target)) {
    if (kind === 'file' && ++count === 20) abort.abort();
  }
  expect(count).toBeLessThan(1000);
  expect(openFds()).toBe(fds);
  await closeFd(target.dirFd);
});

describe('inspecting', () => {
  test('names: what stat, the flags and FIEMAP say, and what failed', async () => {
    const l = await useLab();
    await mkdir(l.path('dir'));
    await writeFile(l.path('file'), randomBytes(MiB));
    await writeFile(l.path('empty'), '');
    await l.fragment('file', 16);
    await execa('chattr', ['+d', l.path('file')]);
    await execa('sync', ['-f', l.mountPoint]);
    const dirFd = await l.open('.', O.RDONLY);
    const names = ['file', 'none', 'dir', 'empty'].map((name) => Buffer.from(name));
    const [file, none, dir, empty] = await inspectNames(dirFd, names, l.blockSize, CONFINED);
    const info = await stat(l.path('file'));
    expect(file).toMatchObject({
      kind: 'inode',
      inode: info.ino,
      size: MiB,
      hasBlocks: true,
      links: 1,
      mode: info.mode,
      flags: 0x0008_0040,
    });
    const extents = await fiemap(await l.open('file', O.RDONLY), l.blockSize);
    expect(file).toHaveProperty('extents', extents);
    expect(extents.count).toBeGreaterThanOrEqual(16);
    expect(none).toMatchObject({ kind: 'error', error: { code: 'ENOENT', syscall: 'stat' } });
    expect(dir).toMatchObject({ kind: 'inode', extents: undefined, flags: 0 });
    expect(empty).toMatchObject({ kind: 'inode', size: 0, hasBlocks: false, extents: undefined });
    expect(await inspectNames(dirFd, [], l.blockSize, CONFINED)).toEqual([]);
  });

  test('inodes by number and generation; another generation is ESTALE', async () => {
    const l = await useLab();
    await writeFile(l.path('file'), randomBytes(MiB));
    await l.fragment('file', 16);
    await execa('sync', ['-f', l.mountPoint]);
    const { ino } = await stat(l.path('file'));
    const { stdout } = await execa('lsattr', ['-v', l.path('file')]);
    const generation = Number(stdout.trim().split(/\s+/)[0]);
    const mountFd = await l.open('.', O.RDONLY);
    const inodes = Uint32Array.from([ino, ino, ino, 5000]);
    const generations = Uint32Array.from([generation, generation ^ 1, 0, 0]);
    const [right, wrong, zero, unused] = await inspectHandles(mountFd, inodes, generations, l.blockSize);
    expect(right).toMatchObject({ kind: 'inode', inode: ino, size: MiB, links: 1 });
    expect(right).toHaveProperty('extents', await fiemap(await l.open('file', O.RDONLY), l.blockSize));
    expect(wrong).toMatchObject({ kind: 'error', error: { code: 'ESTALE', syscall: 'open_by_handle_at' } });
    // The kernel takes 0 for any; here it is a generation like others.
    expect(zero).toMatchObject({ kind: 'error', error: { code: 'ESTALE' } });
    expect(unused).toMatchObject({ kind: 'error', error: { code: 'ESTALE' } });
  });

  test('with very many extents a call answers less than it was asked', async () => {
    const l = await useLab();
    const names = ['a', 'b', 'c'];
    for (const name of names) {
      await writeFile(l.path(name), randomBytes(MiB));
      await l.fragment(name, 16);
    }
    const dirFd = await l.open('.', O.RDONLY);
    const ask = (maxExtents: number) =>
      native().inspectNames(
        new Int32Array(3).fill(dirFd),
        Uint32Array.from([0, 2, 4]),
        Buffer.from('a\0b\0c'),
        O.RDONLY,
        0,
        false,
        maxExtents,
      );
    const answers = await Promise.all([1, 20, 1000].map(ask));
    expect(answers.map(({ records }) => records.length / 11)).toEqual([1, 2, 3]);
  });
});
