import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { Lab, MiB } from '../support/lab.ts';

const DIRECTORIES = 60_000;
const SMALL_FILES = 100_000;
const FRAGMENTED = 500;

/** 100 000 small files in 60 000 directories, and 500 that lie in pieces. */
export async function smallFiles(): Promise<Lab> {
  const lab = await Lab.create({ size: 4 * 1024 * MiB, mkfs: ['-N', '400000'] });
  const directories: string[] = [];
  // Three levels: 40 × 40 directories that hold the others.
  for (let i = 0; directories.length < DIRECTORIES; i++) {
    const path = lab.path(`d${i % 40}`, `e${Math.floor(i / 40) % 40}`, `f${i}`);
    mkdirSync(path, { recursive: true });
    directories.push(path);
  }
  const content = randomBytes(16 * 1024);
  for (let i = 0; i < SMALL_FILES; i++) {
    writeFileSync(
      `${directories[(i * 7919) % DIRECTORIES]}/file${i}`,
      content.subarray(0, 1 + ((i * 977) % 16384)),
    );
  }
  for (let i = 0; i < FRAGMENTED; i++) {
    const name = directories[(i * 104729) % DIRECTORIES].slice(lab.path('').length) + `/pieces${i}`;
    writeFileSync(lab.path(name), randomBytes((4 + (i % 60)) * 4096));
    await lab.fragment(name, 1 + (i % 3));
  }
  return lab;
}
