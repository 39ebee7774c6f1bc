import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  statSync,
  writeSync,
  type Stats,
} from 'node:fs';
import {
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { freeRuns } from '../../lib/ext4/bitmap.ts';
import { featureNames } from '../../lib/ext4/features.ts';
import type { FileLayout } from '../../lib/ext4/files.ts';
import { descriptorBlock, hasSuperblock } from '../../lib/ext4/groups.ts';
import { Invalid } from '../../lib/ext4/invalid.ts';
import type { InodeCounts } from '../../lib/ext4/tables.ts';
import { fallocate, FALLOC } from '../../lib/kernel/allocate.ts';
import { fiemap, FIEMAP_FLAG_SYNC } from '../../lib/kernel/fiemap.ts';
import { closeFd, INODE_FLAG, inodeFlags, O, openByHandle } from '../../lib/kernel/handle.ts';
import { mergeExtents } from '../../lib/layout/extents.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { bytes } from '../../lib/layout/units.ts';
import { Ext4Device } from '../../lib/scan/device.ts';
import { scanInodeTables } from '../../lib/scan/inodeTables.ts';
import { MiB, type Lab, type LabOptions } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const O_CREATE = O.RDWR | constants.O_CREAT | constants.O_EXCL;

/** EXT4_FL_USER_VISIBLE (fs/ext4/ext4.h): what FS_IOC_GETFLAGS shows of i_flags. */
const USER_VISIBLE = 0x725b_dfff;

interface Shape extends LabOptions {
  readonly name: string;
  /** Whether the kernel can exchange blocks there, which makes the fragmented fixtures. */
  readonly movable?: boolean;
}

const features = (name: string, options: Partial<Shape> = {}): Shape => ({
  name,
  mkfs: ['-O', name],
  ...options,
});

const SHAPES: Shape[] = [
  { name: 'the defaults', size: 300 * MiB },
  { name: '1 KiB blocks', blockSize: 1024 },
  { name: '2 KiB blocks and 128-byte inodes', blockSize: 2048, mkfs: ['-I', '128'] },
  { name: '512-byte inodes', mkfs: ['-I', '512'] },
  { name: 'a short last group', size: 129 * MiB },
  { name: 'flex groups of four', blockSize: 1024, mkfs: ['-G', '4'] },
  features('^flex_bg', { blockSize: 1024 }),
  features('meta_bg,^resize_inode', { blockSize: 1024, size: 200 * MiB }),
  features('meta_bg,^resize_inode,^flex_bg,^64bit', { blockSize: 1024, size: 300 * MiB }),
  features('^64bit'),
  features('^64bit,^metadata_csum,uninit_bg'),
  features('^64bit,^metadata_csum,^uninit_bg', { blockSize: 1024 }),
  features('bigalloc', { movable: false, size: 300 * MiB }),
  {
    name: 'bigalloc of 1 KiB blocks',
    blockSize: 1024,
    mkfs: ['-O', 'bigalloc', '-C', '8192'],
    movable: false,
  },
  {
    name: 'bigalloc of 1 KiB blocks with meta_bg',
    blockSize: 1024,
    size: 300 * MiB,
    mkfs: ['-O', 'bigalloc,meta_bg,^resize_inode', '-C', '2048'],
    movable: false,
  },
  features('inline_data'),
  features('metadata_csum_seed'),
  features('sparse_super2', { size: 300 * MiB }),
  features('^sparse_super,^resize_inode', { blockSize: 1024 }),
  features('orphan_file'),
  features('large_dir,ea_inode'),
  features('^extents,^64bit', { movable: false }),
];

/** Makes files of every kind, small and large, whole and in pieces. */
async function populate(l: Lab, movable: boolean): Promise<void> {
  const { blockSize } = l;
  for (const directory of ['a', 'b', 'a/deep']) await mkdir(l.path(directory));
  for (let i = 0; i < 60; i++) {
    await writeFile(l.path(['a', 'b', 'a/deep'][i % 3], `small${i}`), Buffer.alloc(1 + i * 700, i + 1));
  }
  await writeFile(l.path('empty'), '');
  const reserved = await l.create('reserved');
  if (movable) await fallocate(reserved, FALLOC.KEEP_SIZE, bytes(0), bytes(20 * blockSize));
  await writeFile(l.path('hole'), '');
  await truncate(l.path('hole'), MiB);
  await symlink('/'.repeat(200), l.path('link'));
  await execa('mkfifo', [l.path('fifo')]);
  await link(l.path('a/small0'), l.path('second-name'));
  await writeFile(l.path('gone'), Buffer.alloc(3 * blockSize, 1));
  await unlink(l.path('gone'));
  await sparse(l, 'sparse', 10, 3);
  // Enough extents for a tree of three levels in blocks of 1 KiB, two in larger ones.
  await sparse(l, 'very-sparse', 2200, 2);
  if (!movable) return;
  const preallocated = await l.create('preallocated');
  await fallocate(preallocated, FALLOC.KEEP_SIZE, bytes(0), bytes(20 * blockSize));
  writeSync(preallocated, Buffer.alloc(2 * blockSize, 1));
  for (const [name, blocks, run] of [
    ['pieces', 64, 16],
    ['few', 12, 5],
    ['many', 700, 1],
  ] as const) {
    await writeFile(l.path(name), Buffer.alloc(blocks * blockSize, 1));
    await l.fragment(name, run);
  }
}

/** One written block in every `step`. */
async function sparse(l: Lab, name: string, count: number, step: number): Promise<void> {
  const fd = await l.create(name);
  const block = Buffer.alloc(l.blockSize, 1);
  for (let i = 0; i < count; i++) writeSync(fd, block, 0, block.length, i * step * l.blockSize);
  fsyncSync(fd);
}

async function* namesBelow(folder: string): AsyncGenerator<string> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    yield join(folder, entry.name);
    if (entry.isDirectory()) yield* namesBelow(join(folder, entry.name));
  }
}

type Expected = Pick<FileLayout, 'inode' | 'size' | 'blocks' | 'fragments' | 'flags' | 'links'>;

/** The same through the filesystem: every name, every file's FIEMAP. */
async function throughFilesystem(l: Lab) {
  const files = new Map<number, Expected>();
  const indirect = new Set<number>();
  const kinds = new Map<number, keyof InodeCounts>([[statSync(l.mountPoint).ino, 'directories']]);
  for await (const path of namesBelow(l.mountPoint)) {
    const info = await lstat(path);
    if (info.isDirectory()) kinds.set(info.ino, 'directories');
    else if (!info.isFile()) kinds.set(info.ino, 'special');
    else {
      const fd = openSync(path, 'r');
      const flags = await inodeFlags(fd);
      const extents = mergeExtents(await fiemap(fd, l.blockSize, { flags: FIEMAP_FLAG_SYNC }));
      closeSync(fd);
      const kind = kindOf(flags, info, extents.count);
      kinds.set(info.ino, kind);
      if (kind === 'indirect') indirect.add(info.ino);
      if (kind !== 'files') continue;
      const layout = { blocks: extents.blocks as number, fragments: countFragments(extents) };
      files.set(info.ino, { inode: info.ino, size: info.size, flags, links: info.nlink, ...layout });
    }
  }
  const counts: Partial<InodeCounts> = {};
  for (const kind of kinds.values()) counts[kind] = (counts[kind] ?? 0) + 1;
  return { files: [...files.values()].sort((a, b) => a.inode - b.inode), indirect, counts };
}

function kindOf(flags: number, { size, blocks }: Stats, extents: number): keyof InodeCounts {
  if (size === 0) return 'empty';
  if (flags & INODE_FLAG.INLINE_DATA) return 'inline';
  if (flags & INODE_FLAG.EXTENTS) return extents > 0 ? 'files' : 'unmapped';
  return blocks > 0 ? 'indirect' : 'unmapped';
}

async function openDevice(path: string): Promise<Ext4Device> {
  const device = await Ext4Device.open(path);
  if (device instanceof Invalid) throw new Error(device.reason);
  onTestFinished(() => device.close());
  return device;
}

async function throughDevice(path: string) {
  const files: FileLayout[] = [];
  const doubtful: FileLayout[] = [];
  let counts: InodeCounts | undefined;
  for await (const batch of scanInodeTables(await openDevice(path))) {
    files.push(...batch.files);
    doubtful.push(...batch.doubtful);
    counts = batch.counts;
  }
  const byInode = (a: FileLayout, b: FileLayout) => a.inode - b.inode;
  return { files: files.sort(byInode), doubtful: doubtful.sort(byInode), counts: counts! };
}

/** Generation and tree depth of every inode, from debugfs. */
async function throughDebugfs(image: string, inodes: number[]) {
  const input = inodes.flatMap((inode) => [`stat <${inode}>`, `ex <${inode}>`]).join('\n');
  const { stdout } = await execa('debugfs', ['-f', '-', image], { input });
  return stdout
    .split(/^debugfs: stat .*$/m)
    .slice(1)
    .map((text) => ({
      generation: Number(/Generation: (\d+)/.exec(text)?.[1]),
      depth: Number(/^ *0\/ *(\d+) /m.exec(text)?.[1]),
    }));
}

interface DumpedGroup {
  readonly first: number;
  readonly last: number;
  readonly superblock: boolean;
  readonly descriptors: number | undefined;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeClusters: number;
  readonly freeInodes: number;
  readonly directories: number;
  readonly unusedInodes: number;
  readonly free: [start: number, end: number][];
}

/** What dumpe2fs(8) prints: the header's fields by name, and the groups. */
async function dumpe2fs(image: string) {
  const { stdout } = await execa('dumpe2fs', [image]);
  const [head, ...rest] = stdout.split(/^(?=Group \d+:)/m);
  const header = new Map(
    head.split('\n').map((line) => {
      const [name, ...value] = line.split(':');
      return [name, value.join(':').trim()];
    }),
  );
  return { header, groups: rest.map(parseGroup) };
}

function parseGroup(text: string): DumpedGroup {
  const number = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0);
  const descriptors = /Group descriptors? at (\d+)/.exec(text)?.[1];
  const ranges = /Free blocks: (.*)/.exec(text)?.[1] ?? '';
  return {
    first: number(/\(Blocks (\d+)-/),
    last: number(/\(Blocks \d+-(\d+)\)/),
    superblock: /superblock at/.test(text),
    descriptors: descriptors === undefined ? undefined : Number(descriptors),
    blockBitmap: number(/Block bitmap at (\d+)/),
    inodeBitmap: number(/Inode bitmap at (\d+)/),
    inodeTable: number(/Inode table at (\d+)/),
    freeClusters: number(/(\d+) free (?:blocks|clusters)/),
    freeInodes: number(/(\d+) free inodes/),
    directories: number(/(\d+) directories/),
    unusedInodes: number(/(\d+) unused inodes/),
    free: ranges
      .split(', ')
      .filter(Boolean)
      .map((range) => range.split('-').map(Number))
      .map(([start, end = start]) => [start, end]),
  };
}

/** What the library makes of the same image, in the words of {@link DumpedGroup}. */
function groupsOf({ superblock, groups }: Ext4Device, image: string, dumped: DumpedGroup[]): DumpedGroup[] {
  const fd = openSync(image, 'r');
  const bitmap = Buffer.alloc(superblock.blockSize);
  const descriptors = new Map<number, number>();
  const perBlock = superblock.descriptorsPerBlock;
  for (let index = 0; index * perBlock < groups.count; index++) {
    const block = descriptorBlock(superblock, index);
    const holder = Math.floor((block - superblock.firstDataBlock) / superblock.blocksPerGroup);
    if (!descriptors.has(holder)) descriptors.set(holder, block);
  }
  const result = Array.from({ length: groups.count }, (_, group): DumpedGroup => {
    readSync(fd, bitmap, 0, bitmap.length, groups.blockBitmap[group] * superblock.blockSize);
    const free: [number, number][] = [];
    freeRuns(superblock, groups, group, bitmap, (start, length) => {
      // dumpe2fs ends a range with the first block of its last cluster.
      free.push([start, start + length - superblock.blocksPerCluster]);
    });
    const first = superblock.firstDataBlock + group * superblock.blocksPerGroup;
    return {
      first,
      last: Math.min(first + superblock.blocksPerGroup, superblock.blocksCount) - 1,
      superblock: hasSuperblock(superblock, group),
      // The copies are e2fsck's; only where the kernel reads them is ours.
      descriptors: descriptors.get(group) ?? dumped[group].descriptors,
      blockBitmap: groups.blockBitmap[group],
      inodeBitmap: groups.inodeBitmap[group],
      inodeTable: groups.inodeTable[group],
      freeClusters: groups.freeClusters[group],
      freeInodes: groups.freeInodes[group],
      directories: groups.directories[group],
      unusedInodes: groups.unusedInodes[group],
      free,
    };
  });
  closeSync(fd);
  return result;
}

async function checkGeometry(image: string): Promise<void> {
  const device = await openDevice(image);
  const { superblock } = device;
  const { header, groups } = await dumpe2fs(image);
  const field = (name: string, fallback = 0) => Number(header.get(name) ?? fallback);
  expect(superblock).toMatchObject({
    uuid: header.get('Filesystem UUID'),
    volumeName: header.get('Filesystem volume name')?.replace('<none>', ''),
    inodesCount: field('Inode count'),
    blocksCount: field('Block count'),
    reservedBlocks: field('Reserved block count'),
    freeBlocks: field('Free blocks'),
    freeInodes: field('Free inodes'),
    firstDataBlock: field('First block'),
    blockSize: field('Block size'),
    clusterSize: field('Cluster size', field('Block size')),
    descriptorSize: field('Group descriptor size', 32),
    reservedGdtBlocks: field('Reserved GDT blocks'),
    blocksPerGroup: field('Blocks per group'),
    clustersPerGroup: field('Clusters per group', field('Blocks per group')),
    inodesPerGroup: field('Inodes per group'),
    inodeTableBlocks: field('Inode blocks per group'),
    groupsPerFlex: field('Flex block group size', 1),
    firstMetaBg: field('First meta block group'),
    firstInode: field('First inode'),
    inodeSize: field('Inode size'),
    groupsCount: groups.length,
  });
  expect(featureNames(superblock).sort()).toEqual(header.get('Filesystem features')?.split(' ').sort());
  expect(groupsOf(device, image, groups)).toEqual(groups);
}

describe('inode tables and geometry, whatever mke2fs was told', () => {
  test.each(SHAPES)('$name', async ({ movable = true, ...options }) => {
    const mkfs = [...(options.mkfs ?? []), '-L', 'a name'];
    const l = await useLab({ size: 96 * MiB, ...options, mkfs });
    await populate(l, movable);
    await execa('sync', ['-f', l.mountPoint]);

    const expected = await throughFilesystem(l);
    const live = await throughDevice(await l.device());
    expect(live.files).toEqual(
      expected.files.map(({ flags: _, ...file }) => expect.objectContaining(file) as unknown),
    );
    expect(live.files.map(({ flags }) => flags & USER_VISIBLE)).toEqual(
      expected.files.map(({ flags }) => flags & USER_VISIBLE),
    );
    expect(live.counts).toMatchObject(expected.counts);
    expect(new Set(live.doubtful.map(({ inode }) => inode))).toEqual(expected.indirect);
    if (movable) expect(live.files.filter(({ fragments }) => fragments > 3).length).toBeGreaterThan(1);

    await l.unmount();
    const { files } = await throughDevice(l.image);
    expect(files).toEqual(live.files);
    const inodes = files.map(({ inode }) => inode);
    expect(await throughDebugfs(l.image, inodes)).toEqual(
      files.map(({ generation, depth }) => ({ generation, depth })),
    );
    await checkGeometry(l.image);
  });

  test('a tree of three levels', async () => {
    const l = await useLab({ size: 128 * MiB, blockSize: 1024 });
    // 84 entries to a block, 4 to an inode: above 28 224 extents a third level begins.
    await sparse(l, 'file', 30_000, 2);
    await execa('sync', ['-f', l.mountPoint]);
    const { files } = await throughFilesystem(l);
    const found = await throughDevice(await l.device());
    expect(found.files).toMatchObject([
      { ...files[0], depth: 3, blocks: 30_000, flags: found.files[0].flags },
    ]);
  });
});

test('quota files are the system’s: nobody can open them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-quota-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const image = join(folder, 'image');
  await writeFile(image, '');
  await truncate(image, 64 * MiB);
  // Not every kernel can mount it, and it need not be mounted.
  await execa('mkfs.ext4', ['-q', '-F', '-O', 'quota,project', image]);
  const { files, counts } = await throughDevice(image);
  expect(files).toEqual([]);
  const { header } = await dumpe2fs(image);
  const project = Number(header.get('Project quota inode'));
  expect(project).toBeGreaterThan(10);
  // The bad blocks' inode, user, group, resize, journal and project quota.
  expect(counts.system).toBeGreaterThanOrEqual(5);
  await checkGeometry(image);
});

describe('open_by_handle_at', () => {
  test('opens every file that the tables show, by its number and generation', async () => {
    const l = await useLab({ size: 64 * MiB });
    await populate(l, true);
    await execa('sync', ['-f', l.mountPoint]);
    const root = await l.open('.', O.RDONLY);
    const { files } = await throughDevice(await l.device());
    for (const { inode, generation, size } of files) {
      for (const wanted of [generation, 0]) {
        const fd = await openByHandle(root, inode, wanted, O.RDONLY | O.NOFOLLOW);
        expect(fstatSync(fd)).toMatchObject({ ino: inode, size });
        await closeFd(fd);
      }
    }
    expect(files.length).toBeGreaterThan(60);
  });

  test('another generation, a free inode, an unlinked one and the filesystem’s own are ESTALE', async () => {
    const l = await useLab({ size: 64 * MiB });
    const fd = await l.open('file', O_CREATE);
    writeSync(fd, Buffer.alloc(10_000, 1));
    fsyncSync(fd);
    const root = await l.open('.', O.RDONLY);
    const { files } = await throughDevice(await l.device());
    const [{ inode, generation }] = files;
    const attempt = (number: number, wanted: number) => openByHandle(root, number, wanted, O.RDONLY);
    const stale = { code: 'ESTALE', syscall: 'open_by_handle_at' };
    await expect(attempt(inode, generation + 1)).rejects.toMatchObject(stale);
    await expect(attempt(8, 0)).rejects.toMatchObject(stale);
    await expect(attempt(5000, 0)).rejects.toMatchObject(stale);
    await l.unmount();
    await l.mount();
    const again = await l.open('.', O.RDONLY);
    await unlink(l.path('file'));
    await expect(openByHandle(again, inode, generation, O.RDONLY)).rejects.toMatchObject(stale);
  });
});

test('a file that is written to while it is scanned is found as the device has it, or doubtful', async () => {
  const l = await useLab({ size: 128 * MiB });
  await writeFile(l.path('file'), Buffer.alloc(700 * l.blockSize, 1));
  await l.fragment('file', 1);
  const { ino } = await lstat(l.path('file'));
  let stop = false;
  const writer = (async () => {
    const file = await open(l.path('file'), 'r+');
    for (let i = 0; !stop; i++) {
      await file.truncate((i % 700) * l.blockSize);
      await file.write(Buffer.alloc(700 * l.blockSize, 2), 0, undefined, 0);
      await file.datasync();
    }
    await file.close();
  })();
  const path = await l.device();
  for (let i = 0; i < 30; i++) {
    for await (const batch of scanInodeTables(await openDevice(path))) {
      for (const file of [...batch.files, ...batch.doubtful]) expect(file.inode).toBe(ino);
    }
  }
  stop = true;
  await writer;
});
