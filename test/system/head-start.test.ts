import { randomBytes } from 'node:crypto';
import { fstatSync, readSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { defragment, type DefragEvent } from '../../lib/index.ts';
import { FADV, fadvise, residentPages } from '../../lib/kernel/cache.ts';
import { closeFd } from '../../lib/kernel/handle.ts';
import { bytes } from '../../lib/layout/units.ts';
import type { BatchContext } from '../../lib/move/batch.ts';
import { HeadStart } from '../../lib/move/headStart.ts';
import { Scanner, type ScannedFile } from '../../lib/scan/scan.ts';
import { planOptionsFor } from '../../lib/scan/session.ts';
import { openTarget } from '../../lib/scan/targets.ts';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

/** More than one allocation. */
const SIZE = 160 * MiB;

/** A file in fragments of 64 KiB, of which some parts are cached. @returns which of its pages are, and what it is */
async function largeFile(l: Lab, mode = 0o644) {
  await writeFile(l.path('a'), randomBytes(SIZE));
  await chmod(l.path('a'), mode);
  await l.fragment('a', 16);
  const identity = await identify(l.path('a'));
  await l.remount();
  const fd = await l.open('a');
  // No more than is asked for: parts of a piece, the border of two, and whole pieces.
  await fadvise(fd, bytes(0), bytes(0), FADV.RANDOM);
  for (const [from, length] of [
    [1, 1],
    [7, 2],
    [40, 12],
    [159, 1],
  ]) {
    readSync(fd, Buffer.alloc(length * MiB), 0, length * MiB, from * MiB);
  }
  return { identity, pages: await cached(l) };
}

const cached = async (l: Lab) => residentPages(await l.open('a'), bytes(0), bytes(SIZE));

const count = (pages: Uint8Array) => pages.reduce((sum, page) => sum + page, 0);

/** No more is cached than before, and hardly less: the kernel may have had another use for some of so many pages. */
async function expectCached(l: Lab, before: Uint8Array): Promise<void> {
  const now = await cached(l);
  expect(now.filter((page, i) => page > before[i])).toHaveLength(0);
  expect(count(now)).toBeGreaterThan(count(before) * 0.9);
}

/** The file as the scan finds it, and what a batch of it alone is moved with. */
async function found(l: Lab): Promise<{ file: ScannedFile; context: BatchContext }> {
  const target = await openTarget(Buffer.from(l.path('a')));
  onTestFinished(() => closeFd(target.dirFd));
  const scanner = new Scanner({}, false);
  await scanner.askFor(target);
  const { value: file } = await scanner.scan(target).next();
  if (file?.kind !== 'file') expect.unreachable(file?.kind);
  const context: Partial<BatchContext> = {
    filesystem: target.filesystem,
    dirFd: target.dirFd,
    pageSize: bytes(4096),
    planOptions: planOptionsFor(target, {}),
    budget: { bytesLeft: Infinity } as BatchContext['budget'],
  };
  return { file, context: context as BatchContext };
}

test('a large file that is alone is read before it is planned, and not at all when it comes to nothing', async () => {
  const l = await useLab({ size: 768 * MiB });
  const { pages } = await largeFile(l);
  const { file, context } = await found(l);

  const begun = await HeadStart.begin(file, context);
  const fd = begun!.takeFd()!;
  expect(fstatSync(fd).ino).toBe(file.inode);
  expect(begun!.takeFd()).toBeUndefined();
  expect((await begun!.near)!.freeBlocks).toBeGreaterThan(0);
  expect(begun!.reading.hasBegun).toBe(true);
  expect(count(await cached(l))).toBeGreaterThan(count(pages));
  await begun!.end();
  await expectCached(l, pages);
  await closeFd(fd);

  const refusing = (change: Partial<BatchContext>, other: Partial<ScannedFile> = {}) =>
    HeadStart.begin({ ...file, ...other }, { ...context, ...change });
  // Where it may stay in part or as it is, where it cannot be moved whole, and where others would notice.
  const options = { ...context.planOptions, fragmentBlocks: 16 };
  expect(await refusing({ planOptions: options })).toBeUndefined();
  expect(await refusing({ budget: { bytesLeft: SIZE - 1 } as BatchContext['budget'] })).toBeUndefined();
  const memory = { refuses: () => 'fragments-again' } as unknown as BatchContext['memory'];
  expect(await refusing({ memory })).toBeUndefined();
  expect(await refusing({ measurement: {} as BatchContext['measurement'] })).toBeUndefined();
  expect(await refusing({}, { executable: true })).toBeUndefined();
  expect(await refusing({}, { immovable: 'immutable' })).toBeUndefined();
  expect(await refusing({}, { inode: file.inode + 1 })).toBeUndefined();
  await expectCached(l, pages);
});

test.each([
  ['a file', 0o644],
  ['a program', 0o755],
])('the cache of a large file is left as it was found, part by part: %s', async (_, mode) => {
  const l = await useLab({ size: 768 * MiB });
  const { pages, identity } = await largeFile(l, mode);
  const events: DefragEvent[] = [];
  for await (const event of defragment([l.path('a')])) events.push(event);
  expect(events.at(-1)).toMatchObject({ defragmented: 1, failed: 0 });
  expect(await filefrag(l.path('a'))).toBeLessThanOrEqual(2);
  await expectCached(l, pages);
  expect(await identify(l.path('a'))).toEqual(identity);
});
