// The least that a user needs for each thing that the command does: SECURITY.md has the list.
import { randomBytes } from 'node:crypto';
import { chmod, chown, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { NOBODY } from '../support/as.ts';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const STRANGER = 1000;

/** Runs the command as a user who has these capabilities and no others, not even by executing something. */
async function runWith(capabilities: readonly string[], args: readonly string[]) {
  const list = ['-all', ...capabilities.map((name) => `+${name}`)].join();
  const { stdout, stderr, exitCode } = await execa(
    'setpriv',
    [
      ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--no-new-privs'],
      ...[`--inh-caps=${list}`, `--ambient-caps=${list}`, `--bounding-set=${list}`],
      ...[process.execPath, CLI, ...args],
    ],
    { reject: false },
  );
  const events = stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, string>);
  return { events, stderr, exitCode };
}

/** A file of the user, one of somebody else that he may read, and one that he may not. */
async function filesOf(l: Lab): Promise<void> {
  await chmod(join(l.mountPoint, '..'), 0o755);
  for (const [name, owner, mode] of [
    ['mine', NOBODY, 0o600],
    ['theirs', STRANGER, 0o644],
    ['secret', STRANGER, 0o600],
  ] as const) {
    await writeFile(l.path(name), randomBytes(MiB / 4));
    await l.fragment(name, 4);
    await chown(l.path(name), owner, owner);
    await chmod(l.path(name), mode);
  }
  await l.remount();
}

const ALL = { mine: 'defragmented', theirs: 'defragmented', secret: 'defragmented' };
const OWN = { mine: 'defragmented', theirs: 'no-permission', secret: 'no-permission' };

test.each([
  { capabilities: [], args: [], method: 'walk', files: OWN },
  { capabilities: ['dac_override'], args: [], method: 'walk', files: ALL },
  // Every file has a layout and the device can be read, but what may not be written to stays where it is.
  { capabilities: ['dac_read_search'], args: [], method: 'inode-table', files: OWN },
  { capabilities: ['dac_override', 'dac_read_search'], args: [], method: 'inode-table', files: ALL },
  {
    capabilities: ['dac_override', 'dac_read_search'],
    args: ['--exclusive'],
    method: 'inode-table',
    files: { mine: 'defragmented', theirs: 'open-elsewhere', secret: 'open-elsewhere' },
  },
  {
    capabilities: ['dac_override', 'dac_read_search', 'lease'],
    args: ['--exclusive'],
    method: 'inode-table',
    files: ALL,
  },
])('with $capabilities, $args: $method, $files', async ({ capabilities, args, method, files }) => {
  const l = await useLab({ size: 128 * MiB });
  await chown(l.mountPoint, NOBODY, NOBODY);
  await filesOf(l);
  const names = Object.keys(files);
  const before = await Promise.all(names.map((name) => identify(l.path(name))));
  const { events, stderr, exitCode } = await runWith(capabilities, [
    '--json',
    '-v',
    '--no-state',
    ...args,
    l.mountPoint,
  ]);
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  const target = events.find(({ type }) => type === 'target');
  expect(target).toMatchObject({ method });
  if (method === 'walk') expect(target?.walkReason).toMatch(/CAP_DAC_READ_SEARCH/);
  const became = Object.fromEntries(
    events.flatMap(({ type, path, reason }) =>
      ['skip', 'failed', 'defragmented'].includes(type)
        ? [[path.slice(l.mountPoint.length + 1), reason ?? type]]
        : [],
    ),
  );
  expect(became).toMatchObject(files);
  for (const [name, outcome] of Object.entries(files)) {
    expect(await filefrag(l.path(name))).toBe(outcome === 'defragmented' ? 1 : 16);
  }
  expect(await Promise.all(names.map((name) => identify(l.path(name))))).toEqual(before);
});

test('where no file may be made nothing can be moved, and it says so; CAP_DAC_OVERRIDE is enough', async () => {
  const l = await useLab({ size: 128 * MiB });
  await chmod(l.mountPoint, 0o755);
  await filesOf(l);
  const refused = await runWith([], ['--json', '--no-state', l.mountPoint]);
  expect(refused.exitCode).toBe(3);
  expect(refused.events).toContainEqual(
    expect.objectContaining({
      type: 'unsupported',
      message: expect.stringContaining('no temporary file may be made here') as string,
    }),
  );
  expect(await filefrag(l.path('mine'))).toBe(16);
  expect((await runWith([], ['check', '--json', l.mountPoint])).events.at(-1)).toMatchObject({
    files: 2,
    fragmentedFiles: 2,
    skipped: { 'no-permission': 1 },
  });
  const done = await runWith(['dac_override'], ['--json', '--no-state', l.mountPoint]);
  expect(done).toMatchObject({ exitCode: 0, stderr: '' });
  expect(done.events.at(-1)).toMatchObject({ defragmented: 3, failed: 0 });
});
