import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// The examples as a reader would run them: against the package that was built, on a real ext4.
const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));

const run = (name: string, ...args: string[]) =>
  execa(process.execPath, [join(EXAMPLES, name), ...args], { reject: false });

async function fragmented(l: Lab, name: string, size = 2 * MiB, blocks = 4): Promise<string> {
  await writeFile(l.path(name), randomBytes(size));
  await l.fragment(name, blocks);
  return l.path(name);
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-examples-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

test('each of them is tried here, and says what it takes when it is given nothing', async () => {
  const names = await readdir(EXAMPLES);
  expect(names.sort()).toEqual([
    'extents.mjs',
    'nightly.mjs',
    'plan-then-apply.mjs',
    'watch.mjs',
    'worst.mjs',
  ]);
  for (const name of names) {
    const { exitCode, stderr, stdout } = await run(name);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^${basename(name, '.mjs')}: name `));
  }
});

test('worst: the files that cost most, and nothing is changed', async () => {
  const l = await useLab();
  await mkdir(l.path('tree'));
  const [bad, worse] = [await fragmented(l, 'tree/bad', MiB), await fragmented(l, 'tree/worse')];
  await writeFile(l.path('tree/whole'), randomBytes(MiB));
  await execa('sync', ['-f', l.mountPoint]);
  const before = await Promise.all([bad, worse].map(identify));
  const all = await run('worst.mjs', l.path('tree'));
  expect(all).toMatchObject({ exitCode: 0, stderr: '' });
  const lines = all.stdout.split('\n');
  expect(lines).toEqual([
    expect.stringMatching(new RegExp(`^\\d\\.\\d{3} s\t128 fragments\t${worse}$`)) as string,
    expect.stringMatching(new RegExp(`^\\d\\.\\d{3} s\t64 fragments\t${bad}$`)) as string,
    '2 of 3 files are in more fragments than need be',
  ]);
  const one = await run('worst.mjs', l.mountPoint, '1');
  expect(one.stdout.split('\n')).toEqual([lines[0], '2 of 3 files are in more fragments than need be']);
  expect(await Promise.all([bad, worse].map(identify))).toEqual(before);
  expect(await filefrag(worse)).toBe(128);

  const missing = await run('worst.mjs', l.path('missing'));
  expect(missing).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('ENOENT') as string });
});

test('nightly: ends at its budget, goes on the next time, and stops when it is told to', async () => {
  const l = await useLab();
  const paths = [];
  for (const name of ['a', 'b', 'c', 'd']) paths.push(await fragmented(l, name, 4 * MiB));
  await l.remount();
  const before = await Promise.all(paths.map(identify));
  const env = { STATE_DIRECTORY: await temporaryFolder() };
  const nightly = (...args: string[]) =>
    execa(process.execPath, [join(EXAMPLES, 'nightly.mjs'), l.mountPoint, ...args], { env, reject: false });

  const first = await nightly('10', String(9 / 1024));
  expect(first.exitCode).toBe(0);
  expect(first.stdout).toContain('the limit of bytes is reached: run it again to go on');
  expect(first.stderr).toMatch(/^\d+ MiB moved, at \//m);
  const moved = (stdout: string) => stdout.split('\n').filter((line) => line.endsWith(' fragments')).length;
  const second = await nightly();
  expect(second.exitCode).toBe(0);
  expect(second.stdout).not.toContain('run it again');
  expect(moved(first.stdout)).toBeGreaterThan(0);
  expect(moved(second.stdout)).toBeGreaterThan(0);
  for (const path of paths) expect(await filefrag(path)).toBe(1);

  await writeFile(l.path('large'), randomBytes(128 * MiB));
  await l.fragment('large', 4);
  await l.remount();
  const large = await identify(l.path('large'));
  const running = nightly();
  // As soon as it moves something.
  running.stderr.once('data', () => running.kill('SIGTERM'));
  const stopped = await running;
  expect(stopped.exitCode).toBe(0);
  expect(stopped.stdout).toMatch(/bytes moved\nstopped: run it again to go on$/);
  expect(await identify(l.path('large'))).toEqual(large);
  expect(await filefrag(l.path('large'))).toBeGreaterThan(1);
  expect(await Promise.all(paths.map(identify))).toEqual(before);
});

test('watch: what happens as JSON lines, with names that are no text', async () => {
  const l = await useLab();
  const path = await fragmented(l, 'file');
  const odd = Buffer.concat([Buffer.from(`${l.mountPoint}/odd-`), Buffer.from([0xff])]);
  await execa('cp', [path, 'odd'], { cwd: l.mountPoint });
  await l.fragment('odd', 4);
  await execa('sh', ['-c', 'mv odd "$(printf "odd-\\377")"'], { cwd: l.mountPoint });
  await l.remount();
  const before = await identify(path);
  const { exitCode, stdout, stderr } = await run('watch.mjs', l.mountPoint);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const events = stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  for (const { time } of events) expect(Number.isNaN(Date.parse(String(time)))).toBe(false);
  const moved = events.filter(({ type }) => type === 'defragmented');
  expect(moved).toHaveLength(2);
  expect(moved).toContainEqual(expect.objectContaining({ path, fragmentsAfter: 1 }));
  // Of a sample: of one of them at least.
  expect(moved.some(({ measuredSecondsBefore }) => Number(measuredSecondsBefore) > 0)).toBe(true);
  expect(moved.map(({ pathBase64 }) => pathBase64)).toContain(odd.toString('base64'));
  expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: 2 });
  expect(await identify(path)).toEqual(before);
  expect(await filefrag(path)).toBe(1);
});

test('plan-then-apply: only what is worth it, and there is a way back', async () => {
  const l = await useLab();
  const path = await fragmented(l, 'file');
  await l.remount();
  const [before, folder] = [await identify(path), await temporaryFolder()];
  const dear = await run('plan-then-apply.mjs', l.mountPoint, folder, '1000');
  expect(dear).toMatchObject({ exitCode: 0, stderr: '' });
  expect(dear.stdout).toMatch(
    /^1 files, 2097152 bytes to move\nreading them once takes [\d.]+ s less then\nnot worth it$/,
  );
  expect(await filefrag(path)).toBe(128);

  await rm(join(folder, 'plan.json'));
  const done = await run('plan-then-apply.mjs', l.mountPoint, folder, '0');
  expect(done).toMatchObject({ exitCode: 0, stderr: '' });
  expect(done.stdout).toContain('fragments: 128 -> 1\npredicted 1, applied 1 steps\nundo: ');
  expect(await filefrag(path)).toBe(1);
  expect(await identify(path)).toEqual(before);

  const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  await execa(process.execPath, [cli, 'apply', join(folder, 'undo.json')]);
  expect(await filefrag(path)).toBe(128);
  expect(await identify(path)).toEqual(before);
});

test('extents: as filefrag has them', async () => {
  const l = await useLab();
  const path = await fragmented(l, 'file', MiB, 16);
  const { stdout, exitCode } = await run('extents.mjs', path);
  expect(exitCode).toBe(0);
  const lines = stdout.split('\n');
  expect(lines.at(-1)).toBe('16 extents, 16 fragments');
  const listed = (await execa('filefrag', ['-v', path])).stdout.matchAll(
    /^ +\d+: +(\d+)\.\. +\d+: +(\d+)\.\. +\d+: +(\d+):/gm,
  );
  expect(lines.slice(0, -1)).toEqual(Array.from(listed, ([, ...words]) => words.join('\t')));
});
