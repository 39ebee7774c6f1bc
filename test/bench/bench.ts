// What the benches have in common: cold filesystems, rounds, measures, and the table of results.
import { randomBytes } from 'node:crypto';
import { fsyncSync, ftruncateSync, readFileSync, writeSync } from 'node:fs';
import { copyFile, readFile, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type Lab, MiB } from '../support/lab.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** BENCH_SCALE makes the benches smaller, to try them out: what they measure then proves nothing. */
export const SCALE = Number(process.env.BENCH_SCALE ?? 1);
if (!(SCALE > 0 && SCALE <= 1)) throw new Error('BENCH_SCALE is above 0, and 1 at most');

export const scaled = (amount: number, least = 1): number => Math.max(least, Math.round(amount * SCALE));

interface Row {
  readonly what: string;
  readonly measured: string;
  readonly target: string;
  /** undefined when there is no target. */
  readonly reached: boolean | undefined;
}

const rows: Row[] = [];

const show = (value: number, unit: string) => `${Number(value.toFixed(value < 10 ? 2 : 0))} ${unit}`.trim();

export function atLeast(target: number, what: string, measured: number, unit = '×'): void {
  const reached = measured >= target;
  rows.push({ what, measured: show(measured, unit), target: `≥ ${show(target, unit)}`, reached });
}

export function atMost(target: number, what: string, measured: number, unit = '×'): void {
  const reached = measured <= target;
  rows.push({ what, measured: show(measured, unit), target: `≤ ${show(target, unit)}`, reached });
}

/** What belongs to the results and has no target. */
export function inform(what: string, measured: number, unit = '×'): void {
  rows.push({ what, measured: show(measured, unit), target: '', reached: undefined });
}

export function broken(bench: string, error: unknown): void {
  console.error(error);
  rows.push({ what: bench, measured: 'failed', target: '', reached: false });
}

/** @returns whether all targets were reached */
export function printRows(): boolean {
  const shown = rows.map(({ what, reached, ...row }) => [
    what,
    { ...row, reached: reached === undefined ? '' : reached ? 'yes' : 'NO' },
  ]);
  console.table(Object.fromEntries(shown));
  return rows.every(({ reached }) => reached !== false);
}

export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

export const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1];

/** A command whose output is of interest only when it fails. */
const run = (file: string, args: readonly string[]) => execa(file, args, { stdout: 'ignore' });

export const ours = (...args: string[]) => run(process.execPath, [CLI, ...args]);

/** As users run it, only that no run knows of an earlier one. */
export const defrag = (...args: string[]) => ours('defrag', '--no-state', ...args);

export const e4defrag = (...args: string[]) => run('e4defrag', args);

/** What the command prints with --json. */
export async function events(...args: string[]): Promise<{ type: string }[]> {
  const { stdout } = await execa(process.execPath, [CLI, ...args, '--json']);
  return stdout.split('\n').map((line) => JSON.parse(line) as { type: string });
}

/** The peak resident memory, in MiB, of the command that is started, and its seconds. */
export async function peak(start: () => ReturnType<typeof ours>): Promise<{ memory: number; time: number }> {
  let memory = 0;
  const time = await seconds(async () => {
    const child = start();
    const timer = setInterval(() => {
      try {
        const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
        memory = Math.max(memory, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
      } catch {
        // It has just ended.
      }
    }, 10);
    await child.finally(() => clearInterval(timer));
  });
  return { memory, time };
}

/**
 * Remounts, so that nothing is cached: the loop device reads the image past the page cache. The programs are: what is
 * compared is how they treat a cold filesystem, not how fast they are read from the machine's own disk.
 */
export async function cool(lab: Lab): Promise<void> {
  await lab.remount();
  await execa('losetup', ['--direct-io=on', await lab.device()]);
  await execa('sync', [lab.image]);
  await execa('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
  await ours('defrag', '/dev/null').catch(() => undefined);
  for (const program of ['e4defrag', 'cp', 'sync', 'filefrag']) await execa(program, { reject: false });
}

/** At most, and always an odd number of them. */
const ROUNDS = 5;
/** Seconds after which no more are begun. */
const LONG = 240;

/** Brings the image back to what it was, and mounts it again. */
export type Restore = () => Promise<void>;

/** Makes a copy of the image as it is now. A restored image has no holes: the machine's own disk need not fill them. */
export async function keepMaster(lab: Lab): Promise<Restore> {
  const master = `${lab.image}.master`;
  await lab.unmount();
  await execa('cp', ['--sparse=always', lab.image, master]);
  await lab.mount();
  return async () => {
    await lab.unmount();
    await copyFile(master, lab.image);
    await lab.mount();
  };
}

/**
 * Runs several rounds, each on the same image anew; a round answers numbers by name, and the medians are answered. What is
 * compared should be a number of the round's own: the machine's disk may be slow for minutes.
 */
export async function rounds<K extends string>(
  lab: Lab,
  round: (restore: Restore) => Promise<Record<K, number>>,
): Promise<Record<K, number>> {
  const restore = await keepMaster(lab);
  const all: Record<K, number>[] = [];
  const end = performance.now() + LONG * 1000;
  do {
    await restore();
    all.push(await round(restore));
  } while (all.length < ROUNDS && (all.length % 2 === 0 || performance.now() < end));
  console.table(all);
  const keys = Object.keys(all[0]) as K[];
  const medians = keys.map((key) => [key, median(all.map((numbers) => numbers[key]))]);
  return Object.fromEntries(medians) as Record<K, number>;
}

/** Natural numbers below a limit, the same in each run. */
export function random(): (limit: number) => number {
  let state = 12345;
  return (limit) => ((state = (state * 1103515245 + 12345) % 2 ** 31) >> 8) % limit;
}

/** Writes a new file, so many MiB long, of random content in large writes: it lies as contiguous as ext4 makes it. */
export async function writeFresh(lab: Lab, name: string, size: number): Promise<void> {
  overwrite(await lab.create(name), size);
}

/**
 * Writes to all blocks of a new filesystem once, and frees them again: what lies under the image may find room for a
 * block only when it is written first, and whoever comes to such a block would wait for that.
 */
export async function writeEverywhere(lab: Lab): Promise<void> {
  const content = randomBytes(MiB);
  const fd = await lab.create('everywhere');
  try {
    for (;;) writeSync(fd, content);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
  fsyncSync(fd);
  // It stays open as long as the filesystem is mounted.
  ftruncateSync(fd, 0);
  await rm(lab.path('everywhere'));
}

export function overwrite(fd: number, size: number): void {
  const content = randomBytes(MiB);
  for (let i = 0; i < size; i++) writeSync(fd, content, 0, MiB, i * MiB);
  fsyncSync(fd);
}

/** How many fragments filefrag(8) counts in all files of a tree. */
export async function fragmentsBelow(path: string): Promise<number> {
  const script = 'find "$1" -xdev -type f -print0 | xargs -0 filefrag';
  const { stdout } = await execa('sh', ['-c', script, 'sh', path]);
  return [...stdout.matchAll(/: (\d+) extents? found$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Where each block of a file lies, as filefrag(8) shows it; blocks are 4 KiB. */
export async function blocksOf(path: string): Promise<number[]> {
  const { stdout } = await execa('filefrag', ['-v', path]);
  const where: number[] = [];
  for (const [, from, to, physical] of stdout.matchAll(/^ *\d+: +(\d+)\.\. *(\d+): +(\d+)\.\./gm))
    for (let block = Number(from); block <= Number(to); block++)
      where[block] = Number(physical) + block - Number(from);
  return where;
}

/** The MiB that lie elsewhere than before. */
export const movedSince = (before: readonly number[], after: readonly number[]): number =>
  (after.filter((physical, block) => physical !== before[block]).length * 4096) / MiB;

/** The MiB that were written to the filesystem's device for some work, up to its last commit. */
export async function writtenFor(lab: Lab, work: () => Promise<unknown>): Promise<number> {
  const counter = `/sys/fs/ext4/${basename(await lab.device())}/session_write_kbytes`;
  const now = async () => {
    await execa('sync', ['-f', lab.mountPoint]);
    return Number(await readFile(counter, 'utf8'));
  };
  const before = await now();
  await work();
  return ((await now()) - before) / 1024;
}
