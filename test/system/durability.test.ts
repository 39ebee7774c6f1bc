import { randomBytes } from 'node:crypto';
import { openSync, closeSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { defragment } from '../../lib/index.ts';
import { fallocate, openTemporary } from '../../lib/kernel/allocate.ts';
import { readahead } from '../../lib/kernel/cache.ts';
import { fiemap } from '../../lib/kernel/fiemap.ts';
import { closeFd, O } from '../../lib/kernel/handle.ts';
import { pageSize } from '../../lib/kernel/page.ts';
import { Barrier } from '../../lib/move/barrier.ts';
import { Budget } from '../../lib/move/budget.ts';
import { exchange } from '../../lib/move/exchange.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { moveBatch, placeWhereFree } from '../../lib/move/batch.ts';
import { Pace } from '../../lib/move/pace/pace.ts';
import { Scanner, type ScannedFile } from '../../lib/scan/scan.ts';
import { planOptionsFor } from '../../lib/scan/session.ts';
import { openTarget } from '../../lib/scan/targets.ts';
import { MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// test/support/crash.c, compiled by test/support/build.mjs.
const CRASH = fileURLToPath(new URL('../../build/test/crash', import.meta.url));
const OFFSET = 3 * MiB;
const LENGTH = 64 * 1024;

/** Moves one file with a barrier that may do nothing. */
async function moveWith(path: string, commit?: () => Promise<void>): Promise<void> {
  const target = await openTarget(Buffer.from(path));
  const barrier = await Barrier.open(target.dirFd, target.filesystem.kernel);
  if (commit !== undefined) barrier.commit = commit;
  try {
    const files: ScannedFile[] = [];
    for await (const item of new Scanner({}, false).scan(target)) if (item.kind === 'file') files.push(item);
    const outcomes = moveBatch(
      files.map((file) => ({ file, planned: file.size })),
      {
        filesystem: target.filesystem,
        dirFd: target.dirFd,
        pageSize: await pageSize(),
        barrier,
        planOptions: planOptionsFor(target, {}),
        exclusive: false,
        pace: new Pace({}, target.filesystem.id),
        budget: new Budget(undefined, {}),
        ending: () => 'interrupted',
        memory: undefined,
        measurement: undefined,
        placer: placeWhereFree,
        searchDepth: undefined,
      },
    );
    const kinds: string[] = [];
    for await (const outcome of outcomes) kinds.push(outcome.kind);
    expect(kinds).toContain('defragmented');
  } finally {
    await barrier.close();
    await closeFd(target.dirFd);
  }
}

/** Answers whether what an application synced after the move is there after a crash. */
async function survives(
  data: string,
  move: (path: string) => Promise<void>,
  offset = OFFSET,
): Promise<boolean> {
  const l = await useLab({
    // No commit may come by chance.
    mount: `commit=600,data=${data}`,
    expectedLog: /shut down|I\/O error|[Aa]bort|error -5|JBD2/,
  });
  const path = l.path('database');
  const content = randomBytes(8 * MiB);
  await writeFile(path, content);
  // More fragments than the inode holds: MOVE_EXT does not touch the sync tids of a deep tree.
  await l.fragment('database', 4);
  await l.remount();
  // An application has it open, so no lease protects it.
  const application = openSync(path, 'r+');
  await move(path);
  await execa(CRASH, [path, String(offset), String(LENGTH), 'N']);
  closeSync(application);
  await l.remount();
  const expected = Buffer.from(content);
  expected.fill('N', offset, offset + LENGTH);
  const got = await readFile(path);
  // Whatever happens to the synced write, the rest of the file is whole.
  expect(got.subarray(0, offset).equals(expected.subarray(0, offset))).toBe(true);
  expect(got.subarray(offset + LENGTH).equals(expected.subarray(offset + LENGTH))).toBe(true);
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
  // What MOVE_EXT exchanged last is not committed by itself (moveCommitted in lib/move/exchange.ts).
  const last = 8 * MiB - LENGTH;
  expect(await survives('ordered', (path) => moveWith(path, () => Promise.resolve()), last)).toBe(false);
  // And the same with the real barrier, to show that it is what makes the difference.
  expect(await survives('ordered', (path) => moveWith(path), last)).toBe(true);
});

test.each([1024, 4096])(
  'an exchange of an open file is durable before anybody can write again (%d)',
  async (blockSize) => {
    const l = await useLab({
      blockSize,
      mount: 'commit=600',
      expectedLog: /shut down|I\/O error|[Aa]bort|error -5|JBD2/,
    });
    const path = l.path('database');
    await writeFile(path, randomBytes(8 * MiB));
    await l.fragment('database', 16384 / blockSize);
    await l.remount();
    const fd = await l.open('database');
    const application = openSync(path, 'r+');
    const donorFd = await openTemporary(await l.open('.', O.RDONLY));
    const length = 8 * MiB;
    await fallocate(donorFd, 0, bytes(0), bytes(length));
    await readahead(fd, bytes(0), bytes(length), bytes(128 * 1024));
    const count = blocks(length / blockSize);
    const physical = [...(await fiemap(donorFd, bytes(blockSize)))][0].physical;
    const segment = { donorFd, logical: blocks(0), donor: blocks(0), physical, length: count };
    const blocksPerPage = (await pageSize()) / blockSize;
    // The barrier comes after the call: here it never does.
    const result = await exchange(fd, segment, bytes(blockSize), {
      blocksPerPage,
      commit: () => Promise.resolve(),
    });
    expect(result).toEqual({ moved: count, error: undefined });
    await execa(CRASH, [path, String(OFFSET), String(LENGTH), 'N']);
    closeSync(application);
    await closeFd(donorFd);
    await l.remount();
    expect((await readFile(path)).subarray(OFFSET, OFFSET + LENGTH).equals(Buffer.alloc(LENGTH, 'N'))).toBe(
      true,
    );
  },
);
