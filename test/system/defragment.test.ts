import { randomBytes } from 'node:crypto';
import { fsyncSync, ftruncateSync, writeSync } from 'node:fs';
import { link, mkdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { check, defragment, plan, type DefragEvent, type Event } from '../../lib/index.ts';
import { fallocate, FALLOC } from '../../lib/kernel/allocate.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { O } from '../../lib/kernel/handle.ts';
import { EXTENT_FLAG, mergeExtents } from '../../lib/layout/extents.ts';
import { bytes } from '../../lib/layout/units.ts';
import { filefrag, identify, IN_VM, MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const outcome = (events: readonly DefragEvent[]) =>
  events.filter((event) => event.type === 'defragmented' || event.type === 'skip' || event.type === 'failed');

/** Runs the defragmenter on one file and answers its single outcome. */
async function defragmentOne(path: string, options = {}) {
  const events = await collect(defragment([path], options));
  const outcomes = outcome(events);
  expect(outcomes).toHaveLength(1);
  return { event: outcomes[0], summary: events.at(-1) };
}

/** Our own count for a file, which filefrag must agree with. */
async function fragmentsOf(path: string): Promise<number> {
  const file = (await collect(check([path]))).find((event) => event.type === 'file');
  expect(file?.fragments).toBe(await filefrag(path));
  return file?.fragments ?? 0;
}

describe.each([
  { blockSize: 4096, mkfs: [] },
  { blockSize: 1024, mkfs: [] },
  { blockSize: 2048, mkfs: ['-O', '^flex_bg'] },
])('with blocks of $blockSize', ({ blockSize, mkfs }) => {
  const lab = () => useLab({ blockSize, mkfs });

  /** Everything about the file but its layout stays, in memory and on the device. */
  async function expectImproved(l: Lab, name: string, ideal = 1) {
    const path = l.path(name);
    await l.remount();
    const before = await identify(path);
    const fragmentsBefore = await fragmentsOf(path);
    expect(fragmentsBefore).toBeGreaterThan(ideal);
    const { event } = await defragmentOne(path);
    expect(event).toMatchObject({ type: 'defragmented', fragmentsBefore });
    expect(await identify(path)).toEqual(before);
    expect(await fragmentsOf(path)).toBeLessThanOrEqual(ideal);
    await l.remount();
    expect(await identify(path)).toEqual(before);
    expect(await fragmentsOf(path)).toBeLessThanOrEqual(ideal);
  }

  test('a plain file becomes one fragment', async () => {
    const l = await lab();
    await writeFile(l.path('plain'), randomBytes(IN_VM ? 20 * MiB : 40 * MiB));
    await l.fragment('plain', 12288 / blockSize);
    // Without flex groups, a block group of 2 KiB blocks ends after 32 MiB.
    await expectImproved(l, 'plain', mkfs.length > 0 && !IN_VM ? 2 : 1);
  });

  test('a tail shorter than a block is moved with the rest', async () => {
    const l = await lab();
    await writeFile(l.path('tail'), randomBytes(3 * MiB + 17));
    await l.fragment('tail', 5);
    await expectImproved(l, 'tail');
  });

  test('holes stay holes', async () => {
    const l = await lab();
    const fd = await l.create('sparse');
    for (let i = 0; i < 40; i++) writeSync(fd, randomBytes(64 * 1024), 0, 64 * 1024, i * 192 * 1024);
    ftruncateSync(fd, 40 * 192 * 1024);
    fsyncSync(fd);
    await l.fragment('sparse', 4096 / Math.min(blockSize, 4096) + 7);
    await expectImproved(l, 'sparse');
    // Its size says nothing of holes, and st_blocks counts the extent tree's own blocks too: the map tells.
    const map = mergeExtents(await fiemap(await l.open('sparse'), l.blockSize));
    const starts = [...map].map(({ logical }) => logical * blockSize);
    expect(starts.filter((start) => start % (192 * 1024) === 0)).toHaveLength(40);
    expect(map.blocks * blockSize).toBe(40 * 64 * 1024);
  });

  test('unwritten ranges stay unwritten', async () => {
    const l = await lab();
    const fd = await l.create('unwritten');
    await fallocate(fd, 0, bytes(0), bytes(8 * MiB));
    for (let i = 0; i < 8; i++) writeSync(fd, randomBytes(256 * 1024), 0, 256 * 1024, i * MiB);
    fsyncSync(fd);
    const unwritten = async () => {
      const map = await fiemap(await l.open('unwritten'), l.blockSize);
      return [...map].reduce((sum, e) => sum + (e.flags & EXTENT_FLAG.UNWRITTEN ? e.length : 0), 0);
    };
    const before = await unwritten();
    await l.fragment('unwritten', 64);
    await expectImproved(l, 'unwritten');
    expect(await unwritten()).toBe(before);
    expect(before).toBe((8 * 768 * 1024) / blockSize);
  });

  test('blocks preallocated behind the end stay there', async () => {
    const l = await lab();
    await writeFile(l.path('preallocated'), randomBytes(4 * MiB));
    const fd = await l.open('preallocated');
    await fallocate(fd, FALLOC.KEEP_SIZE, bytes(4 * MiB), bytes(MiB));
    await l.fragment('preallocated', 16);
    // One fragment before the end and one behind it.
    await expectImproved(l, 'preallocated', 2);
    const map = await fiemap(await l.open('preallocated'), l.blockSize);
    expect(map.end * blockSize).toBe(5 * MiB);
  });

  test('data whose allocation is delayed are written out first, and moved', async () => {
    const l = await lab();
    await writeFile(l.path('delayed'), randomBytes(2 * MiB));
    await l.fragment('delayed', 8);
    const fd = await l.open('delayed');
    writeSync(fd, randomBytes(MiB), 0, MiB, 2 * MiB);
    const map = await fiemap(fd, l.blockSize);
    expect([...map].some((extent) => extent.flags & EXTENT_FLAG.DELALLOC)).toBe(true);
    const before = await identify(l.path('delayed'));
    const { event } = await defragmentOne(l.path('delayed'));
    expect(event).toMatchObject({ type: 'defragmented' });
    const after = await identify(l.path('delayed'));
    expect(after).toEqual(before);
    expect(await fragmentsOf(l.path('delayed'))).toBe(1);
  });
});

test.each([
  { everyFile: true, skipped: { 'hard-link': 2 } },
  { everyFile: false, skipped: {} },
])(
  'hard links: the file is moved once, and every name sees it ($everyFile)',
  async ({ everyFile, skipped }) => {
    const l = await useLab();
    await writeFile(l.path('one'), randomBytes(4 * MiB));
    await l.fragment('one', 4);
    await link(l.path('one'), l.path('two'));
    await mkdir(l.path('below'));
    await link(l.path('one'), l.path('below/three'));
    await l.remount();
    const before = await identify(l.path('one'));
    const events = await collect(defragment([l.mountPoint], { everyFile }));
    expect(events.filter((event) => event.type === 'defragmented')).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ defragmented: 1, skipped, failed: 0 });
    expect(await identify(l.path('two'))).toEqual(before);
    expect(await identify(l.path('below/three'))).toEqual(before);
  },
);

test('extended attributes, modes and owners stay', async () => {
  const l = await useLab();
  await writeFile(l.path('file'), randomBytes(MiB), { mode: 0o750 });
  await execa('setfattr', ['-n', 'user.note', '-v', 'kept', l.path('file')]);
  await execa('chown', ['123:456', l.path('file')]);
  await l.fragment('file', 4);
  const before = await identify(l.path('file'));
  expect(before.attributes).toContain('user.note');
  expect((await defragmentOne(l.path('file'))).event.type).toBe('defragmented');
  expect(await identify(l.path('file'))).toEqual(before);
});

test('a tree: small files share donors, links are not followed, other things are left alone', async () => {
  const l = await useLab();
  const outside = await useLab();
  await writeFile(outside.path('untouched'), randomBytes(MiB));
  await outside.fragment('untouched', 4);
  const before = new Map<string, Awaited<ReturnType<typeof identify>>>();
  const perDirectory = scaled(40);
  const count = 6 * perDirectory;
  for (let d = 0; d < 6; d++) {
    await mkdir(l.path(`d${d}/deeper`), { recursive: true });
    for (let f = 0; f < perDirectory; f++) {
      const name = `d${d}/deeper/f${f}`;
      await writeFile(l.path(name), randomBytes(64 * 1024 + f * 1000));
      await l.fragment(name, 2);
      before.set(name, await identify(l.path(name)));
    }
  }
  await writeFile(l.path('contiguous'), randomBytes(MiB));
  await writeFile(l.path('empty'), '');
  await writeFile(l.path('tiny'), 'x');
  await symlink(outside.path(), l.path('link-out'));
  await symlink('contiguous', l.path('link'));
  await execa('mkfifo', [l.path('fifo')]);
  await l.remount();
  const events = await collect(defragment([l.mountPoint]));
  expect(events.at(-1)).toMatchObject({
    type: 'summary',
    files: count + 2,
    defragmented: count,
    failed: 0,
    skipped: {
      'already-contiguous': 1,
      'one-block': 1,
      empty: 1,
      'not-regular': 3,
    },
    fragmentsAfter: count + 2,
  });
  for (const [name, identity] of before) {
    expect(await identify(l.path(name))).toEqual(identity);
    expect(await filefrag(l.path(name))).toBe(1);
  }
  expect(await filefrag(outside.path('untouched'))).toBe(64);
  // Nothing is left to do, and nothing is done.
  const again = await collect(defragment([l.mountPoint]));
  expect(again.at(-1)).toMatchObject({ defragmented: 0, bytesMoved: 0, files: count + 2 });
});

test('a block device stands for the filesystem mounted from it', async () => {
  const l = await useLab();
  await writeFile(l.path('file'), randomBytes(2 * MiB));
  await l.fragment('file', 4);
  const device = await l.device();
  const events = await collect(defragment([device]));
  expect(events[0]).toMatchObject({ type: 'target', kind: 'device', device, mountPoint: l.mountPoint });
  expect(events.at(-1)).toMatchObject({ defragmented: 1, fragmentsAfter: 1 });
});

test('fragments that are long enough stay where they are, unless --full', async () => {
  const l = await useLab();
  await writeFile(l.path('file'), randomBytes(24 * MiB));
  await l.fragment('file', (8 * MiB) / 4096);
  const map = async () => [...(await fiemap(await l.open('file'), l.blockSize))].map((e) => e.physical);
  const before = await map();
  const small = await defragmentOne(l.path('file'), { fragmentSize: 2 * MiB });
  expect(small.event).toMatchObject({ type: 'skip', reason: 'large-fragments' });
  expect(await map()).toEqual(before);
  const full = await defragmentOne(l.path('file'), { full: true });
  expect(full.event).toMatchObject({ type: 'defragmented', fragmentsBefore: 3, fragmentsAfter: 1 });
});

test('only the short fragments move', async () => {
  const l = await useLab();
  await writeFile(l.path('file'), randomBytes(32 * MiB));
  await l.fragment('file', (16 * MiB) / 4096);
  // The first half stays whole, the second lies in small pieces.
  const dir = await l.open('.', O.RDONLY);
  const fd = await l.open('file');
  const donor = await l.open('.', O.RDWR | O.TMPFILE);
  await fallocate(donor, 0, bytes(0), bytes(32 * MiB));
  fsyncSync(dir);
  const { moveExtents } = await import('../../lib/kernel/moveExtent.ts');
  for (let at = 4096; at < 8192; at += 8) {
    const { error } = await moveExtents(fd, donor, at as never, at as never, 4 as never);
    expect(error).toBeUndefined();
  }
  fsyncSync(dir);
  const first = (await fiemap(fd, l.blockSize)).at(0).physical;
  const before = await identify(l.path('file'));
  const planned = (await collect(plan([l.path('file')], { fragmentSize: 8 * MiB }))).find(
    (event) => event.type === 'plan',
  );
  expect(planned).toMatchObject({ bytesToMove: 16 * MiB, fragmentsAfter: 2 });
  const { event } = await defragmentOne(l.path('file'), { fragmentSize: 8 * MiB });
  expect(event).toMatchObject({ bytesMoved: 16 * MiB, fragmentsAfter: 2 });
  expect((await fiemap(await l.open('file'), l.blockSize)).at(0).physical).toBe(first);
  expect(await identify(l.path('file'))).toEqual(before);
});

test('check and plan write nothing', async () => {
  const l = await useLab();
  await writeFile(l.path('file'), randomBytes(2 * MiB));
  await l.fragment('file', 4);
  await l.remount();
  const before = await stat(l.path('file'), { bigint: true });
  const layout = async () => [...(await fiemap(await l.open('file'), l.blockSize))];
  const extents = await layout();
  await collect(check([l.mountPoint]));
  await collect(plan([l.mountPoint]));
  expect(await layout()).toEqual(extents);
  expect(await stat(l.path('file'), { bigint: true })).toEqual(before);
});

test('a file larger than free space is moved as far as there is room, and says why no further', async () => {
  const l = await useLab({ size: 400 * MiB });
  await writeFile(l.path('large'), randomBytes(110 * MiB));
  // Room for half of it beside the reserve of 5 %, most of it in one piece. What it vacates is as scattered as it was.
  await fallocate(await l.create('room'), 0, bytes(0), bytes(55 * MiB));
  await l.fragment('large', 16);
  const filler = await l.create('filler');
  await fallocate(filler, 0, bytes(0), bytes((await l.freeBytes()) - 20 * MiB));
  await l.remount();
  await rm(l.path('room'));
  await l.freeBytes();
  const before = await identify(l.path('large'));
  const { event, summary } = await defragmentOne(l.path('large'));
  expect(event).toMatchObject({ type: 'defragmented', fragmentsBefore: 1760 });
  // Which of the two depends on how the allocator divides what is left.
  expect(['no-better-place', 'no-space']).toContain(event?.type === 'defragmented' && event.incomplete);
  expect(await identify(l.path('large'))).toEqual(before);
  const after = await fragmentsOf(l.path('large'));
  expect(after).toBeLessThan(1200);
  expect(summary).toMatchObject({ files: 1, defragmented: 1, fragmentsAfter: after });
});

test('says so when free space is at its reserve, and leaves the file alone', async () => {
  const l = await useLab({ size: 128 * MiB });
  await writeFile(l.path('file'), randomBytes(8 * MiB));
  await l.fragment('file', 4);
  const filler = await l.create('filler');
  await fallocate(filler, 0, bytes(0), bytes((await l.freeBytes()) - 5 * MiB));
  const { event } = await defragmentOne(l.path('file'));
  expect(event).toMatchObject({ type: 'skip', reason: 'no-space' });
  expect(await filefrag(l.path('file'))).toBe(512);
});
