import { randomBytes } from 'node:crypto';
import { openSync, closeSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { defragment } from '../../lib/index.ts';
import { fallocate, openTemporary } from '../../lib/kernel/allocate.ts';
import { readahead } from '../../lib/kernel/cache.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { AT_FDCWD, closeFd, O, openAt } from '../../lib/kernel/handle.ts';
import { pageSize } from '../../lib/kernel/page.ts';
import { mergeExtents } from '../../lib/layout/extents.ts';
import { blocks, bytes, type Bytes } from '../../lib/layout/units.ts';
import { exchange } from '../../lib/move/exchange.ts';
import { MiB, scaled } from '../support/lab.ts';
import { moveWith } from '../support/moveWith.ts';
import { useLab } from '../support/use.ts';

// test/support/crash.c, compiled by test/support/build.mjs.
const CRASH = fileURLToPath(new URL('../../build/test/crash', import.meta.url));
const SIZE = scaled(8 * MiB);
const OFFSET = (3 * SIZE) / 8;
const LENGTH = 64 * 1024;

/** Moves a file with the barrier, or without any care. */
const moved = (care?: 'careless') => async (path: string) => expect(await moveWith(path, care)).toBe(1);

/** Answers whether what an application synced after the move is there after a crash. */
async function survives(
  data: string,
  move: (path: string) => Promise<unknown>,
  { blockSize = 4096, offset = OFFSET, length = LENGTH } = {},
): Promise<boolean> {
  const l = await useLab({
    blockSize,
    // No commit may come by chance.
    mount: `commit=600,data=${data}`,
    expectedLog: /shut down|I\/O error|[Aa]bort|error -5|JBD2/,
  });
  const path = l.path('database');
  const content = randomBytes(SIZE);
  await writeFile(path, content);
  // More fragments than the inode holds: MOVE_EXT does not touch the sync tids of a deep tree.
  await l.fragment('database', 16384 / blockSize);
  await l.remount();
  // An application has it open, so no lease protects it.
  const application = openSync(path, 'r+');
  await move(path);
  await execa(CRASH, [path, String(offset), String(length), 'N']);
  closeSync(application);
  await l.remount();
  const expected = Buffer.from(content);
  expected.fill('N', offset, offset + length);
  const got = await readFile(path);
  // Whatever happens to the synced write, the rest of the file is whole.
  expect(got.subarray(0, offset).equals(expected.subarray(0, offset))).toBe(true);
  expect(got.subarray(offset + length).equals(expected.subarray(offset + length))).toBe(true);
  return got.equals(expected);
}

test.each(['ordered', 'writeback'])(
  'a write synced after a move survives a crash (data=%s)',
  async (data) => {
    const run = async (path: string) => {
      for await (const event of defragment([path])) expect(event.type).not.toMatch(/failed|skip|unsupported/);
    };
    for (let attempt = 0; attempt < 3; attempt++) expect(await survives(data, run)).toBe(true);
  },
);

test('without the barrier it would not: this is what the barrier is for', async () => {
  expect(await survives('ordered', moved('careless'))).toBe(false);
  // And the same with the real barrier, to show that it is what makes the difference.
  expect(await survives('ordered', moved())).toBe(true);
});

/** Exchanges all of a file that an application has open, in one call and without the barrier that comes after it. */
async function exchangedAt(path: string, blockSize: Bytes, committed: boolean): Promise<void> {
  const dirFd = await openAt(AT_FDCWD, Buffer.from(dirname(path)), O.RDONLY);
  const fd = await openAt(AT_FDCWD, Buffer.from(path), O.RDWR);
  const donorFd = await openTemporary(dirFd);
  try {
    await fallocate(donorFd, 0, bytes(0), bytes(SIZE));
    await readahead(fd, bytes(0), bytes(SIZE), bytes(128 * 1024));
    const [{ physical }] = await fiemap(donorFd, blockSize);
    const length = blocks(SIZE / blockSize);
    const segment = { donorFd, logical: blocks(0), donor: blocks(0), physical, length };
    const exposed = { blocksPerPage: (await pageSize()) / blockSize, commit: () => Promise.resolve() };
    const result = await exchange(fd, segment, blockSize, committed ? exposed : undefined);
    expect(result).toMatchObject({ moved: length, error: undefined });
    expect([...mergeExtents(await fiemap(fd, blockSize))]).toHaveLength(1);
  } finally {
    await Promise.all([dirFd, fd, donorFd].map(closeFd));
  }
}

test.each([1024, 4096] as const)(
  'what others have open is on the disk before they can write to it, but for its last page (%d)',
  async (blockSize) => {
    const [whole, lastPage] = [SIZE - 4096 - LENGTH, SIZE - 4096];
    const at = (committed: boolean) => (path: string) => exchangedAt(path, bytes(blockSize), committed);
    expect(await survives('ordered', at(true), { blockSize, offset: whole })).toBe(true);
    expect(await survives('writeback', at(true), { blockSize, offset: whole })).toBe(true);
    // Without it, and in the last page, it is the barrier that makes it durable.
    expect(await survives('ordered', at(false), { blockSize, offset: whole })).toBe(false);
    expect(await survives('ordered', at(true), { blockSize, offset: lastPage, length: 4096 })).toBe(false);
  },
);
