// Devices that fail, through the command: each file that suffers from it fails with a clear line, the others are moved,
// and what was in them is what is in them.
import { open, readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, test, type TestContext } from 'vitest';
import { EXIT } from '../../lib/cli/exitCode.ts';
import { FALLOC, fallocate } from '../../lib/kernel/allocate.ts';
import { errorCode } from '../../lib/kernel/errors.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { O } from '../../lib/kernel/handle.ts';
import { moveExtents } from '../../lib/kernel/moveExtent.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import {
  changed,
  FILE_SIZE,
  fragmentedFiles,
  FullMemory,
  MappedDevice,
  runCommand,
  runJson,
  runUntilMoving,
  type FaultyDevice,
} from '../support/faults.ts';
import { filefrag, IN_VM, MiB, scaled, VM_SHARE, type Lab } from '../support/lab.ts';
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
  for (let step = SIZE; step >= l.blockSize;) {
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
  const last = [...(await fiemap(fill, l.blockSize))].find(
    ({ physical, length }) => physical + length === end,
  );
  if (last === undefined) throw new Error('the last blocks of the device are not to be had');
  const from = blocks(last.logical + last.length - count);
  expect(await moveExtents(await l.open(name), fill, blocks(0), from, blocks(count))).toMatchObject({
    moved: count,
  });
  await l.remount();
  await execa('rm', [l.path('fill')]);
  await l.remount();
  return end - count;
}

/** @returns where the first block of a file is */
async function placeOf(l: Lab, name: string): Promise<number> {
  const [first] = await fiemap(await l.open(name, O.RDONLY), l.blockSize);
  await l.remount();
  return first.physical;
}

/** A plan, and where the one range of a file goes in it. */
function destinationIn(text: string, name: string) {
  interface Step {
    readonly path: string;
    readonly ranges: { destination: { start: number } }[];
  }
  const plan = JSON.parse(text) as { filesystems: { steps: Step[] }[] };
  const step = plan.filesystems[0].steps.find(({ path }) => basename(path) === name);
  if (step?.ranges.length !== 1) throw new Error(`the plan does not have one range of ${name}`);
  return { plan, destination: step.ranges[0].destination };
}

describe('EIO', () => {
  test('where a file is read: it fails, the others are moved, and nothing of it is lost', async (context) => {
    // Loop devices read zeros behind the end of their file before Linux 6.13 or so.
    const mapped = IN_VM ? await MappedDevice.use(context) : undefined;
    const l = await useLab({ size: SIZE, expectedLog: EXPECTED, through: mapped?.attach });
    const before = await fragmentedFiles(l, 4);
    const place = mapped === undefined ? await putAtTheEnd(l, 'b', 4) : await placeOf(l, 'b');
    const image = await open(l.image, 'r+');
    const tail = Buffer.alloc(4 * l.blockSize);
    await image.read(tail, 0, tail.length, place * l.blockSize);
    if (mapped === undefined) await image.truncate(place * l.blockSize);
    else await mapped.fail([sectorsOf(l, place, 4)]);
    const result = await runJson([l.mountPoint, '--no-state']);
    expect(result).toMatchObject({ exitCode: EXIT.FAILED, failed: new Map([['b', 'EIO']]) });
    expect([...result.defragmented].sort()).toEqual(['a', 'c', 'd']);
    const { exitCode, stderr } = await runCommand([l.mountPoint, '--no-state']);
    expect(exitCode).toBe(EXIT.FAILED);
    expect(stderr).toMatch(/^ext4-defrag: \S+\/b: i\/o error \(EIO, .+\); see the kernel log$/);
    await l.unmount();
    await mapped?.heal();
    await image.write(tail, 0, tail.length, place * l.blockSize);
    await image.close();
    await l.mount();
    expect(await changed(l, before)).toEqual([]);
    expect(await filefrag(l.path('b'))).toBe(FILE_SIZE / l.blockSize / 4);
  });

  test('where a file is to go: it stays where it is, and the others are moved', async (context) => {
    const device = await faulty(context);
    const l = await useLab({ size: SIZE, expectedLog: EXPECTED, through: device.attach });
    // Of small ones the places may be taken by what is allocated to get at them.
    const before = await fragmentedFiles(l, 4, 2 * MiB);
    await l.remount();
    const plan = `${l.image}.plan`;
    expect(await runCommand(['plan', '-o', plan, l.mountPoint])).toMatchObject({ exitCode: EXIT.OK });
    const { destination, plan: content } = destinationIn(await readFile(plan, 'utf8'), 'b');
    // Apart from the others': a loop device takes a write that was done in part only for done.
    destination.start = SIZE / l.blockSize - 1024;
    await writeFile(plan, JSON.stringify(content));
    await device.fail([sectorsOf(l, destination.start, (2 * MiB) / l.blockSize)]);
    const result = await runJson(['apply', plan]);
    expect(result.exitCode).toBe(EXIT.FAILED);
    // A loop device passes on what its file's filesystem says.
    expect([...result.failed]).toEqual([['b', IN_VM ? 'EIO' : 'ENOSPC']]);
    expect([...result.defragmented].sort()).toEqual(['a', 'c', 'd']);
    await device.heal();
    await l.remount();
    expect(await changed(l, before)).toEqual([]);
    expect(await filefrag(l.path('b'))).toBe((2 * MiB) / l.blockSize / 4);
  });
});

describe('in the middle of a run', () => {
  const FILES = 6;
  const SIZE_EACH = scaled(8 * MiB);
  const options = ['--max-rate', String(SIZE_EACH), '--no-state', '--pressure', '100'];

  /** Lets something happen to a filesystem while it is worked on, and looks what is told of it and what is left. */
  async function inTheMiddle(l: Lab, happen: () => Promise<unknown>, after?: () => Promise<void>) {
    const other = await useLab({ size: 64 * MiB });
    const [before, otherBefore] = [
      await fragmentedFiles(l, FILES, SIZE_EACH, 32),
      await fragmentedFiles(other, 1),
    ];
    await l.remount();
    const { events, ...result } = await runUntilMoving([l.mountPoint, other.path('a'), ...options], happen);
    expect(result).toMatchObject({ acted: true, exitCode: EXIT.FAILED, stderr: '' });
    // Each file in hand, and then the filesystem, of which nothing more is to be expected.
    const failed = events.filter(({ type }) => type === 'failed');
    expect(failed.map(({ path }) => path).sort()).toEqual(
      [l.mountPoint, ...[...before.keys()].map((name) => l.path(name))].sort(),
    );
    // Kernels differ in which of the two it is.
    for (const { code } of failed) expect(code).toMatch(/^(EIO|EROFS)$/);
    expect([...result.defragmented]).toEqual([basename(other.path('a'))]);
    expect(result.summary).toMatchObject({ type: 'summary', failed: FILES + 1, defragmented: 1 });
    await l.unmount();
    await after?.();
    await repair(l);
    expect(await changed(l, before)).toEqual([]);
    expect(await changed(other, otherBefore)).toEqual([]);
  }

  test.skipIf(VM_SHARE)(
    'the filesystem turns read-only: its files fail, and the next target is worked on',
    async () => {
      const l = await useLab({ size: 256 * MiB, mount: 'errors=remount-ro', expectedLog: EXPECTED });
      const trigger = async () =>
        writeFile(`/sys/fs/ext4/${basename(await l.device())}/trigger_fs_error`, 'ext4-defrag test');
      await inTheMiddle(l, trigger);
    },
  );

  test.skipIf(VM_SHARE)('the filesystem is shut down', async () => {
    const l = await useLab({ size: 256 * MiB, expectedLog: EXPECTED });
    await writeFile(l.path('victim'), 'x');
    await inTheMiddle(l, () => execa(CRASH, [l.path('victim'), '0', '1', 'x']));
  });

  test.for(['failWrites', 'failAll'] as const)('the device: %s', async (how, context: TestContext) => {
    const device = await MappedDevice.use(context);
    const l = await useLab({ size: 256 * MiB, expectedLog: EXPECTED, through: device.attach });
    await inTheMiddle(l, device[how], device.heal);
  });
});

/** What the next mount would do, and e2fsck at the start of a machine. */
async function repair(l: Lab): Promise<void> {
  await l.unmount();
  const { exitCode } = await execa('e2fsck', ['-fy', l.image], { reject: false });
  expect(exitCode).toBeLessThanOrEqual(1);
  await l.mount();
}
