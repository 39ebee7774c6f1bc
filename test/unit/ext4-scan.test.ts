import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { FileLayout } from '../../lib/ext4/files.ts';
import { Invalid } from '../../lib/ext4/invalid.ts';
import { Ext4Device } from '../../lib/scan/device.ts';
import { scanInodeTables, type InodeBatch } from '../../lib/scan/inodeTables.ts';
import { makeSuperblock, superblockBytes, writeIndex, writeInode, writeLeaf } from '../support/ext4.ts';

const { blockSize, blocksCount, inodeSize, inodesPerGroup } = makeSuperblock();
const TABLES = 5000;

/** An image as mke2fs would shape it: four groups, whose inode tables lie side by side. */
class Image {
  readonly path: string;
  readonly #fd: number;

  constructor(blocks = blocksCount as number) {
    const folder = mkdtempSync(join(tmpdir(), 'ext4-defrag-image-'));
    this.path = join(folder, 'image');
    this.#fd = openSync(this.path, 'w');
    onTestFinished(() => {
      closeSync(this.#fd);
      rmSync(folder, { recursive: true });
    });
    ftruncateSync(this.#fd, blocks * blockSize);
    writeSync(this.#fd, superblockBytes(), 0, 1024, 1024);
    const descriptors = Buffer.alloc(4 * 64);
    for (let group = 0; group < 4; group++) {
      descriptors.writeUInt32LE(100 + group, group * 64);
      descriptors.writeUInt32LE(200 + group, group * 64 + 4);
      descriptors.writeUInt32LE(TABLES + group * 512, group * 64 + 8);
    }
    this.block(1, descriptors);
  }

  block(block: number, content: Buffer): void {
    writeSync(this.#fd, content, 0, content.length, block * blockSize);
  }

  /** A regular file; `fill` writes its extent tree's root. */
  inode(inode: number, fill: (buffer: Buffer, at: number) => void): void {
    const buffer = Buffer.alloc(inodeSize);
    writeInode(buffer, 0, { size: 4096, generation: inode * 10 });
    fill(buffer, 0x28);
    writeSync(this.#fd, buffer, 0, inodeSize, TABLES * blockSize + (inode - 1) * inodeSize);
  }

  leaf(block: number, firstLogical: number, extents = 340): void {
    const buffer = Buffer.alloc(blockSize);
    const list = Array.from({ length: extents }, (_, i) => ({
      logical: firstLogical + i,
      physical: 60_000 + ((firstLogical + i) % 1000) * 2,
      length: 1,
    }));
    writeLeaf(buffer, 0, list, 340);
    this.block(block, buffer);
  }

  index(block: number, children: readonly (readonly [number, number])[], depth: number): void {
    const buffer = Buffer.alloc(blockSize);
    writeIndex(buffer, 0, children, depth, 340);
    this.block(block, buffer);
  }
}

async function openImage(image: Image): Promise<Ext4Device> {
  const device = await Ext4Device.open(image.path);
  if (device instanceof Invalid) throw new Error(device.reason);
  onTestFinished(() => device.close());
  return device;
}

async function scan(image: Image, signal?: AbortSignal) {
  const batches: InodeBatch[] = [];
  for await (const batch of scanInodeTables(await openImage(image), { signal })) batches.push(batch);
  const files = batches.flatMap((batch) => [...batch.files]);
  const doubtful = batches.flatMap((batch) => [...batch.doubtful]);
  const byInode = (a: FileLayout, b: FileLayout) => a.inode - b.inode;
  return { batches, files: files.sort(byInode), doubtful: doubtful.sort(byInode) };
}

const single = (buffer: Buffer, at: number) =>
  writeLeaf(buffer, at, [{ logical: 0, physical: 3000, length: 1 }]);

test('files of all groups are found, and progress goes up to all inodes', async () => {
  const image = new Image();
  const inodes = [11, 12, inodesPerGroup, inodesPerGroup + 1, 3 * inodesPerGroup, 4 * inodesPerGroup];
  for (const inode of inodes) image.inode(inode, single);
  const { batches, files } = await scan(image);
  expect(files.map(({ inode, generation }) => [inode, generation])).toEqual(inodes.map((i) => [i, i * 10]));
  const done = batches.map((batch) => batch.done);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  expect(done.length).toBeGreaterThan(2);
  expect(batches.at(-1)).toMatchObject({ done: 4 * inodesPerGroup, total: 4 * inodesPerGroup });
  expect(batches.at(-1)!.counts.files).toBe(inodes.length);
});

test('trees of every depth are counted in logical order, though their blocks lie in no order', async () => {
  const image = new Image();
  image.leaf(9000, 0);
  image.leaf(8000, 340);
  image.inode(20, (buffer, at) => writeIndex(buffer, at, [[0, 9000] as const, [340, 8000] as const], 1));
  // Two levels of pointers below the root, each with one child to the left of the other.
  image.leaf(9100, 0);
  image.leaf(8900, 340);
  image.leaf(9200, 1000, 10);
  image.index(9300, [[0, 9100] as const, [340, 8900] as const], 1);
  image.index(9250, [[1000, 9200] as const], 1);
  image.index(9400, [[0, 9300] as const, [1000, 9250] as const], 2);
  image.inode(21, (buffer, at) => writeIndex(buffer, at, [[0, 9400] as const], 3));
  image.inode(22, single);
  const { files, doubtful } = await scan(image);
  expect(doubtful).toEqual([]);
  // In a leaf every extent is one block away from the last.
  expect(files).toMatchObject([
    { inode: 20, depth: 1, blocks: 680, fragments: 680 },
    { inode: 21, depth: 3, blocks: 690, fragments: 690 },
    { inode: 22, depth: 0, blocks: 1, fragments: 1 },
  ]);
});

test('a tree with a missing leaf, a wrong level or a loop makes its file doubtful, and no other', async () => {
  const image = new Image();
  image.leaf(9000, 0);
  image.inode(20, (buffer, at) => writeIndex(buffer, at, [[0, 9000] as const, [340, 9001] as const], 1));
  image.inode(21, (buffer, at) => writeIndex(buffer, at, [[0, 9000] as const], 2));
  image.index(9500, [[0, 9500] as const], 1);
  image.inode(22, (buffer, at) => writeIndex(buffer, at, [[0, 9500] as const], 2));
  image.inode(23, (buffer, at) => writeIndex(buffer, at, [[0, 9000] as const], 1));
  const { files, doubtful } = await scan(image);
  expect(doubtful.map(({ inode }) => inode)).toEqual([20, 21, 22]);
  expect(files).toMatchObject([{ inode: 23, fragments: 340 }]);
});

test('trees that share their nodes cannot keep the scan busy for ever', async () => {
  const image = new Image();
  // 340 × 340 leaves that thousands of inodes point to: more than the filesystem has blocks.
  const leaves = Array.from({ length: 340 }, (_, i) => [i, 10_000 + i] as const);
  for (const [logical, block] of leaves) image.leaf(block, logical, 1);
  image.index(9000, leaves, 1);
  const files = 2000;
  for (let inode = 20; inode < 20 + files; inode++) {
    image.inode(inode, (buffer, at) => writeIndex(buffer, at, [[0, 9000] as const], 2));
  }
  const { files: sound, doubtful } = await scan(image);
  expect(sound.length + doubtful.length).toBe(files);
  expect(sound.length).toBeGreaterThan(0);
  expect(sound.length * 341).toBeLessThanOrEqual(blocksCount);
});

test('an abort ends the scan quietly, and leaves no read behind', async () => {
  const image = new Image();
  image.inode(20, single);
  expect((await scan(image, AbortSignal.abort())).batches).toEqual([]);
  const device = await openImage(image);
  for await (const batch of scanInodeTables(device)) {
    expect(batch.done).toBeGreaterThan(0);
    break;
  }
});

test('a device smaller than its filesystem, and one without any, are refused with the reason', async () => {
  expect(await Ext4Device.open(new Image(blocksCount - 1).path)).toMatchObject({
    reason: 'its filesystem is larger than the device',
  });
  const image = new Image();
  image.block(0, Buffer.alloc(blockSize));
  expect(await Ext4Device.open(image.path)).toMatchObject({ reason: 'it has no ext4 superblock' });
  const damaged = new Image();
  damaged.block(1, Buffer.alloc(4 * 64));
  expect(await Ext4Device.open(damaged.path)).toMatchObject({
    reason: 'its group 0 has its block bitmap outside the filesystem',
  });
  await expect(Ext4Device.open('/nonexistent')).rejects.toMatchObject({ code: 'ENOENT' });
});
