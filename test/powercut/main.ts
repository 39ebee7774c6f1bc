// Shows that no byte is lost when the power goes while ext4-defrag works: `npm run powercut`. Applications write, sync
// and note what was acknowledged in a VM whose disks log every write and flush; on this machine the logs are replayed up
// to many points, and what a power cut there would leave is mounted and checked.
import { parseArgs } from 'node:util';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { kernelNames, runInVm, VmFailure } from '../../vm/index.ts';
import { random, replay, type Result } from './replay.ts';
import { BLOCK_SIZES, DATA, guestLines, makeImage, MOVERS, nameOf, type Scenario } from './scenario.ts';

const { values } = parseArgs({
  options: {
    kernel: { type: 'string', default: '6.1,6.12' },
    movers: { type: 'string', default: MOVERS.join() },
    data: { type: 'string', default: DATA.join() },
    'block-size': { type: 'string', default: BLOCK_SIZES.join() },
    points: { type: 'string', default: '24' },
    seed: { type: 'string', default: '1' },
    'no-kill': { type: 'boolean', default: false },
    logs: { type: 'string' },
    record: { type: 'boolean', default: false },
    examine: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const points = Number(values.points);
const among = <T>(all: readonly T[], text: string): T[] => {
  const wanted = text.split(',');
  const found = all.filter((one) => wanted.includes(String(one)));
  if (found.length !== wanted.length) throw new Error(`${text}: there are ${all.join(', ')}`);
  return found;
};
const kernels = among(kernelNames, values.kernel);
const scenarios: Scenario[] = among(MOVERS, values.movers).flatMap((mover) =>
  among(DATA, values.data).flatMap((data) =>
    among(BLOCK_SIZES, values['block-size']).map((blockSize) => ({ mover, data, blockSize })),
  ),
);

/** A run of the guest, with disks of its own. */
interface Run {
  readonly kernel: string;
  readonly scenarios: readonly Scenario[];
  /** QEMU is killed at a random instant while everything goes on at once. */
  readonly killed: boolean;
}

const runs: Run[] = kernels.flatMap((kernel) => {
  const ours = scenarios.filter(({ mover }) => mover === 'ext4-defrag');
  const killed = !values['no-kill'] && ours.length > 0;
  return [{ kernel, scenarios, killed: false }, ...(killed ? [{ kernel, scenarios: ours, killed }] : [])];
});
const filesOf = (folder: string, { kernel, killed }: Run, scenario: Scenario) => {
  const name = join(folder, `${kernel}${killed ? '-killed' : ''}-${nameOf(scenario)}`);
  return { image: `${name}.image`, file: `${name}.disk`, log: `${name}.log` };
};

async function record(folder: string, run: Run): Promise<void> {
  const disks = run.scenarios.map((scenario) => filesOf(folder, run, scenario));
  for (const [i, { image, file, log }] of disks.entries()) {
    await makeImage(image, run.scenarios[i]);
    await copyFile(image, file);
    await writeFile(log, '');
  }
  const work = run.scenarios.map((scenario, i) => guestLines(scenario, i + 1, seed));
  const command = run.killed ? `${work.map((lines) => `(${lines}) &`).join('\n')}\nwait` : work.join(' &&\n');
  const kill = new AbortController();
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      process.stderr.write(chunk);
      if (run.killed && chunk.includes('begin')) void dieSoon();
      done();
    },
  });
  let dying = false;
  const dieSoon = async () => {
    if (dying) return;
    dying = true;
    await sleep(random(seed)() * 4000);
    kill.abort();
  };
  try {
    const { exitCode } = await runInVm({
      command: ['bash', '-c', command],
      kernel: run.kernel,
      disks,
      timeout: 600,
      stdout: output,
      stderr: process.stderr,
      say: (text) => console.error(text),
      signal: kill.signal,
    });
    if (exitCode !== 0) throw new Error(`the guest's work failed (exit ${exitCode})`);
  } catch (error) {
    if (!dying || !(error instanceof VmFailure) || error.kind !== 'aborted') throw error;
  }
}

const folder = values.logs ?? (await mkdtemp('/var/tmp/ext4-defrag-powercut-'));
await mkdir(folder, { recursive: true });
let failures = 0;
try {
  const rows: string[] = [];
  let cuts = 0;
  for (const run of runs) {
    if (!values.examine) await record(folder, run);
    if (values.record) continue;
    for (const scenario of run.scenarios) {
      const { image, log } = filesOf(folder, run, scenario);
      const result = await replay(image, log, scenario, { points, seed });
      if (scenario.mover === 'ext4-defrag') cuts += result.atFlushes + result.atInstants;
      if (!asExpected(scenario, result)) failures++;
      rows.push(row(run, scenario, result));
      console.error(rows[rows.length - 1]);
      for (const { what, where } of result.findings.slice(0, 3)) console.error(`  ${what}: ${where}`);
    }
  }
  console.log(
    '| Linux | mover | data= | block | cut at a flush | at any instant | acknowledged | cuts with a loss |',
  );
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
  for (const text of rows) console.log(text);
  console.log(
    `\next4-defrag: ${cuts} power cuts; ${failures === 0 ? 'as it should be' : `${failures} rows are not`}`,
  );
} finally {
  if (values.logs === undefined) await rm(folder, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;

/** We lose nothing. Without the barrier something must be lost, or the test finds nothing. e4defrag is only watched. */
function asExpected({ mover }: Scenario, { bad }: Result): boolean {
  if (mover === 'e4defrag') return true;
  return mover === 'ext4-defrag' ? bad === 0 : bad > 0;
}

function row({ kernel, killed }: Run, { mover, data, blockSize }: Scenario, result: Result): string {
  const { atFlushes, atInstants, acknowledged, bad } = result;
  const name = killed ? `${mover}, QEMU killed` : mover;
  return `| ${[kernel, name, data, blockSize, atFlushes, atInstants, acknowledged, bad].join(' | ')} |`;
}
