// Space and descriptors that run out, through the command.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { EXIT } from '../../lib/cli/exitCode.ts';
import { changed, fragmentedFiles, runJson, runUntilMoving } from '../support/faults.ts';
import { MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

test('64 open files: fewer are moved at a time, and all are', async () => {
  const l = await useLab({ size: 64 * MiB });
  const count = 96;
  const folders = Array.from({ length: 32 }, (_, i) => l.path(String(i)));
  const content = (i: number) => Buffer.alloc(32 * 1024, String(i));
  for (const folder of folders) await mkdir(folder);
  const names = Array.from({ length: count }, (_, i) => `${i % 32}/${i}`);
  for (const [i, name] of names.entries()) await writeFile(l.path(name), content(i));
  // By number, and by name.
  for (const targets of [[l.mountPoint], folders]) {
    for (const name of names) await l.fragment(name, 4);
    await l.remount();
    const limited = ['sh', '-c', 'ulimit -n 64; exec "$0" "$@"'];
    const { exitCode, failed, summary } = await runJson([...targets, '--no-state'], limited);
    expect({ exitCode, failed: [...failed] }).toEqual({ exitCode: EXIT.OK, failed: [] });
    expect(summary).toMatchObject({ defragmented: count, fragmentsAfter: count });
  }
  for (const [i, name] of names.entries()) {
    expect((await readFile(l.path(name))).equals(content(i))).toBe(true);
  }
});

test('ENOSPC: somebody else takes all space in the middle', async () => {
  const l = await useLab({ size: 128 * MiB });
  const before = await fragmentedFiles(l, 6, 4 * MiB, 16);
  await l.remount();
  const result = await runUntilMoving([l.mountPoint, '--no-state', '--max-rate', '4M'], () =>
    execa('sh', ['-c', 'cat /dev/zero > "$0" || true', l.path('greedy')]),
  );
  expect(result.acted).toBe(true);
  // Which one had it in hand is chance; nothing has failed.
  expect(result).toMatchObject({ exitCode: EXIT.OK, stderr: '', failed: new Map() });
  const reasons = new Set(result.skipped.values());
  expect([...reasons]).toEqual(['no-space']);
  expect(result.skipped.size).toBeGreaterThanOrEqual(before.size - 1);
  await rm(l.path('greedy'));
  await l.remount();
  expect(await changed(l, before)).toEqual([]);
});
