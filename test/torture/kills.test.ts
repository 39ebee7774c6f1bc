// The command is killed at random moments, hundreds of times: whatever it was doing, nothing may be left of it.
import {
  copyFileSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { expect, onTestFailed, test } from 'vitest';
import { bytes } from '../../lib/layout/units.ts';
import { age } from '../support/age.ts';
import { MiB, type Lab } from '../support/lab.ts';
import { commit, contentsOf } from '../support/layout.ts';
import { oneOf, randomFrom, type Below } from '../support/random.ts';
import { useLab } from '../support/use.ts';
import { CommandRun } from './commandRun.ts';
import { imagesInMemory, LONG, SEED, timeout } from './support.ts';

const KILLS = Number(process.env.EXT4_DEFRAG_TORTURE_KILLS ?? (LONG ? 500 : 60));
/** Most kills between two looks at everything: then the filesystem is fragmented again. */
const PER_ROUND = 15;
/** Milliseconds: how long a kind of run is taken to go on until one was seen to end. */
const FIRST_GUESS = 800;
/** Where what is raised is noted (lib/place/searchDepth.ts). */
const RECORDS = '/run/ext4-defrag';

/** Kinds of runs, by their arguments but for the target. */
const RUNS: readonly (readonly string[])[] = [
  ['--full', '--no-state'],
  ['--full', '--max-latency', '5', '--state', 'STATE'],
  ['--no-state', '--keep-undo', 'UNDO'],
  ['--no-state', '--cluster'],
  ['space', '--consolidate', '--run', '8M'],
  ['space', '--consolidate', '--bytes', '24M'],
];

/** In which moment a run is killed: while it starts, some time after it began, or when it raises a tunable. */
const MOMENTS = [
  'start',
  ...new Array<'later'>(7).fill('later'),
  ...new Array<'raised'>(2).fill('raised'),
] as const;

/** What must be the same before and after, whatever was moved. */
interface Contents {
  readonly files: Map<string, string>;
  readonly names: readonly string[];
  /** In use, but for those of the files: their number depends on where they lie. */
  readonly blocks: number;
  readonly inodes: number;
}

/** Unmounts the lab. @throws Error when e2fsck finds anything */
async function contents(lab: Lab, files: readonly string[]): Promise<Contents> {
  await commit(lab);
  const names = readdirSync(lab.mountPoint, { recursive: true, encoding: 'utf8' }).sort();
  const hashes = contentsOf(lab, files);
  let blocks = 0;
  for (const name of files) blocks -= ((await stat(lab.path(name))).blocks * 512) / lab.blockSize;
  await lab.unmount();
  const check = await execa('e2fsck', ['-fn', lab.image], { reject: false, all: true });
  if (check.exitCode !== 0) throw new Error(check.all);
  const { stdout } = await execa('dumpe2fs', ['-h', lab.image], { stderr: 'ignore' });
  const field = (name: string) => Number(new RegExp(`^${name}: +(\\d+)$`, 'm').exec(stdout)?.[1]);
  blocks += field('Block count') - field('Free blocks');
  return { files: hashes, names, blocks, inodes: field('Inode count') - field('Free inodes') };
}

/** Kills runs on one filesystem, and keeps count of it. */
class Killer {
  readonly stages = new Map<string, number>();
  kills = 0;
  rounds = 0;
  /** Kills that left the tunable raised, and the next start lowered it. */
  lowered = 0;
  /** Runs that ended before they were killed. */
  tooLate = 0;
  readonly #lab: Lab;
  readonly #below: Below;
  readonly #durations = RUNS.map(() => FIRST_GUESS);
  #starting = 100;
  #device = '';

  constructor(lab: Lab, below: Below) {
    this.#lab = lab;
    this.#below = below;
  }

  /** Kills runs until there have been so many kills in all, or one ends, which leaves nothing to do. */
  async round(kills: number): Promise<void> {
    this.#device = basename(await this.#lab.device());
    const before = this.#depth();
    this.rounds++;
    const last = Math.min(kills, this.kills + PER_ROUND);
    let ended = false;
    while (this.kills < last && !ended) {
      const kind = this.#below(RUNS.length);
      const run = await this.#kill(kind);
      ended = run.ended;
      if (ended) {
        this.tooLate++;
        this.#durations[kind] = Math.max(50, run.duration * 0.9);
        continue;
      }
      this.kills++;
      this.#durations[kind] *= 1.05;
      this.stages.set(run.stage, (this.stages.get(run.stage) ?? 0) + 1);
      if (this.#depth() === before) continue;
      this.lowered++;
      await this.#startAgain();
      expect(this.#depth()).toBe(before);
    }
    await this.#startAgain();
    expect(this.#depth()).toBe(before);
  }

  /** The tunable that runs raise (lib/place/searchDepth.ts). */
  #depth(): string {
    return readFileSync(`/sys/fs/ext4/${this.#device}/mb_max_to_scan`, 'latin1');
  }

  /** A run that has nothing to move, but begins as all do. */
  async #startAgain(): Promise<void> {
    const run = new CommandRun(['--no-state', this.#lab.path('small')]);
    await run.over;
    expect(run.troubles).toEqual([]);
    const records = existsSync(RECORDS) ? readdirSync(RECORDS) : [];
    // Others' filesystems may have had this loop device before.
    const { stdout } = await execa('dumpe2fs', ['-h', this.#lab.image], { stderr: 'ignore' });
    const ours = /^Filesystem UUID: +(\S+)$/m.exec(stdout)?.[1] ?? '';
    expect(ours).not.toBe('');
    expect(records.filter((record) => record.includes(ours))).toEqual([]);
  }

  async #kill(kind: number): Promise<CommandRun> {
    const folder = dirname(this.#lab.image);
    // No file is replaced by it.
    rmSync(join(folder, 'UNDO'), { force: true });
    const args = RUNS[kind].map((arg) => (arg === 'STATE' || arg === 'UNDO' ? join(folder, arg) : arg));
    const run = new CommandRun([...args, '--priority', 'normal', '--pressure', '100', this.#lab.mountPoint]);
    const moment = oneOf(this.#below, MOMENTS);
    if (moment === 'start') {
      await sleep(this.#below(this.#starting));
    } else {
      await Promise.race([run.begun, run.over]);
      if (run.startup !== undefined) this.#starting = run.startup;
      if (moment === 'raised') await this.#raised(run);
      else await Promise.race([sleep(this.#below(this.#durations[kind])), run.over]);
    }
    run.kill();
    await run.over;
    expect(run.troubles).toEqual([]);
    return run;
  }

  /** Until it has raised the tunable, which it does for moments, or ends. */
  async #raised(run: CommandRun): Promise<void> {
    const before = this.#depth();
    let over = false;
    void run.over.then(() => (over = true));
    while (!over) {
      const pause = performance.now() + 5;
      while (performance.now() < pause) if (this.#depth() !== before) return;
      await setImmediate();
    }
  }
}

test(
  `${KILLS} kills leave no name, no block and no tunable behind`,
  { timeout: timeout(KILLS * 5) },
  async () => {
    imagesInMemory();
    onTestFailed(() => console.log(`EXT4_DEFRAG_TORTURE_SEED=${SEED}`));
    const below = randomFrom(SEED);
    const lab = await useLab({ size: 128 * MiB });
    const files = await age(lab, { fill: 0.8, largest: bytes(8 * MiB) });
    writeFileSync(lab.path('small'), 'nothing to move');
    files.push('small');
    const before = await contents(lab, files);
    const aged = `${lab.image}.aged`;
    copyFileSync(lab.image, aged, constants.COPYFILE_FICLONE);
    const killer = new Killer(lab, below);
    while (killer.kills < KILLS) {
      copyFileSync(aged, lab.image, constants.COPYFILE_FICLONE);
      await lab.mount();
      await killer.round(KILLS);
      expect(await contents(lab, files)).toEqual(before);
    }
    const stages = Object.fromEntries([...killer.stages].sort(([, a], [, b]) => b - a));
    console.log(
      `${killer.kills} kills in ${killer.rounds} rounds (seed ${SEED}), ${killer.tooLate} runs ended before; ` +
        `${killer.lowered} left mb_max_to_scan raised; last event: ${JSON.stringify(stages)}`,
    );
  },
);
