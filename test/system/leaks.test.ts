import { closeSync, openSync, readdirSync, statfsSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { check, defragment } from '../../lib/index.ts';
import { commit } from '../support/layout.ts';
import { filefrag, MiB, scaled } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const COUNT = scaled(10_000);
const A_DIRECTORY = 1000;

const openFds = () => readdirSync('/proc/self/fd').length;

test(`over ${COUNT} files no descriptor, no block and no inode is lost`, async () => {
  const l = await useLab({ size: 512 * MiB, mkfs: ['-N', String(COUNT + 5000)] });
  const paths = Array.from({ length: COUNT }, (_, i) =>
    l.path(`dir${Math.floor(i / A_DIRECTORY)}`, `file${i}`),
  );
  for (let i = 0; i < COUNT; i += A_DIRECTORY) await mkdir(l.path(`dir${i / A_DIRECTORY}`));
  // What the second round adds to a file cannot lie behind what it has: there the next file lies.
  for (let round = 0; round < 2; round++) {
    const block = Buffer.alloc(l.blockSize, `round ${round}`);
    for (const path of paths) {
      const fd = openSync(path, 'a');
      writeSync(fd, block);
      closeSync(fd);
    }
    await commit(l);
  }
  expect(await filefrag(paths[0])).toBe(2);
  const state = async () => {
    await commit(l);
    const { bfree, ffree } = statfsSync(l.mountPoint);
    return { fds: openFds(), blocks: bfree, inodes: ffree };
  };
  const before = await state();
  let most = 0;

  // A consumer that goes away, a run that is stopped, one that ends, and those that look only.
  let seen = 0;
  for await (const event of defragment([l.path('dir0')])) {
    if (event.type === 'defragmented' && ++seen === 100) break;
  }
  expect(await state()).toEqual(before);
  const stop = new AbortController();
  for await (const event of defragment([l.mountPoint], { signal: stop.signal })) {
    if (event.type === 'progress') stop.abort();
  }
  expect(await state()).toEqual(before);
  let moved = 0;
  for await (const event of defragment([l.mountPoint])) {
    most = Math.max(most, openFds());
    if (event.type !== 'summary') continue;
    expect(event).toMatchObject({ failed: 0, files: COUNT });
    moved = event.defragmented;
  }
  expect(moved).toBeGreaterThan(COUNT / 2);
  expect(await state()).toEqual(before);
  for (const everyFile of [true, false]) {
    for await (const event of check([l.mountPoint], { everyFile })) {
      if (event.type === 'file') most = Math.max(most, openFds());
      if (event.type === 'summary') expect(event).toMatchObject({ fragmentedFiles: 0, fragments: COUNT });
    }
  }
  expect(await state()).toEqual(before);
  // A batch's files and their donors: far from the 1024 that a process may have.
  expect(most - before.fds).toBeLessThan(400);
});
