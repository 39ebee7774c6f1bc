// A window that is cleared where nothing is unmovable ends as one free run, or under the file that it was made for.
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consolidate, defragment, type Event } from '../../lib/index.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { fsmap } from '../../lib/kernel/fsmap.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { bytes } from '../../lib/layout/units.ts';
import { Crumbs } from '../support/crumble.ts';
import { IN_VM, Lab, MiB } from '../support/lab.ts';
import { changeOf, contentsOf, extentsOf, freeRuns, layoutOf } from '../support/layout.ts';

/** MiB of a window. Of each there are four tries, which makes twenty. */
const SIZES = IN_VM ? [16] : [16, 24, 32, 48, 64];

/** How many of a hundred files are deleted: what is moved away, and a file that waits, fit in beside the reserve then. */
const GONE = 45;
/** Bytes of such a filesystem. */
const sizeFor = (window: number): number => 7 * window + 32 * MiB;

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** A file in all the small pieces that free space consists of. */
async function scatter(l: Lab, name: string, size: number): Promise<void> {
  const fd = openSync(l.path(name), 'wx');
  await fallocate(fd, 0, bytes(0), bytes(size));
  for (let at = 0; at < size; at += MiB) writeSync(fd, Buffer.alloc(MiB, `${name} ${at} `));
  closeSync(fd);
  await l.remount();
}

/** The allocator looks only at block groups that it knows, as long as it finds anything there. */
type Mounted = 'just now' | 'long ago';

/** Makes the kernel know the free space of all block groups, as on a filesystem that was in use for some time. */
async function learnFreeSpace(l: Lab): Promise<void> {
  const fd = openSync(l.mountPoint, 'r');
  try {
    await fsmap(fd, l.blockSize);
  } finally {
    closeSync(fd);
  }
}

/**
 * Has something done that must leave all files as they are, but for where they lie, and none in more fragments.
 *
 * @returns what it told, for who wonders why it did not do what it should
 */
async function harmless(
  l: Lab,
  names: readonly string[],
  mounted: Mounted,
  work: () => AsyncIterable<Event>,
): Promise<string> {
  const before = await layoutOf(l, names);
  const contents = contentsOf(l, names);
  expect(before.free.longest).toBeLessThan(8 * MiB);
  await l.remount();
  if (mounted === 'long ago') await learnFreeSpace(l);
  const events = await collect(work());
  await l.recheck();
  expect(events.filter(({ type }) => type === 'failed' || type === 'unsupported')).toEqual([]);
  expect(changeOf(before, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
  expect(contentsOf(l, names)).toEqual(contents);
  return events.flatMap((event) => (event.type === 'progress' ? [] : JSON.stringify(event))).join('\n');
}

describe.each(SIZES)('a window of %i MiB', (window) => {
  const size = window * MiB;
  let l: Lab;
  let crumbs: Crumbs | undefined;
  beforeAll(async () => void (l = await Lab.create({ size: sizeFor(size), mkfs: ['-m', '0'] })));
  afterAll(() => l.close());

  /** As if it were another filesystem each time. */
  async function crumbsAnew(attempt: number): Promise<readonly string[]> {
    rmSync(l.path('waits'), { force: true });
    if (crumbs === undefined) crumbs = await Crumbs.make(l, window, GONE);
    else await crumbs.again(window + attempt);
    return crumbs.names;
  }

  test.each([
    [1, 'just now'],
    [2, 'long ago'],
  ] as const)('is cleared for nobody and stays free, time %i, mounted %s', async (time, mounted) => {
    const names = await crumbsAnew(time);
    const told = await harmless(l, names, mounted, () => consolidate([l.mountPoint], { run: size }));
    expect(Math.max(...(await freeRuns(l))), told).toBeGreaterThanOrEqual(size);
  });

  test.each([
    [3, 'just now'],
    [4, 'long ago'],
  ] as const)('is cleared for a file, which lies there then, time %i, mounted %s', async (time, mounted) => {
    const names = await crumbsAnew(time);
    await scatter(l, 'waits', size);
    expect(countFragments(await extentsOf(l, 'waits'))).toBeGreaterThan(window);
    const told = await harmless(l, [...names, 'waits'], mounted, () => defragment([l.path('waits')]));
    expect(countFragments(await extentsOf(l, 'waits')), told).toBe(1);
  });
});
