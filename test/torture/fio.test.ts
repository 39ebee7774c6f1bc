// fio writes files in several ways and verifies them, while its own engine for EXT4_IOC_MOVE_EXT and a defragmenter move
// the same files.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFailed, test } from 'vitest';
import { MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';
import { describeMoved, imagesInMemory, SECONDS, SEED, timeout, whileMoving } from './support.ts';

const SIZE = 32 * MiB;

/** How each file is written. */
const WRITERS = {
  direct: ['ioengine=libaio', 'iodepth=16', 'direct=1', 'bsrange=4k-64k', 'blockalign=4k'],
  buffered: ['ioengine=psync', 'bsrange=512-64k', 'fdatasync=256'],
  mapped: ['ioengine=mmap', 'bsrange=1k-32k'],
};

const VERIFY = ['rw=randwrite', 'verify=crc32c', 'verify_fatal=1', 'verify_backlog=512'];

/**
 * What moves each file as well: single stretches to anywhere, which leaves fragments. A move of what is in use fails now
 * and then. So that nobody is kept from writing all the time, it pauses.
 */
/** 61 is ENODATA, which fio does not know by its name. */
const HARMLESS = 'EBUSY:EINVAL:ENOSPC:61';
const RIVAL = [
  ...['ioengine=e4defrag', 'rw=randwrite', 'bs=32k', 'inplace=1'],
  'continue_on_error=all',
  `ignore_error=${HARMLESS},${HARMLESS}`,
  'thinktime=2ms',
  'verify=0',
];

function jobFile(folder: string): string {
  const files = Object.entries(WRITERS).flatMap(([name, how]) => [
    [`[${name}]`, `filename=${name}`, ...VERIFY, ...how],
    [`[rival-${name}]`, `filename=${name}`, `donorname=${name}-donor`, ...RIVAL],
  ]);
  const global = ['[global]', `directory=${folder}`, `size=${SIZE}`, 'time_based', `runtime=${SECONDS}`];
  return [[...global, 'fallocate=none', `randseed=${SEED}`], ...files]
    .map((lines) => lines.join('\n'))
    .join('\n\n');
}

interface FioOutput {
  readonly jobs: readonly {
    readonly jobname: string;
    readonly error: number;
    readonly read: { readonly total_ios: number };
    readonly write: { readonly total_ios: number };
  }[];
}

test('fio verifies what it wrote', { timeout: timeout(SECONDS) }, async () => {
  imagesInMemory();
  onTestFailed(() => console.log(`EXT4_DEFRAG_TORTURE_SEED=${SEED}`));
  const lab = await useLab({ size: 1024 * MiB });
  const folder = lab.path('fio');
  mkdirSync(folder);
  // Of a hole nothing can be moved.
  for (const name of Object.keys(WRITERS)) writeFileSync(join(folder, name), randomBytes(SIZE));
  const jobs = join(dirname(lab.image), 'jobs.fio');
  writeFileSync(jobs, jobFile(folder));
  const { result, moved } = await whileMoving(lab.mountPoint, undefined, () =>
    execa('fio', ['--output-format=json', jobs], { reject: false, cwd: dirname(lab.image) }),
  );
  const { stdout, stderr } = result;
  expect(stdout, stderr).toContain('{');
  const output = JSON.parse(stdout.slice(stdout.indexOf('{'))) as FioOutput;
  const done = output.jobs.map(({ jobname, error, read, write }) => ({
    jobname,
    error,
    verified: read.total_ios,
    written: write.total_ios,
  }));
  console.log(`${done.map((job) => Object.values(job).join(' ')).join(', ')}; ${describeMoved(moved)}`);
  const verifiers = done.filter(({ jobname }) => jobname in WRITERS);
  expect(
    verifiers.map(({ error }) => error),
    stderr,
  ).toEqual([0, 0, 0]);
  for (const { verified } of verifiers) expect(verified).toBeGreaterThan(SECONDS * 10);
  for (const { jobname, written } of done) {
    if (!(jobname in WRITERS)) expect(written, jobname).toBeGreaterThan(0);
  }
  expect(moved.failures).toEqual([]);
  expect(moved.bytesMoved).toBeGreaterThan(0);
});
