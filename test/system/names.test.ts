import {
  link,
  mkdir,
  mkdtemp,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { DirectoryColumns } from '../../lib/ext4/directories.ts';
import { Invalid } from '../../lib/ext4/invalid.ts';
import { O } from '../../lib/kernel/handle.ts';
import { Ext4Device } from '../../lib/scan/device.ts';
import { excludeMatcher } from '../../lib/scan/exclude.ts';
import { readAllTables } from '../../lib/scan/inodeTables.ts';
import { findFewNames } from '../../lib/scan/fewNames.ts';
import { findNames, includedInodes } from '../../lib/scan/names.ts';
import { MiB, scaled, type Lab, type LabOptions } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

interface Shape extends LabOptions {
  readonly name: string;
}

const SHAPES: Shape[] = [
  { name: 'the defaults' },
  { name: '1 KiB blocks', blockSize: 1024 },
  { name: '1 KiB blocks without checksums', blockSize: 1024, mkfs: ['-O', '^metadata_csum,^64bit'] },
  { name: 'inline_data', mkfs: ['-O', 'inline_data'] },
  { name: 'inline_data in 1 KiB blocks', blockSize: 1024, mkfs: ['-O', 'inline_data'] },
  { name: 'no kinds in names', mkfs: ['-O', '^filetype'] },
  { name: 'no hash trees', mkfs: ['-O', '^dir_index'] },
  { name: 'indirect blocks', blockSize: 1024, mkfs: ['-O', '^extents,^64bit'] },
  { name: 'bigalloc', mkfs: ['-O', 'bigalloc', '-N', '20000'] },
];

/** Bytes as a string, each a character: no name is spoilt by decoding. */
const text = (bytes: Buffer): string => bytes.toString('latin1');
/** What {@link text} made, as bytes. */
const raw = (name: string): Buffer => Buffer.from(name, 'latin1');

class Tree {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  path(name: string): Buffer {
    return Buffer.concat([Buffer.from(`${this.#root}/`), raw(name)]);
  }

  directory(name: string): Promise<unknown> {
    return mkdir(this.path(name), { recursive: true });
  }

  file(name: string): Promise<void> {
    return writeFile(this.path(name), '');
  }
}

const MANY = Math.floor(scaled(5000));

async function populate(root: string): Promise<void> {
  const tree = new Tree(root);
  for (const name of [
    'a/b',
    'a/b/c',
    'a/bb',
    'e',
    'x/a/b',
    'x/node_modules/deep/er',
    'node_modules',
    'dir.log/in',
    'log',
  ]) {
    await tree.directory(name);
    await tree.file(`${name}/file`);
    await tree.file(`${name}/debug.log`);
  }
  const odd = [
    'new\nline',
    '\xff\xfe\x80',
    'sp ace',
    '\x01',
    '-',
    '*',
    '...',
    '..x',
    '.hidden',
    'tab\t.log',
    '\xe4.log',
  ];
  await tree.directory('odd\n\xff');
  for (const name of [...odd, 'n'.repeat(255), '\xff'.repeat(255)]) {
    await tree.file(name);
    await tree.file(`odd\n\xff/${name}`);
  }
  for (let i = 0, name = 'nested'; i < 40; i++, name += `/${'d'.repeat(i * 5)}${i}`) {
    await tree.directory(name);
    await tree.file(`${name}/leaf`);
  }
  // Their blocks lie in turns: two directories in many pieces.
  await tree.directory('many');
  await tree.directory('more');
  for (let i = 0; i < MANY; i++) {
    const end = i % 100 === 0 ? '.log' : '.txt';
    await tree.file(`many/a name of some length for the ${i}th${end}`);
    await tree.file(`more/and some more of them ${i}${end}`);
  }
  for (let i = 0; i < MANY; i += 3)
    await unlink(tree.path(`more/and some more of them ${i}${i % 100 ? '.txt' : '.log'}`));
  // Second names: of both kinds, in one directory and in several, excluded and not.
  await link(tree.path('e/file'), tree.path('e/second'));
  await link(tree.path('a/b/file'), tree.path('e/rescued'));
  await link(tree.path('e/debug.log'), tree.path('e/debug.txt'));
  await link(tree.path('a/b/c/file'), tree.path('node_modules/lost'));
  await symlink('/nowhere', tree.path('e/link'));
  await execa('mkfifo', [`${root}/e/fifo`]);
}

/** Every name as find(1) prints it: the paths of each inode, the root's aside. */
async function listing(root: string): Promise<Map<number, string[]>> {
  const args = [root, '-mindepth', '1', '-printf', '%i %P\\0'];
  const { stdout } = await execa('find', args, { encoding: 'buffer' });
  const paths = new Map<number, string[]>();
  for (const line of text(Buffer.from(stdout)).split('\0').filter(Boolean)) {
    const inode = Number(line.slice(0, line.indexOf(' ')));
    paths.set(inode, [...(paths.get(inode) ?? []), line.slice(line.indexOf(' ') + 1)]);
  }
  return paths;
}

async function openDevice(path: string): Promise<Ext4Device> {
  const device = await Ext4Device.open(path);
  if (device instanceof Invalid) throw new Error(device.reason);
  onTestFinished(() => device.close());
  return device;
}

async function directoriesOf(device: Ext4Device): Promise<DirectoryColumns> {
  const all = new DirectoryColumns();
  await readAllTables(device, { directories: all });
  return all;
}

async function readLab(l: Lab) {
  await execa('sync', ['-f', l.mountPoint]);
  const device = await openDevice(await l.device());
  return { device, root: await l.open('.', O.RDONLY), directories: await directoriesOf(device) };
}

/** Every inode whose name is not the one that is wanted, with both. */
function wrongNames(names: Awaited<ReturnType<typeof findNames>>, expected: Map<number, string[]>) {
  return [...expected].flatMap(([inode, paths]) => {
    const found = names.relativePath(inode);
    return found !== undefined && paths.includes(text(found)) ? [] : [{ inode, paths, found }];
  });
}

/** Inodes that have a path of which no part is excluded. */
function allowed(expected: Map<number, string[]>, excluded: (path: string, name: string) => boolean) {
  const isAllowed = (path: string) => {
    const parts = path.split('/');
    return !parts.some((name, i) => excluded(parts.slice(0, i + 1).join('/'), name));
  };
  return [...expected].filter(([, paths]) => paths.some(isAllowed)).map(([inode]) => inode);
}

describe('names and exclusion from the device, as find lists them', () => {
  test.each(SHAPES)('$name', async (options) => {
    const l = await useLab({ size: 160 * MiB, ...options });
    await populate(l.mountPoint);
    await writeFile(l.path('lost+found', 'orphan'), 'x');
    await link(l.path('lost+found', 'orphan'), l.path('lost+found', 'again'));
    await writeFile(l.path('lost+found', 'adopted'), 'x');
    await link(l.path('lost+found', 'adopted'), l.path('e', 'adopted'));
    await mkdir(l.path('lost+found', 'below'));
    await writeFile(l.path('lost+found', 'below', 'file'), 'x');
    const expected = await listing(l.mountPoint);
    const { device, root, directories } = await readLab(l);

    const names = await findNames(device, root, directories, () => true);
    expect(wrongNames(names, expected)).toEqual([]);
    expect(expected.size).toBeGreaterThan(MANY);
    for (const [inode, paths] of expected) {
      const parents = paths.map((path) => path.slice(0, Math.max(0, path.lastIndexOf('/'))));
      const parent = names.relativePath(names.parentOf(inode)!);
      expect(parents).toContain(text(parent!));
    }
    expect(names.relativePath(2)).toHaveLength(0);
    expect(names.relativePath(8)).toBeUndefined();
    // Only what is wanted is kept, and what its path takes.
    const [some] = [...expected].find(([, [path]]) => path === 'nested/ddddd1')!;
    const [leaf] = [...expected].find(([, [path]]) => path === 'nested/leaf')!;
    const [other] = [...expected].find(([, [path]]) => path === 'a/bb/file')!;
    const few = await findNames(device, root, directories, (inode) => inode === leaf);
    expect([some, leaf, other].map((inode) => few.relativePath(inode)?.toString())).toEqual([
      'nested/ddddd1',
      'nested/leaf',
      undefined,
    ]);

    // A few of them are found by themselves, where the kernel need not be asked for a directory on the way up.
    let found = 0;
    for (const inode of [...expected.keys()].filter((_, i) => i % 97 === 0)) {
      const own = await findFewNames(device, root, directories, [inode], undefined);
      if (own === undefined) continue;
      found++;
      expect(own.relativePath(inode)).toEqual(names.relativePath(inode));
    }
    if (directories.count > 100) expect(found).toBeGreaterThan(0);

    const { inodesCount } = device.superblock;
    const included = async (patterns: string[]) => {
      const matcher = excludeMatcher(patterns);
      const set = await includedInodes(device, root, directories, matcher, inodesCount);
      return [...expected.keys()].filter((inode) => set.has(inode));
    };
    expect(await included(['*.log', 'a/b', 'node_modules'])).toEqual(
      allowed(
        expected,
        (path, name) =>
          name.endsWith('.log') || path === 'a/b' || name === 'node_modules' || path === 'lost+found',
      ),
    );
    expect(await included([])).toEqual(allowed(expected, (path) => path === 'lost+found'));
    expect(await included(['**/*'])).toEqual([]);
  });

  test('directories are read from the device where they can be, and by the kernel where they cannot', async () => {
    const l = await useLab({ size: 160 * MiB, blockSize: 1024 });
    await populate(l.mountPoint);
    const { device, root, directories } = await readLab(l);
    const other = directories.other.subarray(0, directories.count).reduce((sum, one) => sum + one, 0);
    // The two large ones, in pieces and so with deep trees, at least.
    expect(other).toBeGreaterThanOrEqual(2);
    expect(directories.count - other).toBeGreaterThan(2);
    // Without the kernel the names in just those are missing.
    directories.other.fill(0);
    const names = await findNames(device, root, directories, () => true);
    const found = [...(await listing(l.mountPoint)).keys()].map(
      (inode) => names.parentOf(inode) !== undefined,
    );
    expect(new Set(found)).toEqual(new Set([true, false]));
  });
});

describe('a few names', () => {
  test('are found near their files, level by level', async () => {
    // Groups of 8 MiB; the directories below the root are spread over them.
    const l = await useLab({ size: 160 * MiB, blockSize: 1024 });
    for (let i = 0; i < 60; i++) {
      await mkdir(l.path(`d${i}`, 'below', 'it'), { recursive: true });
      for (let k = 0; k < 10; k++) await writeFile(l.path(`d${i}`, 'below', 'it', `file${k}`), '');
    }
    const inodeOf = async (path: string) => Number((await stat(l.path(path))).ino);
    const wanted = [
      await inodeOf('d7/below/it/file3'),
      await inodeOf('d7/below/it/file4'),
      await inodeOf('d9'),
    ];
    const { device, root, directories } = await readLab(l);
    const names = await findFewNames(device, root, directories, wanted, undefined);
    expect(wanted.map((inode) => names!.relativePath(inode)?.toString())).toEqual([
      'd7/below/it/file3',
      'd7/below/it/file4',
      'd9',
    ]);
    // Nothing else is remembered.
    expect(names!.parentOf(await inodeOf('d8'))).toBeUndefined();

    // One that was moved away is found in another group.
    await rename(l.path('d7/below/it/file3'), l.path('d30/below/moved'));
    const after = await readLab(l);
    const moved = await findFewNames(after.device, after.root, after.directories, wanted, undefined);
    expect(moved!.relativePath(wanted[0])?.toString()).toBe('d30/below/moved');
    // Many names, or none.
    const everywhere = await Promise.all(
      Array.from({ length: 60 }, (_, i) => inodeOf(`d${i}/below/it/file0`)),
    );
    expect(await findFewNames(device, root, directories, everywhere, undefined)).toBeUndefined();
    expect(
      (await findFewNames(device, root, directories, [], undefined))!.parentOf(wanted[0]),
    ).toBeUndefined();
  });

  test('are given up where a directory on the way up has no name', async () => {
    const l = await useLab({ size: 160 * MiB, blockSize: 1024 });
    for (let i = 0; i < 20; i++) await mkdir(l.path(`d${i}`, 'in'), { recursive: true });
    await writeFile(l.path('d3/in/file'), '');
    const file = Number((await stat(l.path('d3/in/file'))).ino);
    await l.unmount();
    await execa('debugfs', ['-w', '-R', 'unlink d3', l.image]);
    const device = await openDevice(l.image);
    expect(await findFewNames(device, -1, await directoriesOf(device), [file], undefined)).toBeUndefined();
    await execa('e2fsck', ['-fy', l.image], { reject: false });
  });
});

test('blocks of 64 KiB, on an image that need not be mounted', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-names-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [content, image] = [join(folder, 'content'), join(folder, 'image')];
  await mkdir(content);
  await populate(content);
  await writeFile(image, '');
  await truncate(image, 1024 * MiB);
  await execa('mkfs.ext4', ['-q', '-F', '-b', '65536', '-d', content, image]);
  const device = await openDevice(image);
  const directories = await directoriesOf(device);
  expect(directories.other.subarray(0, directories.count)).not.toContain(1);
  const names = await findNames(device, -1, directories, () => true);
  const wanted = [...(await listing(content)).values()].flatMap((paths) => (paths.length === 1 ? paths : []));
  const found = new Set<string>();
  for (let inode = 11; inode <= device.superblock.inodesCount; inode++) {
    const path = names.relativePath(inode);
    if (path !== undefined) found.add(text(path));
  }
  expect(wanted.filter((path) => !found.has(path))).toEqual([]);
  expect(found).toContain('lost+found');
});

describe('while the filesystem changes', () => {
  test('directories that are gone cost their own names and no other’s', async () => {
    const l = await useLab({ size: 64 * MiB, mkfs: ['-O', 'inline_data'] });
    for (const name of ['kept', 'gone', 'reused']) {
      await mkdir(l.path(name));
      await writeFile(l.path(name, 'file'), 'x');
    }
    const expected = await listing(l.mountPoint);
    const { device, root, directories } = await readLab(l);
    expect(directories.other.subarray(0, directories.count)).toContain(1);
    const names = async () => {
      const found = await findNames(device, root, directories, () => true);
      return [...expected.keys()].flatMap((inode) => found.relativePath(inode)?.toString() ?? []).sort();
    };
    for (const name of ['gone', 'reused']) {
      await unlink(l.path(name, 'file'));
      await rmdir(l.path(name));
    }
    await writeFile(l.path('now a file'), 'x');
    await execa('sync', ['-f', l.mountPoint]);
    const found = await names();
    expect(found).toContain('kept/file');
    expect(found).not.toContain('gone/file');
  });

  test('names that nobody touches are right while others come, go and move', async () => {
    const l = await useLab({ size: 160 * MiB, blockSize: 1024 });
    await populate(l.mountPoint);
    const expected = await listing(l.mountPoint);
    await mkdir(l.path('churn'));
    let stop = false;
    const churn = (async () => {
      for (let i = 0; !stop; i++) {
        await mkdir(l.path('churn', `directory ${i}`));
        await writeFile(l.path('churn', `directory ${i}`, 'file'), 'x');
        await rename(l.path('churn', `directory ${i}`, 'file'), l.path('churn', `file ${i}`));
        if (i < 50) continue;
        await rmdir(l.path('churn', `directory ${i - 50}`));
        await unlink(l.path('churn', `file ${i - 50}`));
      }
    })();
    try {
      for (let i = 0; i < 5; i++) {
        const { device, root, directories } = await readLab(l);
        expect(wrongNames(await findNames(device, root, directories, () => true), expected)).toEqual([]);
      }
    } finally {
      stop = true;
      await churn;
    }
  });

  test('an abort ends it quietly', async () => {
    const l = await useLab({ size: 64 * MiB });
    await writeFile(l.path('file'), 'x');
    const { device, root, directories } = await readLab(l);
    const signal = AbortSignal.abort();
    const [[inode]] = [...(await listing(l.mountPoint))].filter(([, [path]]) => path === 'file');
    const names = await findNames(device, root, directories, () => true, { signal });
    expect(names.relativePath(inode)).toBeUndefined();
    const set = await includedInodes(device, root, directories, () => false, 1000, { signal });
    expect(set.has(inode)).toBe(false);
  });
});

test('blocks that hold no names, or belong to two directories, are left to the kernel', async () => {
  const l = await useLab({ size: 64 * MiB });
  for (const name of ['one', 'two']) {
    await mkdir(l.path(name));
    await writeFile(l.path(name, `in ${name}`), 'x');
  }
  await writeFile(l.path('content'), Buffer.alloc(4096, 0xa5));
  const expected = await listing(l.mountPoint);
  const { device, root, directories } = await readLab(l);
  const rowOf = (name: string) => {
    const [inode] = [...expected].find(([, [path]]) => path === name)!;
    const row = directories.inode.indexOf(inode);
    return directories.owner.subarray(0, directories.extents).indexOf(row);
  };
  const [one, two] = [rowOf('one'), rowOf('two')];
  const check = async () =>
    expect(wrongNames(await findNames(device, root, directories, () => true), expected)).toEqual([]);
  const place = directories.physical[one];
  directories.physical[one] = directories.physical[two];
  await check();
  // The superblock, a bitmap, the end of the device.
  for (const block of [0, 1, device.groups.blockBitmap[0], device.superblock.blocksCount - 1, 2 ** 40]) {
    directories.physical[one] = block;
    await check();
  }
  directories.physical[one] = place;
  await check();
});
