// How fast files are found and looked at.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { execa } from 'execa';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { bytes } from '../../lib/layout/units.ts';
import { Lab, MiB } from '../support/lab.ts';
import { atLeast, atMost, cool, e4defrag, events, median, ours, peak, scaled, seconds } from './bench.ts';

const DIRECTORIES = scaled(60_000);
const SMALL_FILES = scaled(100_000);
const FRAGMENTED = scaled(500);

export async function extents(): Promise<void> {
  const [few, many] = [scaled(200_000), scaled(1_000_000)];
  console.log(`check of files with ${few} and ${many} extents …`);
  const lab = await Lab.create({ size: 12 * 1024 * MiB });
  try {
    for (const count of [few, many]) {
      const name = `extents-${count}`;
      const fd = await lab.create(name);
      await fallocate(fd, 0, bytes(0), bytes(count * lab.blockSize));
      await lab.fragment(name, 1);
    }
    const fewer = lab.path(`extents-${few}`);
    await cool(lab);
    const small = await peak(() => ours('check', fewer));
    await cool(lab);
    const theirs = await seconds(() => e4defrag('-c', fewer));
    const large = await peak(() => ours('check', lab.path(`extents-${many}`)));
    console.log('  ours:', small, large, `e4defrag -c on ${few}:`, theirs);
    atLeast(50, 'check of 200 000 extents, speed of e4defrag -c', theirs / small.time);
    atMost(6, 'check, time of 5 times as many extents', large.time / small.time);
    atMost(250, 'check of 1 000 000 extents, memory', large.memory, 'MiB');
  } finally {
    await lab.close();
  }
}

/** 100 000 small files in 60 000 directories, and 500 that lie in pieces. */
async function smallFiles(): Promise<Lab> {
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

interface FileEvent {
  readonly type: string;
  readonly path: string;
  readonly fragments: number;
  readonly idealFragments: number;
}

async function fragmentedFiles(target: string): Promise<string[]> {
  const files = (await events('check', target)).filter(({ type }) => type === 'file') as FileEvent[];
  return files
    .filter(({ fragments, idealFragments }) => fragments > idealFragments)
    .map(({ path, fragments }) => `${path} ${fragments}`)
    .sort();
}

export async function scan(): Promise<void> {
  console.log(`${SMALL_FILES} small files in ${DIRECTORIES} directories, and ${FRAGMENTED} in pieces …`);
  const lab = await smallFiles();
  try {
    const target = lab.mountPoint;
    const directory = lab.path('.', 'whole');
    await execa('mkdir', [directory]);
    await execa('sh', ['-c', `mv ${lab.path('d')}* ${directory}`]);
    const cold = async (work: () => Promise<unknown>) => {
      await cool(lab);
      return seconds(work);
    };
    const theirs = () => e4defrag('-c', target);
    const times = {
      coldTables: await cold(() => ours('check', target)),
      coldWalk: await cold(() => ours('check', directory)),
      coldTheirs: await cold(theirs),
      warmTheirs: median([await seconds(theirs), await seconds(theirs)]),
      warmTables: median([
        await seconds(() => ours('check', target)),
        await seconds(() => ours('check', target)),
      ]),
      warmWalk: median([
        await seconds(() => ours('check', directory)),
        await seconds(() => ours('check', directory)),
      ]),
    };
    console.log('  seconds:', times);
    atLeast(30, 'scan, cold, tables, speed of e4defrag -c', times.coldTheirs / times.coldTables);
    atLeast(2, 'scan, cold, walk, speed of e4defrag -c', times.coldTheirs / times.coldWalk);
    atLeast(8, 'scan, warm, tables, speed of e4defrag -c', times.warmTheirs / times.warmTables);
    atLeast(1.5, 'scan, warm, walk, speed of e4defrag -c', times.warmTheirs / times.warmWalk);
    const [tables, walked] = [await fragmentedFiles(target), await fragmentedFiles(directory)];
    const same = tables.filter((file, i) => file === walked[i]).length;
    atLeast(FRAGMENTED, 'scan, fragmented files that tables and FIEMAP agree on', same, '');
  } finally {
    await lab.close();
  }
}

export async function inodes(): Promise<void> {
  const [few, many] = [scaled(200), scaled(1000)];
  console.log(`${many * 1000} inodes …`);
  const lab = await Lab.create({ size: 8 * 1024 * MiB, mkfs: ['-N', '1200000', '-O', '^has_journal'] });
  try {
    const measure = async () => {
      await cool(lab);
      return peak(() => ours('check', lab.mountPoint));
    };
    const fill = (from: number, to: number) => {
      for (let d = from; d < to; d++) {
        mkdirSync(lab.path(`d${d}`));
        for (let i = 0; i < 1000; i++) writeFileSync(lab.path(`d${d}`, `f${i}`), 'x');
      }
    };
    fill(0, few);
    const fifth = await measure();
    fill(few, many);
    const whole = await measure();
    console.log('  a fifth of them:', fifth, 'all:', whole);
    atMost(200, 'scan of 1 000 000 inodes, memory', whole.memory, 'MiB');
    atMost(6, 'scan, time of 5 times as many inodes', whole.time / fifth.time);
  } finally {
    await lab.close();
  }
}
