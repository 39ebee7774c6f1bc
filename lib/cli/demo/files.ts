import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, ftruncateSync, writeSync } from 'node:fs';
import { link, open, stat, writeFile } from 'node:fs/promises';
import { fallocate } from '../../kernel/allocate.ts';
import { fiemap } from '../../kernel/fiemap.ts';
import { mergeExtents, type ExtentTable } from '../../layout/extents.ts';
import { blocks, bytes, type Bytes } from '../../layout/units.ts';
import { fragmentFile } from '../../move/fragment.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** A kind of file that a defragmenter has to get right. */
export interface DemoFile {
  readonly name: string;
  readonly about: string;
  /** Blocks of each fragment that it is made to lie in. */
  readonly fragmentBlocks: number;
  readonly fill: (path: string) => Promise<void>;
}

export const DEMO_FILES: readonly DemoFile[] = [
  {
    name: 'video',
    about: '64 MiB in fragments of 16 KiB',
    fragmentBlocks: 4,
    fill: (path) => writeFile(path, randomBytes(64 * MiB)),
  },
  {
    name: 'sparse',
    about: 'with holes',
    fragmentBlocks: 8,
    fill: (path) =>
      withFile(path, (fd) => {
        for (let i = 0; i < 64; i++) writeSync(fd, randomBytes(128 * KiB), 0, 128 * KiB, i * 384 * KiB);
        ftruncateSync(fd, 64 * 384 * KiB);
      }),
  },
  {
    name: 'database',
    about: 'half of it allocated and not written yet',
    fragmentBlocks: 8,
    fill: (path) =>
      withFile(path, async (fd) => {
        await fallocate(fd, 0, bytes(0), bytes(16 * MiB));
        writeSync(fd, randomBytes(8 * MiB));
      }),
  },
  {
    name: 'mail',
    about: 'small, its tail shorter than a block',
    fragmentBlocks: 2,
    fill: (path) => writeFile(path, randomBytes(200 * KiB + 17)),
  },
  {
    name: 'linked',
    about: 'with a second name',
    fragmentBlocks: 4,
    fill: async (path) => {
      await writeFile(path, randomBytes(4 * MiB));
      await link(path, `${path}-too`);
    },
  },
];

async function withFile<T>(path: string, work: (fd: number) => Promise<T> | T, flags = 'w+'): Promise<T> {
  const file = await open(path, flags);
  try {
    return await work(file.fd);
  } finally {
    await file.close();
  }
}

/** Makes a file lie in fragments of so many blocks. */
export function scatter(path: string, directory: string, fragment: number, blockSize: Bytes): Promise<void> {
  return withFile(
    directory,
    (dirFd) => withFile(path, (fd) => fragmentFile(fd, dirFd, blockSize, () => blocks(fragment)), 'r+'),
    'r',
  );
}

/** A file's merged extents. */
export function layoutOf(path: string, blockSize: Bytes): Promise<ExtentTable> {
  return withFile(path, async (fd) => mergeExtents(await fiemap(fd, blockSize)), 'r');
}

/** What must not change when a file is defragmented, in one string. */
export async function identify(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  const { size, mode, mtimeNs } = await stat(path, { bigint: true });
  return [hash.digest('hex'), size, mode, mtimeNs].join();
}
