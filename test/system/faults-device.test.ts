// Devices that fail, through the command: each file that suffers from it fails with a clear line, the others are moved,
// and what was in them is what is in them.
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, test, type TestContext } from 'vitest';
import { EXIT } from '../../lib/cli/exitCode.ts';
import { atLeast, parseKernelVersion } from '../../lib/ext4/safety.ts';
import { FALLOC, fallocate } from '../../lib/kernel/allocate.ts';
import { errorCode } from '../../lib/kernel/errors.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { moveExtents } from '../../lib/kernel/moveExtent.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import {
  changed,
  fragmentedFiles,
  FullMemory,
  MappedDevice,
  runCommand,
  runJson,
  runUntilMoving,
  start,
  type FaultyDevice,
} from '../support/faults.ts';
import { filefrag, IN_VM, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// test/support/crash.c, compiled by test/support/build.mjs.
const CRASH = fileURLToPath(new URL('../../build/test/crash', import.meta.url));
const EXPECTED = /I\/O error|EXT4-fs|JBD2|[Aa]bort/;
const SIZE = 128 * MiB;

/** The VM's kernels have a device mapper. */
const faulty = (context: TestContext): FaultyDevice | Promise<MappedDevice> =>
  IN_VM ? MappedDevice.use(context) : FullMemory.use();

const sectorsOf = (l: Lab, first: number, count: number) => ({
  start: (first * l.blockSize) / 512,
  length: (count * l.blockSize) / 512,
});

/** Makes the first blocks of a file the last ones of the device. @returns their place */
async function putAtTheEnd(l: Lab, name: string, count: number): Promise<number> {
  await l.remount();
  const fill = await l.create('fill');
  let size = 0;
  for (let step = SIZE; step >= l.blockSize; ) {
    try {
      await fallocate(fill, 0, bytes(size), bytes(step));
      size += step;
    } catch (error) {
      expect(errorCode(error)).toBe('ENOSPC');
      step /= 2;
    }
  }
  // Trees must grow somewhere.
  await fallocate(fill, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, bytes(0), bytes(MiB));
  await execa('sync', ['-f', l.mountPoint]);
  const end = SIZE / l.blockSize;
  const last = [...(await fiemap(fill, l.blockSize))].find(({ physical, length }) => physical + length === end);
  const from = blocks((last?.logical ?? 0) + (last?.length ?? 0) - count);
  expect(await moveExtents(await l.open(name), fill, blocks(0), from, blocks(count))).toMatchObject({ moved: count });
  await l.remount();
  await execa('rm', [l.path('fill')]);
  await l.remount();
  return end - count;
}

/** A plan in which the one range of a file goes elsewhere. */
function withDestination(text: string, name: string, start: number): string {
  interface Step {
    readonly path: string;
    readonly ranges: { destination: { start: number } }[];
  }
  const plan = JSON.parse(text) as { filesystems: { steps: Step[] }[] };
  const step = plan.filesystems[0].steps.find(({ path }) => basename(path) === name);
  expect(step?.ranges).toHaveLength(1);
  if (step !== undefined) step.ranges[0].destination.start = start;
  return JSON.stringify(plan);
}

describe('EIO', () => {
  test('where a file is read: it fails, the others are moved, and nothing of it is lost', async (context) => {
    // Loop devices read zeros behind the end of their file before Linux 6.13 or so.
    const mapped = IN_VM ? await MappedDevice.use(context) : undefined;
    const l = await useLab({ size: SIZE, expectedLog: EXPECTED, through: mapped?.attach });
    const before = await fragmentedFiles(l, 4);
    const place = await putAtTheEnd(l, 'b', 4);
    const image = await open(l.image, 'r+');
    const tail = Buffer.alloc(4 * l.blockSize);
    await image.read(tail, 0, tail.length, place * l.blockSize);
    if (mapped === undefined) await image.truncate(place * l.blockSize);
    else await mapped.fail([sectorsOf(l, place, 4)]);
    const { exitCode, failed, defragmented, summary, stderr } = await runJson([l.mountPoint]);
    console.log(exitCode, failed, defragmented, summary, stderr);
    await l.unmount();
    await mapped?.heal();
    await image.write(tail, 0, tail.length, place * l.blockSize);
    await image.close();
    await l.mount();
    expect(await changed(l, before)).toEqual([]);
    expect(exitCode).toBe(EXIT.FAILED);
  });

  test('where a file is to go: it stays where it is, and the others are moved', async (context) => {
    const device = await faulty(context);
    const l = await useLab({ size: SIZE, expectedLog: EXPECTED, through: device.attach });
    const before = await fragmentedFiles(l, 4);
    await l.remount();
    // Apart from the others': a loop device takes a write that was done in part only for done.
    const [plan, place, length] = [`${l.image}.plan`, SIZE / l.blockSize - 1024, (2 * MiB) / l.blockSize];
    expect(await runCommand(['plan', '-o', plan, l.mountPoint])).toMatchObject({ exitCode: EXIT.OK });
    await writeFile(plan, withDestination(await readFile(plan, 'utf8'), 'b', place));
    await device.fail([sectorsOf(l, place, length)]);
    const { exitCode, failed, defragmented, summary, stderr } = await runJson(['apply', plan]);
    console.log(exitCode, failed, defragmented, summary, stderr);
    await device.heal();
    await l.remount();
    expect(await changed(l, before)).toEqual([]);
    expect(await filefrag(l.path('b'))).toBe(128);
  });
});

describe('in the middle of a run', () => {
  const FILES = 6;
  const options = ['--max-rate', '8M', '--no-state', '--pressure', '100'];

  test('the filesystem turns read-only', async () => {
    const l = await useLab({ size: 256 * MiB, mount: 'errors=remount-ro', expectedLog: EXPECTED });
    const before = await fragmentedFiles(l, FILES, 8 * MiB, 32);
    await l.remount();
    const trigger = `/sys/fs/ext4/${basename(await l.device())}/trigger_fs_error`;
    const result = await runUntilMoving([l.mountPoint, ...options], () => writeFile(trigger, '1'));
    const { events, ...rest } = result; console.log(rest.exitCode, rest.failed, rest.skipped, rest.defragmented, rest.stderr, rest.summary.files, events.filter(({ type }) => type === "failed"));
    await repair(l);
    expect(await changed(l, before)).toEqual([]);
  });

  test('the filesystem is shut down', async () => {
    const l = await useLab({ size: 256 * MiB, expectedLog: EXPECTED });
    const before = await fragmentedFiles(l, FILES, 8 * MiB, 32);
    await writeFile(l.path('last'), 'x');
    await l.remount();
    const result = await runUntilMoving([l.mountPoint, ...options], () =>
      execa(CRASH, [l.path('last'), '0', '1', 'y']),
    );
    const { events, ...rest } = result; console.log(rest.exitCode, rest.failed, rest.skipped, rest.defragmented, rest.stderr, rest.summary.files, events.filter(({ type }) => type === "failed"));
    await repair(l);
    expect(await changed(l, before)).toEqual([]);
  });

  test.for(['failWrites', 'failAll'] as const)('device: %s', async (how, context: TestContext) => {
    const device = await MappedDevice.use(context);
    const l = await useLab({ size: 256 * MiB, expectedLog: EXPECTED, through: device.attach });
    const before = await fragmentedFiles(l, FILES, 8 * MiB, 32);
    await l.remount();
    const result = await runUntilMoving([l.mountPoint, ...options], () => device[how]());
    const { events, ...rest } = result; console.log(rest.exitCode, rest.failed, rest.skipped, rest.defragmented, rest.stderr, rest.summary.files, events.filter(({ type }) => type === "failed"));
    await l.unmount();
    await device.heal();
    await repair(l);
    expect(await changed(l, before)).toEqual([]);
  });
});

/** What the next mount would do, and e2fsck at the start of a machine. */
async function repair(l: Lab): Promise<void> {
  await l.unmount();
  const { exitCode } = await execa('e2fsck', ['-fy', l.image], { reject: false });
  expect(exitCode).toBeLessThanOrEqual(1);
  await l.mount();
}
