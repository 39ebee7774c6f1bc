// Power cuts: `npm run powercut [-- --share] [--kernel VERSION]`.
//
// In a guest, applications sync records to a disk whose every write is logged, while a mover works on the files. Then the
// power goes, again and again: the disk is what the log says up to a flush, or up to anywhere with some of the writes
// since the last flush; it is mounted here, its journal replayed, and it must hold every record that had been
// acknowledged, every other block as it was, and pass e2fsck. With --share a part of that is done, for `npm test`; with
// --kernel all of it on one of the two kernels.
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { runInVm, VmFailure } from '../../vm/index.ts';
import { FILESYSTEM, makeDisk } from './image.ts';
import { Replay, type Cut } from './replay.ts';
import { readLog, type LogEntry } from './writeLog.ts';

type Mover = 'ours' | 'unsafe' | 'e4defrag';

interface Case {
  readonly kernel: string;
  readonly data: 'ordered' | 'writeback';
  readonly blockSize: 1024 | 4096;
  readonly mover: Mover;
  /**
   * The applications keep their files open, so that no lease keeps them out while a file is moved, and only those write
   * that commit nothing by themselves: fdatasync and O_DSYNC.
   */
  readonly held: boolean;
}

/** As in test/support/records.c. */
const WRITERS = { all: 0b11111, committingNothing: 0b00110 };

const { values } = parseArgs({ options: { share: { type: 'boolean' }, kernel: { type: 'string' } } });
const share = values.share === true;
const kernels = values.kernel === undefined ? ['6.12', '6.1'] : [values.kernel];
const seed = Number(process.env.POWERCUT_SEED ?? 1);
/** Cuts of each kind for a case. */
const CUTS = share ? { flushed: 12, torn: 4 } : { flushed: 30, torn: 10 };

const CONFIGURATIONS = [
  { data: 'ordered', blockSize: 4096 },
  { data: 'writeback', blockSize: 1024 },
  { data: 'ordered', blockSize: 1024 },
  { data: 'writeback', blockSize: 4096 },
] as const;

/** What a guest with this kernel does, one after the other. */
function casesFor(kernel: string): Case[] {
  const ours = CONFIGURATIONS.slice(0, share ? 1 : 4).map((configuration): Case => ({
    kernel,
    ...configuration,
    mover: 'ours',
    held: false,
  }));
  const basis = { kernel, ...CONFIGURATIONS[0] };
  const others: Case[] = [
    { ...basis, mover: 'ours', held: true },
    { ...basis, mover: 'unsafe', held: true },
    ...(share ? [] : [{ ...basis, mover: 'e4defrag', held: true } as const]),
  ];
  return [...ours, ...others];
}

/** xorshift32: the same seed makes the same cuts of the same log. */
function randomFrom(start: number): () => number {
  let state = start * 2_654_435_761 + 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Where the power goes: spread over the time in which files are moved, and what is torn seeded. */
function cutsOf(log: readonly LogEntry[], random: () => number): Cut[] {
  const flushes = [...log.entries()].flatMap(([i, { flush }]) => (flush ? [i + 1] : []));
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)];
  const cuts: Cut[] = [];
  for (let i = 0; i < CUTS.flushed; i++) cuts.push({ at: pick(flushes), keeps: undefined });
  for (let i = 0; i < CUTS.torn; i++)
    cuts.push({ at: 1 + Math.floor(random() * log.length), keeps: () => random() < 0.5 });
  return cuts.sort((a, b) => a.at - b.at);
}

const nameOf = ({ kernel, data, blockSize, mover, held }: Case) =>
  `${kernel}, data=${data}, ${blockSize} bytes, ${mover}${held ? ', files held open' : ''}`;

interface Row {
  readonly case: Case;
  readonly cuts: number;
  readonly acknowledged: number;
  readonly lost: number;
}

/** @param image its disk, as it was before the guest had it */
async function examine(one: Case, image: string, random: () => number): Promise<Row> {
  const log = readLog(`${image}.log`);
  const replay = new Replay(`${image}.before`, `${image}.log`, log, one.blockSize);
  const row = { case: one, cuts: 0, acknowledged: 0, lost: 0 };
  try {
    for (const cut of cutsOf(log, random)) {
      const { acknowledged, losses } = await replay.cut(cut);
      row.cuts++;
      row.acknowledged += acknowledged;
      if (losses.length === 0) continue;
      row.lost++;
      if (one.mover === 'ours') console.log(`  LOST at ${cut.at} of ${log.length}: ${losses.join('; ')}`);
    }
  } finally {
    await replay.close();
  }
  console.log(
    `${nameOf(one)}: ${row.cuts} cuts of a log of ${log.length}, ${row.acknowledged} acknowledged records, ${row.lost} cuts with losses`,
  );
  return row;
}

async function inGuest(
  kernel: string,
  cases: readonly Case[],
  folder: string,
  killAfter?: number,
): Promise<void> {
  const disks = cases.map((_, i) => join(folder, `disk${i}`));
  for (const [i, { blockSize }] of cases.entries()) {
    await makeDisk(disks[i], blockSize);
    await copyFile(disks[i], `${disks[i]}.before`);
  }
  const commands = cases.map(
    ({ data, blockSize, held, mover }, i) =>
      `bash test/powercut/guest.sh /dev/extra${i + 1} ${data} ${blockSize} ${Number(held)} ${held ? WRITERS.committingNothing : WRITERS.all} ${mover} ${FILESYSTEM}`,
  );
  const killed = new AbortController();
  let seen = '';
  const stdout = new Writable({
    write: (chunk: Buffer, _, done) => {
      seen += chunk.toString();
      process.stdout.write(chunk);
      if (killAfter !== undefined && seen.includes('moving')) setTimeout(() => killed.abort(), killAfter);
      done();
    },
  });
  try {
    const result = await runInVm({
      command: [`set -e; ${commands.join('; ')}`],
      kernel,
      disks: disks.map((file) => ({ file, log: `${file}.log` })),
      stdout,
      stderr: process.stderr,
      signal: killed.signal,
    });
    if (result.exitCode !== 0) throw new Error(`the guest's job ended with ${result.exitCode}`);
  } catch (error) {
    if (!(error instanceof VmFailure && error.kind === 'aborted' && killAfter !== undefined)) throw error;
    console.log(`  QEMU was killed ${(killAfter / 1000).toFixed(1)} s after moving began`);
  }
}

const folder = await mkdtemp('/var/tmp/ext4-defrag-powercut-');
const rows: Row[] = [];
try {
  for (const kernel of kernels) {
    const random = randomFrom(seed);
    const cases = casesFor(kernel);
    await inGuest(kernel, cases, folder);
    for (const [i, one] of cases.entries()) rows.push(await examine(one, join(folder, `disk${i}`), random));
    if (share) continue;
    const killed: Case = { kernel, data: 'ordered', blockSize: 4096, mover: 'ours', held: false };
    await inGuest(kernel, [killed], folder, 500 + random() * 4000);
    rows.push(await examine(killed, join(folder, 'disk0'), random));
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.table(
  rows.map((row) => ({
    case: nameOf(row.case),
    cuts: row.cuts,
    acknowledged: row.acknowledged,
    lost: row.lost,
  })),
);
const must = rows.filter(({ case: { mover } }) => mover === 'ours');
const failed = must.filter(({ lost }) => lost > 0);
// A test of the test: what the barrier is there for is found where there is none.
const blind =
  rows.some(({ case: { mover } }) => mover === 'unsafe') &&
  !rows.some((row) => row.case.mover === 'unsafe' && row.lost > 0);
if (blind) console.log('No loss was found without the barrier: this test proves nothing.');
console.log(
  `      Tests  ${must.length - failed.length} passed${failed.length > 0 ? ` | ${failed.length} failed` : ''}`,
);
process.exitCode = failed.length > 0 || blind ? 1 : 0;
