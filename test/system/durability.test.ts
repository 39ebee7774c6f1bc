import { randomBytes } from 'node:crypto';
import { openSync, closeSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { defragment } from '../../lib/index.ts';
import { MiB } from '../support/lab.ts';
import { moveWith, NO_BARRIER } from '../support/moveWith.ts';
import { useLab } from '../support/use.ts';

// test/support/crash.c, compiled by test/support/build.mjs.
const CRASH = fileURLToPath(new URL('../../build/test/crash', import.meta.url));
const OFFSET = 3 * MiB;
const LENGTH = 64 * 1024;

/** Moves a file with a barrier that may be another. */
const moved = (commit?: () => Promise<void>) => async (path: string) =>
  expect(await moveWith(path, commit)).toBe(1);

/** Answers whether what an application synced after the move is there after a crash. */
async function survives(data: string, move: (path: string) => Promise<unknown>): Promise<boolean> {
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
  await execa(CRASH, [path, String(OFFSET), String(LENGTH), 'N']);
  closeSync(application);
  await l.remount();
  const expected = Buffer.from(content);
  expected.fill('N', OFFSET, OFFSET + LENGTH);
  const got = await readFile(path);
  // Whatever happens to the synced write, the rest of the file is whole.
  expect(got.subarray(0, OFFSET).equals(expected.subarray(0, OFFSET))).toBe(true);
  expect(got.subarray(OFFSET + LENGTH).equals(expected.subarray(OFFSET + LENGTH))).toBe(true);
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
  expect(await survives('ordered', moved(NO_BARRIER))).toBe(false);
  // And the same with the real barrier, to show that it is what makes the difference.
  expect(await survives('ordered', moved())).toBe(true);
});
