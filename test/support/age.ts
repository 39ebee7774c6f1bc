// Filesystems as years of use leave them: free space in small pieces, and files in many.
import { createCipheriv } from 'node:crypto';
import { closeSync, fstatSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { fallocate } from '../../lib/kernel/allocate.ts';
import type { ExtentTable } from '../../lib/layout/extents.ts';
import { bytes, type Bytes } from '../../lib/layout/units.ts';
import { MiB, type Lab } from './lab.ts';
import { commit, extentsOf, freeMap } from './layout.ts';
import { randomFrom } from './random.ts';

export interface AgeOptions {
  /** How much of the blocks is used at the end, from 0 to 1; what is missed is less than a hundredth. */
  readonly fill: number;
  /** The same seed makes much the same files (1). Which exactly is up to where the kernel puts them: compare copies. */
  readonly seed?: number;
  /** Of the largest file (64 MiB, or a sixteenth of a small filesystem). */
  readonly largest?: Bytes;
}

/**
 * Fills and deletions; how full it is when files are deleted, which is less than what ext4 keeps for itself allows (2 %,
 * s_resv_clusters), and how full they leave it each time but the last.
 */
const AGEING = { generations: 3, full: 0.97, kept: 0.6 };
/** Files that grow at the same time, and how many of a hundred steps make a new small file instead. */
const GROWING = { files: 6, small: 30 };
/** Fewest and most KiB. */
const SMALL = [4, 320] as const;
/** Of the pieces in which one half of the large files grows, and the other. */
const PIECES = [
  [4, 64],
  [4, 256],
] as const;
/** KiB: the runs of free blocks that are left at the end are hardly longer. */
const HOLES = 64;
/** How much of a file may come to lie in longer ones all the same: large files have many neighbours. */
const IN_LONGER_HOLES = 0.25;
/** Directories of the root, and directories in each of them. */
const TREE = [8, 8] as const;

interface AgedFile {
  /** Below the mount point. */
  readonly name: string;
  blocks: number;
}

interface GrowingFile {
  readonly fd: number;
  readonly file: AgedFile;
  /** Blocks that it will have. */
  readonly end: number;
  readonly pieces: (typeof PIECES)[number];
}

/**
 * Ages an empty filesystem: small files are made while large ones grow in pieces, many are deleted when it is full, and
 * all begins again in what they left. Blocks are only allocated at first: what is deleted need not be written. Then
 * every block of what is left gets content of its own.
 *
 * @returns the names of all files, below the mount point
 */
export async function age(lab: Lab, options: AgeOptions): Promise<string[]> {
  const ageing = new Ageing(lab, options);
  for (let generation = 1; generation <= AGEING.generations; generation++) {
    await ageing.fill(AGEING.full);
    if (generation < AGEING.generations) await ageing.thin(AGEING.kept);
    else await ageing.thinFinely(options.fill);
  }
  return ageing.write();
}

class Ageing {
  readonly #lab: Lab;
  readonly #below: (limit: number) => number;
  readonly #largest: number;
  #files: AgedFile[] = [];
  #made = 0;

  constructor(lab: Lab, { seed = 1, largest }: AgeOptions) {
    this.#lab = lab;
    this.#below = randomFrom(seed);
    this.#largest = largest ?? Math.min(64 * MiB, this.#space().total / 16);
    for (let i = 0; i < TREE[0]; i++) {
      for (let j = 0; j < TREE[1]; j++) mkdirSync(lab.path(`d${i}`, `e${j}`), { recursive: true });
    }
  }

  /** Bytes. */
  #space(): { total: number; used: number } {
    const { blocks, bfree, bsize } = statfsSync(this.#lab.mountPoint);
    return { total: blocks * bsize, used: (blocks - bfree) * bsize };
  }

  /** Blocks, from so many KiB to so many, more often few: half of the sizes from 4 to 256 KiB are below 8 KiB. */
  #size([fewest, most]: readonly [number, number]): number {
    const { blockSize } = this.#lab;
    const size = fewest * 1024 * (most / fewest) ** ((this.#below(1 << 16) / (1 << 16)) ** 3);
    return Math.max(1, Math.round(size / blockSize));
  }

  #create(): { fd: number; file: AgedFile } {
    const name = `d${this.#below(TREE[0])}/e${this.#below(TREE[1])}/f${this.#made++}`;
    const file = { name, blocks: 0 };
    this.#files.push(file);
    return { fd: openSync(this.#lab.path(name), 'wx+'), file };
  }

  /** Allocates more blocks at the end of a file. Its size need not be a multiple of them. */
  async #grow(fd: number, file: AgedFile, count: number): Promise<void> {
    const { blockSize } = this.#lab;
    const length = count * blockSize - this.#below(blockSize);
    await fallocate(fd, 0, bytes(file.blocks * blockSize), bytes(length));
    file.blocks += count;
  }

  async fill(share: number): Promise<void> {
    const { total, used } = this.#space();
    const { blockSize } = this.#lab;
    const growing: GrowingFile[] = [];
    let left = Math.floor((total * share - used) / blockSize);
    try {
      while (left > 0) left -= await this.#step(growing, left);
    } finally {
      for (const { fd } of growing) closeSync(fd);
    }
  }

  /** A new small file, or one piece more of one that grows. @returns the blocks it took, `most` at most */
  async #step(growing: GrowingFile[], most: number): Promise<number> {
    if (this.#below(100) < GROWING.small) {
      const { fd, file } = this.#create();
      try {
        await this.#grow(fd, file, Math.min(most, this.#size(SMALL)));
      } finally {
        closeSync(fd);
      }
      return file.blocks;
    }
    if (growing.length < GROWING.files) {
      const end = this.#size([64, this.#largest / 1024]);
      growing.push({ ...this.#create(), end, pieces: PIECES[this.#below(PIECES.length)] });
    }
    const i = this.#below(growing.length);
    const { fd, file, end, pieces } = growing[i];
    const count = Math.min(most, this.#size(pieces), end - file.blocks);
    await this.#grow(fd, file, count);
    if (file.blocks === end) {
      closeSync(fd);
      growing.splice(i, 1);
    }
    return count;
  }

  /** Deletes files until hardly more than this share is used. */
  async thin(share: number): Promise<void> {
    this.#delete(this.#excess(share), () => true);
    await commit(this.#lab);
  }

  /** The same, and the runs of free blocks that it leaves are as short as the choice of files allows. */
  async thinFinely(share: number): Promise<void> {
    const { blockSize } = this.#lab;
    const places = await this.#places();
    const free = await freeMap(this.#lab);
    const isFine = (file: AgedFile, limit: number) => {
      const extents = places.get(file)!;
      if (inLongerRuns(extents, free, limit) > file.blocks * IN_LONGER_HOLES) return false;
      for (const { physical, length } of extents) free.fill(1, physical, physical + length);
      return true;
    };
    for (let limit = (HOLES * 1024) / blockSize; this.#excess(share).blocks > 0; limit *= 2) {
      if (limit > free.length) throw new Error(`the files do not allow for ${share} of the blocks in use`);
      this.#delete(this.#excess(share), (file) => isFine(file, limit));
    }
    await commit(this.#lab);
  }

  /** Blocks that are used above a share, nothing when there are hardly any, and how many more may be freed. */
  #excess(share: number): { blocks: number; tolerance: number } {
    const { total, used } = this.#space();
    const { blockSize } = this.#lab;
    const [blocks, tolerance] = [used - total * share, total * 0.003].map((size) =>
      Math.floor(size / blockSize),
    );
    return { blocks: blocks > tolerance ? blocks : 0, tolerance };
  }

  #delete(
    { blocks, tolerance }: { blocks: number; tolerance: number },
    takes: (file: AgedFile) => boolean,
  ): void {
    let left = blocks;
    this.#shuffle();
    this.#files = this.#files.filter((file) => {
      if (left <= 0 || file.blocks > left + tolerance || !takes(file)) return true;
      rmSync(this.#lab.path(file.name));
      left -= file.blocks;
      return false;
    });
  }

  async #places(): Promise<Map<AgedFile, ExtentTable>> {
    const places = new Map<AgedFile, ExtentTable>();
    for (const file of this.#files) places.set(file, await extentsOf(this.#lab, file.name));
    return places;
  }

  #shuffle(): void {
    const files = this.#files;
    for (let i = files.length - 1; i > 0; i--) {
      const j = this.#below(i + 1);
      [files[i], files[j]] = [files[j], files[i]];
    }
  }

  async write(): Promise<string[]> {
    const { blockSize } = this.#lab;
    const content = keystream(MiB);
    for (const [number, { name }] of this.#files.entries()) {
      const fd = openSync(this.#lab.path(name), 'r+');
      try {
        const { size } = fstatSync(fd);
        for (let position = 0; position < size; position += content.length) {
          // No two blocks are the same.
          for (let at = 0; at < content.length; at += blockSize) {
            content.writeUInt32LE(number, at);
            content.writeUInt32LE((position + at) / blockSize, at + 4);
          }
          writeSync(fd, content, 0, Math.min(content.length, size - position), position);
        }
      } finally {
        closeSync(fd);
      }
    }
    await commit(this.#lab);
    return this.#files.map(({ name }) => name);
  }
}

/** Blocks of a file that would come to lie in runs of free blocks longer than the limit if they became free. */
function inLongerRuns(extents: ExtentTable, free: Uint8Array, limit: number): number {
  let sum = 0;
  for (const { physical, length } of extents) {
    const start = free.lastIndexOf(0, physical - 1) + 1;
    const end = free.indexOf(0, physical + length);
    if (end - start > limit) sum += length;
  }
  return sum;
}

/** Bytes that do not compress, always the same. */
function keystream(length: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(length));
}
