// What others notice while files are moved.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fdatasyncSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { Lab, MiB } from '../support/lab.ts';
import {
  atLeast,
  atMost,
  blocksOf,
  cool,
  defrag,
  e4defrag,
  inform,
  keepMaster,
  movedSince,
  rounds,
  scaled,
  seconds,
  writeFresh,
} from './bench.ts';
import type { Writes } from './overwriter.ts';

type Mover = (path: string) => ReturnType<typeof defrag>;

/** Seconds. */
const READING = { time: scaled(30, 6), alone: 2 };
/** fio and the mover begin their work as soon as they can; what is measured begins when both have. */
const FIO = [
  '--name=reader',
  '--readonly',
  '--thread',
  '--rw=randread',
  '--bs=4k',
  '--ioengine=psync',
  '--direct=1',
  '--time_based',
  `--ramp_time=${READING.alone}`,
  `--runtime=${READING.time}`,
  '--output-format=json',
];

interface FioOutput {
  readonly jobs: readonly {
    readonly read: { readonly total_ios: number; readonly clat_ns: { percentile: Record<string, number> } };
  }[];
}

/** The p99 latency, in milliseconds, of random reads of one file while others are moved; and what was moved, in MiB. */
async function readWhile(lab: Lab, work: string, names: readonly string[], mover?: Mover) {
  await cool(lab);
  await execa('fio', ['--version']);
  const layouts = () => Promise.all(names.map((name) => blocksOf(`${work}/${name}`)));
  const before = await layouts();
  const reader = execa('fio', [...FIO, `--filename=${lab.path('read')}`], { reject: false });
  await setTimeout(READING.alone * 1000);
  const moving = mover?.(work);
  let [over, failure]: [boolean, unknown] = [false, undefined];
  const moved = seconds(async () => {
    try {
      await moving;
    } catch (error) {
      if (!over) failure = error;
    }
    // When all is moved before the time is over, the rest of it would show nothing.
    if (moving) reader.kill('SIGINT');
  });
  const { stdout } = await reader;
  over = true;
  // One call of e4defrag moves a whole file, and ends before the signal does anything.
  moving?.kill('SIGINT');
  const time = await moved;
  if (failure !== undefined) throw failure as Error;
  const { read } = (JSON.parse(stdout.slice(stdout.indexOf('{'))) as FioOutput).jobs[0];
  const after = await layouts();
  return {
    p99: read.clat_ns.percentile['99.000000'] / 1e6,
    reads: read.total_ios,
    moved: names.reduce((sum, _, i) => sum + movedSince(before[i], after[i]), 0),
    time,
  };
}

/** A round takes minutes, so there is one; what is measured without a mover is measured before and after. */
export async function reader(): Promise<void> {
  console.log('a random reader, while other files are moved …');
  await execa('fio', ['--version']);
  const lab = await Lab.create({ size: scaled(14, 2) * 1024 * MiB });
  try {
    await writeFresh(lab, 'read', scaled(2048));
    const work = lab.path('work');
    mkdirSync(work);
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) {
      await writeFresh(lab, `work/${name}`, scaled(1024));
      await lab.fragment(`work/${name}`, 16);
    }
    const restore = await keepMaster(lab);
    const round = async (mover?: Mover) => {
      await restore();
      return readWhile(lab, work, names, mover);
    };
    const before = await round();
    const ours = await round(defrag);
    const after = await round();
    const theirs = await round(e4defrag);
    const pressing = await round((path) => defrag('--pressure', '100', path));
    console.log('  without:', before, after);
    console.log('  ours:', ours, 'e4defrag:', theirs, '--pressure 100:', pressing);
    const alone = (before.p99 + after.p99) / 2;
    inform('reader, p99 latency alone', alone, 'ms');
    atMost(1.3, 'reader, p99 latency with us, of that alone', ours.p99 / alone);
    atMost(1, 'reader, p99 latency with us, of that with e4defrag', ours.p99 / theirs.p99);
    inform('reader, p99 latency with e4defrag, of that alone', theirs.p99 / alone);
    inform('reader, p99 latency with us and --pressure 100, of that alone', pressing.p99 / alone);
    inform('reader, moved a second by us', ours.moved / ours.time, 'MiB');
    inform('reader, moved a second by e4defrag', theirs.moved / theirs.time, 'MiB');
    inform('reader, moved a second by us with --pressure 100', pressing.moved / pressing.time, 'MiB');
  } finally {
    await lab.close();
  }
}

const OVERWRITER = fileURLToPath(new URL('overwriter.ts', import.meta.url));
const WRITE_EVERY = 3;

/** What a writer noted that overwrote blocks of a file during some work. */
async function writeWhile(path: string, work: () => Promise<unknown>): Promise<Writes> {
  const writer = fork(OVERWRITER, [path, String(WRITE_EVERY)]);
  const answer = async () => {
    const ended = once(writer, 'exit').then(([code]) => {
      throw new Error(`the writer ended with ${code}`);
    });
    return ((await Promise.race([once(writer, 'message'), ended])) as [unknown])[0];
  };
  try {
    await answer();
    await work();
    writer.send('stop');
    return (await answer()) as Writes;
  } finally {
    writer.kill();
  }
}

/** The longest fdatasync(2), in milliseconds, while a file is copied: what the device itself makes others wait. */
function longestSync(from: string, to: string, size: number): number {
  const content = Buffer.alloc(8 * MiB);
  const [source, copy] = [openSync(from, 'r'), openSync(to, 'w')];
  let longest = 0;
  try {
    for (let at = 0; at < size * MiB; at += content.length) {
      const count = readSync(source, content, 0, content.length, at);
      writeSync(copy, content, 0, count, at);
      const started = performance.now();
      fdatasyncSync(copy);
      longest = Math.max(longest, performance.now() - started);
    }
  } finally {
    closeSync(source);
    closeSync(copy);
  }
  return longest;
}

export async function writer(): Promise<void> {
  console.log('a writer of a file that is moved …');
  const size = scaled(1024);
  const lab = await Lab.create({ size: 5 * size * MiB + 1024 * MiB });
  try {
    for (const name of ['ours', 'theirs']) {
      await writeFresh(lab, name, size);
      await lab.fragment(name, 16);
    }
    const measured = await rounds(lab, async () => {
      const during = async (name: string, work: (path: string) => Promise<unknown>) => {
        const path = lab.path(name);
        await cool(lab);
        const before = await blocksOf(path);
        const writes = await writeWhile(path, () => work(path));
        return { ...writes, moved: movedSince(before, await blocksOf(path)) / size };
      };
      await cool(lab);
      const alone = await writeWhile(lab.path('ours'), () => setTimeout(scaled(10_000)));
      const ours = await during('ours', (path) => defrag('--max-latency', '100', '--pressure', '100', path));
      // It gives up on a file when a part of it is busy.
      const theirs = await during('theirs', (path) => e4defrag(path).catch(() => undefined));
      await cool(lab);
      const device = longestSync(lab.path('theirs'), lab.path('copy'), size);
      return {
        alone: alone.longest,
        aloneWrites: alone.count,
        device,
        ours: ours.longest,
        oursWrites: ours.count,
        oursMoved: ours.moved,
        theirs: theirs.longest,
        theirsWrites: theirs.count,
        theirsMoved: theirs.moved,
      };
    });
    console.log('  longest stall in ms, writes, and how much of the file was moved:', measured);
    atMost(150, 'writer, longest stall with us', measured.ours, 'ms');
    atLeast(0.9, 'writer, moved by us meanwhile, of the file', measured.oursMoved, '');
    inform('writer, longest stall alone', measured.alone, 'ms');
    inform('writer, longest fdatasync of copying', measured.device, 'ms');
    inform('writer, longest stall with e4defrag', measured.theirs, 'ms');
    inform('writer, moved by e4defrag meanwhile, of the file', measured.theirsMoved, '');
  } finally {
    await lab.close();
  }
}
