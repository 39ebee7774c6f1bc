// Files are laid out in an order: those of a directory, or those of a list; and at multiples of an alignment.
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import {
  apply,
  defragment,
  type ApplyEvent,
  type DefragEvent,
  type DefragmentOptions,
} from '../../lib/index.ts';
import { FALLOC, fallocate } from '../../lib/kernel/allocate.ts';
import type { ExtentTable } from '../../lib/layout/extents.ts';
import { bytes } from '../../lib/layout/units.ts';
import { MiB, type Lab } from '../support/lab.ts';
import { changeOf, contentsOf, layoutOf } from '../support/layout.ts';
import { useLab } from '../support/use.ts';

async function run(target: string, options: DefragmentOptions): Promise<DefragEvent[]> {
  const events: DefragEvent[] = [];
  for await (const event of defragment([target], options)) events.push(event);
  return events;
}

const arranged = (events: readonly DefragEvent[]) =>
  events.flatMap((event) => (event.type === 'arranged' ? [event] : []));
const reasonOf = (events: readonly DefragEvent[], end: string) =>
  events.flatMap((event) => (event.type === 'skip' && event.path.endsWith(end) ? [event.reason] : []));

/** Writes files that do not lie side by side: after each of them comes one that is not asked after. */
async function scatter(
  l: Lab,
  names: readonly string[],
  size: (i: number) => number,
  between = 20_000,
): Promise<void> {
  for (const [i, name] of names.entries()) {
    writeFileSync(l.path(name), Buffer.alloc(size(i), `${name} `));
    await execa('sync', ['-f', l.mountPoint]);
    writeFileSync(l.path(`between${i}`), Buffer.alloc(between, name));
    await execa('sync', ['-f', l.mountPoint]);
  }
}

const startOf = (layout: ExtentTable): number => layout.physical[0];
const endOf = (layout: ExtentTable): number =>
  layout.physical[layout.count - 1] + layout.length[layout.count - 1];

/** How often the next file does not begin where the last one ends. */
const jumps = (layouts: readonly ExtentTable[]): number =>
  layouts.slice(1).filter((layout, i) => startOf(layout) !== endOf(layouts[i])).length;

test('--cluster: the files of a directory lie side by side in the order of reading it, once and for all', async () => {
  const l = await useLab({ size: 256 * MiB });
  mkdirSync(l.path('d'));
  const names = Array.from({ length: 40 }, (_, i) => `d/f${i}`);
  await scatter(l, names, (i) => 4096 * (1 + (i % 13)));
  await l.remount();
  const before = await layoutOf(l, names);
  const contents = contentsOf(l, names);
  await l.remount();
  const found = await execa('find', [l.path('d'), '-type', 'f', '-printf', 'd/%f\n']);
  const order = found.stdout.split('\n');
  const inOrder = (files: ReadonlyMap<string, ExtentTable>) => order.map((name) => files.get(name)!);
  expect(jumps(inOrder(before.files))).toBeGreaterThan(20);
  const events = await run(l.path('d'), { cluster: true });
  expect(arranged(events)).toMatchObject([{ jumpsBefore: jumps(inOrder(before.files)), jumpsAfter: 0 }]);
  await l.remount();
  const after = await layoutOf(l, names);
  expect(jumps(inOrder(after.files))).toBe(0);
  expect(changeOf(before, after, l.blockSize).worse).toEqual([]);
  expect(contentsOf(l, names)).toEqual(contents);
  const again = await run(l.path('d'), { cluster: true });
  expect(again.at(-1)).toMatchObject({ type: 'summary', bytesMoved: 0, failed: 0 });
});

test('--order-file: files lie one behind the other in the order of a list; what it cannot mean is told', async () => {
  const [l, elsewhere] = [await useLab({ size: 256 * MiB }), await useLab({ size: 64 * MiB })];
  const names = ['a', 'b', 'c', 'd', 'e'];
  await scatter(l, names, () => 3 * MiB);
  const odd = Buffer.concat([Buffer.from(`${l.mountPoint}/`), Buffer.from([0xff, 0x0a])]);
  writeFileSync(odd, Buffer.alloc(MiB, 'odd'));
  writeFileSync(elsewhere.path('foreign'), 'x');
  await l.remount();
  const before = await layoutOf(l, names);
  const contents = contentsOf(l, names);
  await l.remount();
  const list = elsewhere.path('list');
  const paths = ['d', 'a', 'missing', 'e', 'd', 'b'].map((name) => Buffer.from(l.path(name)));
  const lines = [...paths, odd, Buffer.from(elsewhere.path('foreign'))].flatMap((path) => [
    path,
    Buffer.alloc(1),
  ]);
  writeFileSync(list, Buffer.concat(lines));
  const events = await run(l.mountPoint, { orderFile: list });
  expect(arranged(events)).toMatchObject([{ jumpsAfter: 0 }]);
  expect(reasonOf(events, '/missing')).toEqual(['not-in-target']);
  expect(reasonOf(events, '/foreign')).toEqual(['not-in-target']);
  await l.remount();
  const { files } = await layoutOf(l, names);
  expect(jumps(['d', 'a', 'e', 'b'].map((name) => files.get(name)!))).toBe(0);
  expect(files.get('c')).toEqual(before.files.get('c'));
  expect(contentsOf(l, names)).toEqual(contents);
});

test('--order-file: what is preallocated behind the end of a file is not torn off', async () => {
  const l = await useLab({ size: 256 * MiB });
  const names = ['a', 'b', 'c'];
  for (const name of names) {
    await fallocate(await l.create(name), FALLOC.KEEP_SIZE, bytes(0), bytes(128 * 1024));
    writeFileSync(l.path(name), Buffer.alloc(64 * 1024, name), { flag: 'r+' });
    writeFileSync(l.path(`beside-${name}`), Buffer.alloc(20_000, name));
    await execa('sync', ['-f', l.mountPoint]);
  }
  await l.remount();
  const before = await layoutOf(l, names);
  writeFileSync(l.path('list'), ['c', 'a', 'b'].map((name) => l.path(name)).join('\n'));
  await run(l.mountPoint, { orderFile: l.path('list') });
  await l.remount();
  expect(changeOf(before, await layoutOf(l, names), l.blockSize).worse).toEqual([]);
});

test('--align: what is moved begins at a multiple, whatever is small does not have to', async () => {
  const l = await useLab({ size: 256 * MiB });
  const names = ['large', 'small'];
  await scatter(l, names, (i) => [6 * MiB, 256 * 1024][i]);
  for (const name of names) await l.fragment(name, 16);
  await l.remount();
  const contents = contentsOf(l, names);
  await l.remount();
  const events = await run(l.mountPoint, { align: 2 * MiB });
  expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: 2, failed: 0 });
  await l.remount();
  const { files } = await layoutOf(l, names);
  expect((startOf(files.get('large')!) * l.blockSize) % (2 * MiB)).toBe(0);
  expect(files.get('large')!.count).toBe(1);
  expect(files.get('small')!.count).toBe(1);
  expect(contentsOf(l, names)).toEqual(contents);
  await expect(run(l.mountPoint, { align: 3 * l.blockSize })).rejects.toThrow(RangeError);
});

describe('a group', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];

  /** Files of 1 MiB that do not lie side by side, and how they lie. */
  async function scattered(l: Lab) {
    await scatter(l, names, () => MiB, MiB);
    writeFileSync(l.path('list'), names.map((name) => `${l.path(name)}\n`).join(''));
    await l.remount();
    const before = await layoutOf(l, names);
    const contents = contentsOf(l, names);
    await l.remount();
    return { before: before.files, contents };
  }

  test('that comes out no better goes back whole', async () => {
    const l = await useLab({ size: 256 * MiB });
    const { before, contents } = await scattered(l);
    // So that every other one stays where it is.
    const fds = ['b', 'd', 'f'].map((name) => openSync(l.path(name), 'r'));
    const events = await run(l.mountPoint, { orderFile: l.path('list'), exclusive: true });
    for (const fd of fds) closeSync(fd);
    const [{ jumpsBefore }] = arranged(events);
    expect(arranged(events)).toMatchObject([
      { files: 0, jumpsAfter: jumpsBefore, incomplete: 'not-improved' },
    ]);
    await l.remount();
    expect((await layoutOf(l, names)).files).toEqual(before);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('is moved while others have its files open', async () => {
    const l = await useLab({ size: 256 * MiB });
    const { contents } = await scattered(l);
    const fds = ['b', 'd'].map((name) => openSync(l.path(name), 'r+'));
    const events = await run(l.mountPoint, { orderFile: l.path('list') });
    for (const fd of fds) closeSync(fd);
    expect(arranged(events)).toMatchObject([{ files: names.length, jumpsAfter: 0 }]);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('keeps to the budget: a part of it lies together, and the next run goes on', async () => {
    const l = await useLab({ size: 256 * MiB });
    const { contents } = await scattered(l);
    const options = { orderFile: l.path('list') };
    const events = await run(l.mountPoint, { ...options, maxBytes: 3 * MiB });
    const [{ jumpsBefore, jumpsAfter }] = arranged(events);
    expect(jumpsAfter).toBeLessThan(jumpsBefore);
    expect(jumpsAfter).toBeGreaterThan(0);
    expect(events.at(-1)).toMatchObject({ bytesMoved: 3 * MiB, budget: { reached: 'bytes' } });
    expect(arranged(await run(l.mountPoint, options))).toMatchObject([{ jumpsAfter: 0 }]);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('can be undone', async () => {
    const l = await useLab({ size: 256 * MiB });
    const { before, contents } = await scattered(l);
    const undo = join(dirname(l.mountPoint), 'undo.json');
    await run(l.mountPoint, { orderFile: l.path('list'), keepUndo: undo });
    expect((await layoutOf(l, names)).files).not.toEqual(before);
    const events: ApplyEvent[] = [];
    for await (const event of apply(undo)) events.push(event);
    expect(events.at(-1)).toMatchObject({ type: 'summary', applied: names.length, skipped: {} });
    await l.remount();
    expect((await layoutOf(l, names)).files).toEqual(before);
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('that is left midway leaves nothing behind', async () => {
    const l = await useLab({ size: 256 * MiB });
    const { contents } = await scattered(l);
    const free = await l.freeBytes();
    for await (const event of defragment([l.mountPoint], { orderFile: l.path('list') })) {
      if (event.type === 'progress') break;
    }
    expect(await l.freeBytes()).toBe(free);
    await l.remount();
    expect(contentsOf(l, names)).toEqual(contents);
  });

  test('holds no space while nobody asks for what comes next', async () => {
    const l = await useLab({ size: 256 * MiB });
    await scattered(l);
    const free = await l.freeBytes();
    for await (const event of defragment([l.mountPoint], { orderFile: l.path('list') })) {
      if (event.type === 'arranged') expect(await l.freeBytes()).toBe(free);
    }
  });
});

test.each([1024, 4096])(
  '--cluster and --exclude on a whole filesystem with blocks of %i bytes',
  async (blockSize) => {
    const l = await useLab({ size: 256 * MiB, blockSize });
    for (const name of ['in', 'out']) mkdirSync(l.path(name));
    const names = Array.from({ length: 24 }, (_, i) => `${i % 2 ? 'in' : 'out'}/f${i}`);
    await scatter(l, names, (i) => 4096 * (1 + (i % 7)));
    await l.remount();
    const before = await layoutOf(l, names);
    const contents = contentsOf(l, names);
    await l.remount();
    const events = await run(l.mountPoint, { cluster: true, exclude: ['out'] });
    const groups = arranged(events).filter(({ path }) => path !== l.mountPoint);
    expect(groups.map(({ path }) => path)).toEqual([l.path('in')]);
    expect(groups[0].jumpsAfter).toBeLessThan(groups[0].jumpsBefore);
    await l.remount();
    const after = await layoutOf(l, names);
    for (const name of names.filter((one) => one.startsWith('out')))
      expect(after.files.get(name)).toEqual(before.files.get(name));
    expect(changeOf(before, after, l.blockSize).worse).toEqual([]);
    expect(contentsOf(l, names)).toEqual(contents);
  },
);

test('--align where there is room for the file, and for no more: rather anywhere than not at all', async () => {
  const l = await useLab({ size: 64 * MiB, mkfs: ['-m', '0'] });
  const names = ['a', 'b'];
  await scatter(l, names, () => 4 * MiB, MiB);
  await fallocate(await l.create('filler'), 0, bytes(0), bytes((await l.freeBytes()) - 12 * MiB));
  writeFileSync(l.path('list'), names.map((name) => `${l.path(name)}\n`).join(''));
  await l.remount();
  const events = await run(l.mountPoint, { orderFile: l.path('list'), align: 8 * MiB, reserve: 0 });
  expect(arranged(events)).toMatchObject([{ jumpsAfter: 0 }]);
});
