// `npm run bench`: what the project promises about speed, as ratios measured in one run on one machine. Root only.
// `npm run bench -- NAME …` runs some of them.
import { randomBytes } from 'node:crypto';
import { fsyncSync, mkdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { bytes } from '../../lib/layout/units.ts';
import { filefrag, Lab, MiB } from '../support/lab.ts';
import { smallFiles } from './scan.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const rows: { what: string; measured: string; target: string; reached: boolean }[] = [];

function report(what: string, measured: number, target: number, unit = '×', atMost = false): void {
  const reached = atMost ? measured <= target : measured >= target;
  rows.push({
    what,
    measured: `${measured.toFixed(measured < 10 ? 2 : 0)} ${unit}`,
    target: `${atMost ? '≤' : '≥'} ${target} ${unit}`,
    reached,
  });
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1];

const ours = (...args: string[]) =>
  execa(process.execPath, [CLI, ...args], { buffer: false, stdout: 'ignore' });

/**
 * Remounts, so that nothing is cached: the loop device reads the image past the page cache. The programs are: what is
 * compared is how they treat a cold filesystem, not how fast they are read from the machine's own disk.
 */
async function cool(lab: Lab): Promise<void> {
  await lab.remount();
  await execa('losetup', ['--direct-io=on', await lab.device()]);
  await execa('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
  await ours('defrag', '/dev/null').catch(() => undefined);
  for (const program of ['e4defrag', 'cp', 'sync', 'filefrag']) await execa(program, { reject: false });
}

/** Runs several rounds, each on the same image anew; a round answers numbers by name, and the medians are answered. */
async function rounds<K extends string>(
  lab: Lab,
  count: number,
  round: () => Promise<Record<K, number>>,
): Promise<Record<K, number>> {
  await lab.unmount();
  const master = `${lab.image}.master`;
  await execa('cp', ['--sparse=always', lab.image, master]);
  await lab.mount();
  const all: Record<K, number>[] = [];
  for (let i = 0; i < count; i++) {
    if (i > 0) {
      await lab.unmount();
      await copyFile(master, lab.image);
      await lab.mount();
    }
    all.push(await round());
  }
  return Object.fromEntries(
    Object.keys(all[0]).map((key) => [key, median(all.map((numbers) => numbers[key as K]))]),
  ) as Record<K, number>;
}

async function bigFile(): Promise<void> {
  console.log('a cold 512 MiB file in fragments of 4 to 64 KiB, against e4defrag and cp + fsync …');
  const lab = await Lab.create({ size: 6 * 1024 * MiB });
  try {
    const content = randomBytes(MiB);
    for (const name of ['ours', 'theirs', 'contiguous']) {
      const fd = await lab.create(name);
      for (let i = 0; i < 512; i++) writeSync(fd, content, 0, MiB, i * MiB);
      fsyncSync(fd);
    }
    let state = 12345;
    const run = () => 1 + (((state = (state * 1103515245 + 12345) % 2 ** 31) >> 8) % 16);
    for (const name of ['ours', 'theirs']) await lab.fragment(name, run);
    const times = await rounds(lab, 3, async () => {
      await cool(lab);
      const defrag = await seconds(() => ours('defrag', lab.path('ours')));
      const left = await filefrag(lab.path('ours'));
      await cool(lab);
      const copy = await seconds(async () => {
        await execa('cp', ['--reflink=never', lab.path('contiguous'), lab.path('copy')]);
        await execa('sync', [lab.path('copy')]);
      });
      await execa('rm', [lab.path('copy')]);
      await cool(lab);
      const e4defrag = await seconds(() => execa('e4defrag', [lab.path('theirs')]));
      return { defrag, copy, e4defrag, left, theirsLeft: await filefrag(lab.path('theirs')) };
    });
    console.log('  seconds and fragments left:', times);
    report('move, speed of e4defrag', times.e4defrag / times.defrag, 8);
    report('move, speed of cp + fsync', times.copy / times.defrag, 0.4);
    report('move, fragments left', times.left, 1, '', true);
  } finally {
    await lab.close();
  }
}

/** The peak resident memory of a command in MiB, and its seconds. */
async function peak(args: string[]): Promise<{ memory: number; time: number }> {
  let memory = 0;
  const time = await seconds(async () => {
    const child = ours(...args);
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

async function manyExtents(): Promise<void> {
  console.log('check of files with 200 000 and 1 000 000 extents …');
  const lab = await Lab.create({ size: 12 * 1024 * MiB });
  try {
    for (const count of [200_000, 1_000_000]) {
      const name = `extents-${count}`;
      const fd = await lab.create(name);
      await fallocate(fd, 0, bytes(0), bytes(count * lab.blockSize));
      await lab.fragment(name, 1);
    }
    await cool(lab);
    const small = await peak(['check', lab.path('extents-200000')]);
    await cool(lab);
    const theirs = await seconds(() => execa('e4defrag', ['-c', lab.path('extents-200000')]));
    const large = await peak(['check', lab.path('extents-1000000')]);
    console.log('  ours:', small, large, 'e4defrag -c on 200 000:', theirs);
    report('check of 200 000 extents, speed of e4defrag -c', theirs / small.time, 50);
    report('check, time of 5 times as many extents', large.time / small.time, 6, '×', true);
    report('check of 1 000 000 extents, memory', large.memory, 250, 'MiB', true);
  } finally {
    await lab.close();
  }
}

async function startUp(): Promise<void> {
  console.log('start-up time …');
  const [node, version]: number[][] = [[], []];
  for (let i = 0; i < 21; i++) {
    node.push(await seconds(() => execa(process.execPath, ['-e', '0'])));
    version.push(await seconds(() => ours('--version')));
  }
  report('--version, time of node -e 0', median(version) / median(node), 2, '×', true);
}

async function scan(): Promise<void> {
  console.log('100 000 small files in 60 000 directories, and 500 in pieces …');
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
    const theirs = () => execa('e4defrag', ['-c', target], { buffer: false, stdout: 'ignore' });
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
    report('scan, cold, tables, speed of e4defrag -c', times.coldTheirs / times.coldTables, 30);
    report('scan, cold, walk, speed of e4defrag -c', times.coldTheirs / times.coldWalk, 2);
    report('scan, warm, tables, speed of e4defrag -c', times.warmTheirs / times.warmTables, 8);
    report('scan, warm, walk, speed of e4defrag -c', times.warmTheirs / times.warmWalk, 1.5);
    const found = async (args: string[]) =>
      (await execa(process.execPath, [CLI, 'check', '--json', ...args])).stdout
        .split('\n')
        .map(
          (line) =>
            JSON.parse(line) as { type: string; path: string; fragments: number; idealFragments: number },
        )
        .filter(({ type, fragments, idealFragments }) => type === 'file' && fragments > idealFragments)
        .map(({ path, fragments }) => `${path} ${fragments}`)
        .sort();
    const [tables, walked] = [await found([target]), await found([directory])];
    report(
      'scan, fragmented files that tables and FIEMAP agree on',
      tables.filter((x, i) => x === walked[i]).length,
      500,
      '',
    );
  } finally {
    await lab.close();
  }
}

async function manyInodes(): Promise<void> {
  console.log('1 000 000 inodes …');
  const lab = await Lab.create({ size: 8 * 1024 * MiB, mkfs: ['-N', '1200000', '-O', '^has_journal'] });
  try {
    const measure = async () => {
      await cool(lab);
      return peak(['check', lab.mountPoint]);
    };
    const fill = (from: number, to: number) => {
      for (let d = from; d < to; d++) {
        mkdirSync(lab.path(`d${d}`));
        for (let i = 0; i < 1000; i++) writeFileSync(lab.path(`d${d}`, `f${i}`), 'x');
      }
    };
    fill(0, 200);
    const fifth = await measure();
    fill(200, 1000);
    const whole = await measure();
    console.log('  200 000:', fifth, '1 000 000:', whole);
    report('scan of 1 000 000 inodes, memory', whole.memory, 200, 'MiB', true);
    report('scan, time of 5 times as many inodes', whole.time / fifth.time, 6, '×', true);
  } finally {
    await lab.close();
  }
}

const all = { start: startUp, move: bigFile, extents: manyExtents, scan, inodes: manyInodes };
const wanted = process.argv.slice(2);
for (const [name, bench] of Object.entries(all))
  if (wanted.length === 0 || wanted.includes(name)) await bench();
console.table(Object.fromEntries(rows.map(({ what, ...row }) => [what, row])));
process.exitCode = rows.every(({ reached }) => reached) ? 0 : 1;
