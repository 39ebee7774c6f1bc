// How fast files are moved, large ones and small ones.
import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { execa } from 'execa';
import { blocks } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';
import { filefrag, Lab, MiB } from '../support/lab.ts';
import {
  atLeast,
  atMost,
  cool,
  defrag,
  e4defrag,
  fragmentsBelow,
  inform,
  overwrite,
  peak,
  random,
  rounds,
  scaled,
  seconds,
  writeEverywhere,
  writeFresh,
} from './bench.ts';

/** Moves a cold file of so many MiB, in fragments of so many blocks each, and lets others do what compares to it. */
async function againstOthers(size: number, run: () => number) {
  const lab = await Lab.create({ size: 6 * size * MiB + 3072 * MiB });
  try {
    await writeEverywhere(lab);
    for (const name of ['ours', 'theirs', 'contiguous']) await writeFresh(lab, name, size);
    for (const name of ['ours', 'theirs']) await lab.fragment(name, run);
    return await rounds(lab, async (restore) => {
      await cool(lab);
      const { time, memory } = await peak(() => defrag(lab.path('ours')));
      const left = await filefrag(lab.path('ours'));
      // Each on the image as it was: who comes first finds the machine's own disk slower.
      await restore();
      await cool(lab);
      const copy = await seconds(async () => {
        await execa('cp', ['--reflink=never', lab.path('contiguous'), lab.path('copy')]);
        await execa('sync', [lab.path('copy')]);
      });
      await restore();
      await cool(lab);
      const theirs = await seconds(() => e4defrag(lab.path('theirs')));
      return {
        ours: time,
        copy,
        theirs,
        perCopy: copy / time,
        perTheirs: theirs / time,
        memory,
        left,
        theirsLeft: await filefrag(lab.path('theirs')),
      };
    });
  } finally {
    await lab.close();
  }
}

export async function move(): Promise<void> {
  console.log('a cold 512 MiB file in fragments of 4 to 64 KiB, against e4defrag and cp + fsync …');
  const below = random();
  const { perCopy, perTheirs, left } = await againstOthers(scaled(512), () => 1 + below(16));
  atLeast(8, 'move, speed of e4defrag', perTheirs);
  atLeast(0.4, 'move, speed of cp + fsync', perCopy);
  atMost(1, 'move, fragments left', left, '');
}

export async function big(): Promise<void> {
  console.log('a cold 1 GiB file in fragments of 64 KiB, against e4defrag and cp + fsync …');
  const { perCopy, perTheirs, memory } = await againstOthers(scaled(1024), () => 16);
  atLeast(10, 'big, speed of e4defrag', perTheirs);
  atLeast(0.45, 'big, speed of cp + fsync', perCopy);
  atMost(150, 'big, memory', memory, 'MiB');
}

/** Files of 64 to 256 KiB in 4 to 16 fragments each, in 200 directories. */
async function smallFiles(lab: Lab, count: number): Promise<void> {
  const content = randomBytes(MiB);
  const below = random();
  const directories = Array.from({ length: 200 }, (_, i) => lab.path(`d${i}`));
  for (const path of directories) mkdirSync(path);
  const files = Array.from({ length: count }, (_, i) => {
    const [size, fragments] = [16 + below(49), 4 + below(13)];
    return { path: `${directories[i % 200]}/f${i}`, size, run: Math.max(1, Math.round(size / fragments)) };
  });
  const root = openSync(lab.mountPoint, 'r');
  const make = async () => {
    for (let next = files.pop(); next !== undefined; next = files.pop()) {
      const { path, size, run } = next;
      const fd = openSync(path, 'wx+');
      writeSync(fd, content, below(MiB / 4), size * lab.blockSize, 0);
      fsyncSync(fd);
      await fragmentFile(fd, root, lab.blockSize, () => blocks(run));
      closeSync(fd);
    }
  };
  try {
    await Promise.all([make(), make(), make()]);
  } finally {
    closeSync(root);
  }
}

export async function small(): Promise<void> {
  const count = scaled(20_000);
  console.log(`${count} files of 64 to 256 KiB in 4 to 16 fragments each, against e4defrag …`);
  const lab = await Lab.create({ size: 8 * 1024 * MiB });
  try {
    await smallFiles(lab, count);
    const before = await fragmentsBelow(lab.mountPoint);
    const measured = await rounds(lab, async (restore) => {
      await cool(lab);
      const { time, memory } = await peak(() => defrag(lab.mountPoint));
      const left = await fragmentsBelow(lab.mountPoint);
      await restore();
      await cool(lab);
      const theirs = await seconds(() => e4defrag(lab.mountPoint));
      const theirsLeft = await fragmentsBelow(lab.mountPoint);
      return { ours: time, theirs, perTheirs: theirs / time, memory, left, theirsLeft };
    });
    console.log(`  (seconds, MiB and fragments left of ${before})`);
    atLeast(4, 'small, speed of e4defrag', measured.perTheirs);
    atMost(measured.theirsLeft, 'small, fragments left', measured.left, '');
    atMost(150, 'small, memory', measured.memory, 'MiB');
  } finally {
    await lab.close();
  }
}

async function cachedBytes(path: string): Promise<number> {
  const { stdout } = await execa('fincore', ['--bytes', '--noheadings', '--output', 'RES', path]);
  return Number(stdout);
}

export async function warm(): Promise<void> {
  console.log('a 512 MiB file in fragments of 64 KiB, cold and in the cache …');
  const size = scaled(512);
  const lab = await Lab.create({ size: 6 * size * MiB + 1024 * MiB });
  const ways = {
    cold: () => Promise.resolve(),
    read: (path: string) => execa('dd', ['if=' + path, 'of=/dev/null', 'bs=4M', 'status=none']),
    // What it lies in stays the same.
    written: async (_path: string, name: string) => overwrite(await lab.open(name), size),
  };
  try {
    for (const name of Object.keys(ways)) {
      await writeFresh(lab, name, size);
      await lab.fragment(name, 16);
    }
    const measured = await rounds(lab, async () => {
      const result = { cold: 0, read: 0, written: 0, left: 0 };
      for (const name of ['cold', 'read', 'written'] as const) {
        const path = lab.path(name);
        await cool(lab);
        await ways[name](path, name);
        const cached = await cachedBytes(path);
        if (name !== 'cold' && cached < size * MiB) throw new Error(`of ${name} only ${cached} B are cached`);
        result[name] = await seconds(() => defrag(path));
        result.left = Math.max(result.left, await filefrag(path));
      }
      return result;
    });
    console.log('  seconds and fragments left:', measured);
    atLeast(1 / 3, 'warm, cached by reading, speed of the cold file', measured.cold / measured.read);
    atLeast(1 / 3, 'warm, cached by writing, speed of the cold file', measured.cold / measured.written);
    inform('warm, most fragments left', measured.left, '');
  } finally {
    await lab.close();
  }
}
