// Files are laid out in an order: those of a directory, or those of a list; and at multiples of an alignment.
import { mkdirSync, writeFileSync } from 'node:fs';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { defragment, type DefragEvent, type DefragmentOptions } from '../../lib/index.ts';
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

const arranged = (events: readonly DefragEvent[]) => events.filter(({ type }) => type === 'arranged');
const reasonOf = (events: readonly DefragEvent[], end: string) =>
  events.flatMap((event) => (event.type === 'skip' && event.path.endsWith(end) ? [event.reason] : []));

/** Writes files that do not lie side by side: after each of them comes one that is not asked after. */
async function scatter(l: Lab, names: readonly string[], size: (i: number) => number): Promise<void> {
  for (const [i, name] of names.entries()) {
    writeFileSync(l.path(name), Buffer.alloc(size(i), `${name} `));
    await execa('sync', ['-f', l.mountPoint]);
    writeFileSync(l.path(`between${i}`), Buffer.alloc(20_000, name));
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
