// An undo file puts a whole filesystem back, also where its files lie in each other's old places.
import { randomBytes } from 'node:crypto';
import { appendFileSync, closeSync, openSync, statSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  apply,
  defragment,
  type ApplyEvent,
  type ApplySummary,
  type DefragSummary,
  type Event,
} from '../../lib/index.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { closeFd, inodeGeneration } from '../../lib/kernel/handle.ts';
import { fingerprint } from '../../lib/layout/fingerprint.ts';
import { typicalDevice } from '../../lib/layout/readCost.ts';
import { bytes } from '../../lib/layout/units.ts';
import { UndoLog } from '../../lib/move/undo.ts';
import { openTarget } from '../../lib/scan/targets.ts';
import { age } from '../support/age.ts';
import { IN_VM, MiB, type Lab } from '../support/lab.ts';
import { changeOf, contentsOf, extentsOf, layoutOf } from '../support/layout.ts';
import { useLab } from '../support/use.ts';

/** For undo files: not on the filesystem that they are for. */
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-undo-'))));
afterAll(() => rm(folder, { recursive: true }));

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const fingerprintsOf = async (l: Lab, names: readonly string[]) =>
  new Map([...(await layoutOf(l, names)).files].map(([name, extents]) => [name, fingerprint(extents)]));

/** Names of files that do not lie as they did. */
const elsewhere = (was: ReadonlyMap<string, string>, is: ReadonlyMap<string, string>): string[] =>
  [...was].flatMap(([name, print]) => (is.get(name) === print ? [] : [name]));

/** Why files were not put back. */
const skipsOf = (events: readonly ApplyEvent[]) =>
  events.flatMap((event) => (event.type === 'skip' ? [event] : []));

/** Seconds that putting back an aged filesystem may take, on a busy machine: it must end whatever is in the way. */
const AT_MOST = IN_VM ? 300 : 90;

/** A file of random blocks that lies in one piece. */
async function file(l: Lab, name: string, size: number): Promise<void> {
  const fd = openSync(l.path(name), 'wx');
  await fallocate(fd, 0, bytes(0), bytes(size));
  for (let at = 0; at < size; at += MiB) writeSync(fd, randomBytes(Math.min(MiB, size - at)));
  closeSync(fd);
}

/** An undo file by which each of some files, all of them as large, is to lie where the next one lies. */
async function roundabout(l: Lab, path: string, names: readonly string[]): Promise<void> {
  const target = await openTarget(Buffer.from(l.mountPoint));
  const log = await UndoLog.open(path, {});
  await log.begin(target, typicalDevice(false));
  for (const [i, name] of names.entries()) {
    const before = await extentsOf(l, names[(i + 1) % names.length]);
    const after = await extentsOf(l, name);
    const { ino, size } = statSync(l.path(name));
    const fd = openSync(l.path(name), 'r');
    const id = { inode: ino, generation: await inodeGeneration(fd) };
    closeSync(fd);
    log.moved(id, Buffer.from(name), { before, after, size: bytes(size) });
  }
  await log.saveChanges();
  await closeFd(target.dirFd);
}

describe('files that lie in each other’s old places are put back', () => {
  test.each([
    { files: 2, size: 1, run: 256, lab: 256 },
    { files: 3, size: 1, run: 256, lab: 256 },
    { files: 3, size: 2, run: 16, lab: 256 },
    // What is free beside them and the reserve holds neither of them as a whole.
    { files: 2, size: 40, run: 10240, lab: 128 },
  ])('$files of $size MiB in fragments of $run blocks', async ({ files, size, run, lab }) => {
    const l = await useLab({ size: lab * MiB, mkfs: ['-m', '0'] });
    const names = ['a', 'b', 'c'].slice(0, files);
    for (const name of names) await file(l, name, size * MiB);
    if (run * l.blockSize < size * MiB) for (const name of names) await l.fragment(name, run);
    await l.remount();
    const contents = contentsOf(l, names);
    await l.remount();
    const was = [...(await fingerprintsOf(l, names)).values()];
    const path = join(folder, `circle-${files}-${size}.json`);
    await roundabout(l, path, names);
    const events = await collect(apply(path));
    expect(events.at(-1)).toMatchObject({ kind: 'undo', applied: files, skipped: {}, failed: 0 });
    await l.recheck();
    const is = [...(await fingerprintsOf(l, names)).values()];
    expect(is).toEqual(names.map((_, i) => was[(i + 1) % files]));
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('but who waits for one that has changed stays where he is, and so does that one', async () => {
    const l = await useLab({ size: 256 * MiB });
    const names = ['a', 'b', 'c'];
    for (const name of names) await file(l, name, MiB);
    await l.remount();
    const path = join(folder, 'changed.json');
    await roundabout(l, path, names);
    appendFileSync(l.path('c'), 'more');
    const [contents, was] = [contentsOf(l, names), await fingerprintsOf(l, names)];
    const events = await collect(apply(path));
    expect(skipsOf(events)).toMatchObject([
      { path: l.path('c'), reason: 'changed-since-plan' },
      { path: l.path('a'), reason: 'place-taken', detail: expect.stringMatching(/^256 blocks of/) as string },
      { path: l.path('b'), reason: 'place-taken', detail: expect.stringMatching(/^256 blocks of/) as string },
    ]);
    expect(events.at(-1)).toMatchObject({ applied: 0, failed: 0, bytesMoved: 0, bytesEvacuated: 0 });
    expect(await fingerprintsOf(l, names)).toEqual(was);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test.each([
    { by: 'a signal', steps: 1 },
    { by: 'a signal', steps: 12 },
    { by: 'leaving the loop', steps: 12 },
  ])('what is stopped in between, by $by after $steps steps, is no worse off', async ({ by, steps }) => {
    const l = await useLab({ size: 128 * MiB, mkfs: ['-m', '0'] });
    const names = ['a', 'b'];
    for (const name of names) await file(l, name, 40 * MiB);
    await l.remount();
    const path = join(folder, `stopped-${by}-${steps}.json`);
    await roundabout(l, path, names);
    const [contents, was] = [contentsOf(l, names), await layoutOf(l, names)];
    await l.remount();
    const stop = new AbortController();
    const events: ApplyEvent[] = [];
    let seen = 0;
    for await (const event of apply(path, { signal: stop.signal })) {
      events.push(event);
      if (event.type !== 'progress' || ++seen !== steps) continue;
      if (by !== 'a signal') break;
      stop.abort();
    }
    expect(seen).toBeGreaterThanOrEqual(steps);
    if (by === 'a signal') {
      expect(events.at(-1)).toMatchObject({ applied: 0, failed: 0, interrupted: true });
      expect(skipsOf(events)).toMatchObject([{ reason: 'interrupted' }, { reason: 'interrupted' }]);
    }
    expect(changeOf(was, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  });
});

/** Milliseconds: to age a filesystem takes minutes on an emulated processor. */
const TIMEOUT = 600_000;

test.each(
  IN_VM
    ? [{ fill: 0.7, size: 64, seed: 1 }]
    : [
        { fill: 0.7, size: 96, seed: 1 },
        { fill: 0.85, size: 128, seed: 2 },
      ],
)(
  'an aged filesystem, $fill in use, is put back as it was, what went out of the way as well (seed $seed)',
  async ({ fill, size, seed }) => {
    const l = await useLab({ size: size * MiB, mkfs: ['-m', '0'] });
    const names = await age(l, { fill, seed });
    const before = await fingerprintsOf(l, names);
    const contents = contentsOf(l, names);
    await l.remount();
    const path = join(folder, `${fill}-${seed}.json`);
    const done = (await collect(defragment([l.mountPoint], { keepUndo: path }))).at(-1) as DefragSummary;
    const between = await fingerprintsOf(l, names);
    const moved = elsewhere(before, between);
    // Some that are no better off went out of the way.
    expect(moved.length).toBeGreaterThan(done.defragmented);
    const events = await collect(apply(path, { timeLimit: AT_MOST }));
    const summary = events.at(-1) as ApplySummary;
    expect(summary).not.toHaveProperty('budget');
    const left = elsewhere(before, await fingerprintsOf(l, names));
    expect(contentsOf(l, names)).toEqual(contents);
    // Where an extent tree has got a block since, nothing can be put back.
    expect(left.length).toBeLessThan(moved.length * 0.1);
    for (const skip of skipsOf(events)) {
      expect(skip).toMatchObject({ reason: 'place-taken', detail: expect.any(String) as string });
    }
    expect(skipsOf(events)).toHaveLength(left.length);
    expect(summary).toMatchObject({ kind: 'undo', applied: moved.length - left.length, failed: 0 });
  },
  TIMEOUT,
);
