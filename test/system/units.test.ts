import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest';
import { NOBODY } from '../support/as.ts';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { UnitFile } from '../support/unit.ts';
import { useLab } from '../support/use.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CLI = join(ROOT, 'dist/cli/main.js');
const UNITS = join(ROOT, 'share/systemd');
const SERVICE = join(UNITS, 'ext4-defrag@.service');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-units-'));
});
afterAll(() => rm(folder, { recursive: true }));

const has = async (program: string) =>
  (await execa('sh', ['-c', `command -v ${program}`], { reject: false })).exitCode === 0;

async function need(ctx: TestContext, ...programs: string[]): Promise<void> {
  for (const program of programs) if (!(await has(program))) ctx.skip(`${program} is not installed`);
}

/** Copies of the units that name a program which is there. */
async function installed(): Promise<string> {
  const copies = await mkdtemp(join(folder, 'units-'));
  for (const name of await readdir(UNITS)) {
    const text = await readFile(join(UNITS, name), 'utf8');
    await writeFile(join(copies, name), text.replaceAll('/usr/bin/ext4-defrag', CLI));
  }
  return copies;
}

describe('the units', () => {
  test('are found correct by systemd, the timer with its service', async (ctx) => {
    await need(ctx, 'systemd-analyze');
    const copies = await installed();
    const name = (await execa('systemd-escape', ['--path', '/srv/with space'])).stdout;
    const units = ['service', 'timer'].map((kind) => join(copies, `ext4-defrag@${name}.${kind}`));
    const result = await execa('systemd-analyze', ['verify', '--man=no', ...units], { all: true });
    expect(result.all).toBe('');
  });

  test('are exposed no more than they need', async (ctx) => {
    await need(ctx, 'systemd-analyze');
    const args = [
      'security',
      '--offline=true',
      '--no-pager',
      '--threshold=20',
      join(await installed(), 'ext4-defrag@.service'),
    ];
    const { exitCode, all } = await execa('systemd-analyze', args, { reject: false, all: true });
    expect(all).toMatch(/Overall exposure level .*: 1\.8 OK/);
    expect(exitCode).toBe(0);
  });

  test('use no system call that the filter has not', async (ctx) => {
    await need(ctx, 'systemd-analyze', 'strace');
    const l = await useLab();
    const unit = new UnitFile(SERVICE, l.mountPoint);
    const [allow, deny] = await Promise.all(
      unit.all('SystemCallFilter').map((value) => systemCalls(value.replace('~', '').split(' '))),
    );
    await fragmentedFile(l, 'file', 2 * MiB);
    const log = join(folder, 'strace');
    await execa('strace', ['-f', '-qq', '-o', log, '-e', 'signal=none', ...commandOf(unit, l.mountPoint)], {
      env: { STATE_DIRECTORY: folder },
    });
    const used = new Set((await readFile(log, 'utf8')).match(/(?<=^\d+ +)\w+(?=\()/gm));
    expect(used).toContain('open_by_handle_at');
    // V8 asks for protection keys and does without.
    expect(
      [...used]
        .filter((call) => !allow.has(call) || deny.has(call))
        .filter((call) => !call.startsWith('pkey_')),
    ).toEqual([]);
  });
});

/** The system calls that a list of names and sets stands for. */
async function systemCalls(names: readonly string[]): Promise<Set<string>> {
  const calls = new Set<string>();
  for (const name of names) {
    if (!name.startsWith('@')) {
      calls.add(name);
      continue;
    }
    const { stdout } = await execa('systemd-analyze', ['syscall-filter', name]);
    const members = stdout
      .split('\n')
      .slice(1)
      .map((line) => line.trim())
      .filter((line) => /^[@\w-]+$/.test(line));
    for (const call of await systemCalls(members)) calls.add(call);
  }
  return calls;
}

/** The unit's command, for a mount point that it is the unit of. */
function commandOf(unit: UnitFile, mountPoint: string): string[] {
  expect(unit.all('Environment')).toContain(`TARGET=${mountPoint}`);
  const [line] = unit.all('ExecStart');
  const [program, ...words] = line.split(' ').filter((word) => word !== '$EXT4_DEFRAG_OPTIONS');
  expect(program).toBe('/usr/bin/ext4-defrag');
  expect(words.slice(-2)).toEqual(['--', '${TARGET}']);
  return [process.execPath, CLI, ...words.slice(0, -1), mountPoint];
}

async function fragmentedFile(l: Lab, name: string, size: number): Promise<void> {
  await writeFile(l.path(name), randomBytes(size));
  await l.fragment(name, 4);
}

// No systemd runs here as the first process. What it would set up is set up by setpriv(1) and unshare(1) instead, from
// what the unit says: the capabilities, no new privileges, the network, and which folders can be written to. What is
// left out: the filter of system calls (above), and that of devices.
describe("the service's command, in the service's sandbox", () => {
  /** Runs it with other capabilities than the unit's, if that is asked for. */
  async function runUnit(
    l: Lab,
    { capabilities, more = [] }: { capabilities?: string[]; more?: string[] } = {},
  ) {
    const unit = new UnitFile(SERVICE, l.mountPoint);
    const caps = capabilities ?? unit.words('CapabilityBoundingSet');
    const state = await mkdtemp(join(folder, 'state-'));
    const [node, cli, ...args] = commandOf(unit, l.mountPoint);
    const writable = [...unit.words('ReadWritePaths').map((path) => path.replace(/^-/, '')), state];
    const script = [
      'set -e',
      // The folders in the list become mounts of their own, and all others are read-only.
      ...writable.filter((path) => existsSync(path)).map((path) => `mount --bind '${path}' '${path}'`),
      'for at in / /sys /dev; do mount -o remount,bind,ro "$at"; done',
      'if touch "$0" 2>/dev/null; then echo "the sandbox does not hold" >&2; exit 99; fi',
      'exec setpriv --no-new-privs --inh-caps=-all --bounding-set="$1" "${@:2}"',
    ].join('\n');
    const bounding = ['-all', ...caps.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)].join(',');
    const result = await execa(
      'unshare',
      [
        '--mount',
        '--net',
        '--ipc',
        '--propagation',
        'private',
        'bash',
        '-c',
        script,
        join(folder, 'outside'),
        bounding,
        node,
        cli,
        '--json',
        '-v',
        ...more,
        ...args,
      ],
      { reject: false, env: { STATE_DIRECTORY: state } },
    );
    const events = result.stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { type: string; [key: string]: unknown });
    return { result, events, state };
  }

  /** Files of root and of somebody whose folder nobody else may enter. */
  async function population(): Promise<Lab> {
    const l = await useLab();
    await mkdir(l.path('home'));
    await fragmentedFile(l, 'root', 2 * MiB);
    for (const name of ['large', 'small', 'open']) {
      await fragmentedFile(l, `home/${name}`, name === 'large' ? 4 * MiB : MiB / 4);
      await chown(l.path('home', name), NOBODY, NOBODY);
      await chmod(l.path('home', name), 0o400);
    }
    await chown(l.path('home'), NOBODY, NOBODY);
    await chmod(l.path('home'), 0o700);
    await l.remount();
    return l;
  }

  test('defragments what belongs to whomever, and keeps its state', async (ctx) => {
    await need(ctx, 'setpriv', 'unshare');
    const l = await population();
    const before = await identify(l.path('home', 'large'));
    const { result, events, state } = await runUnit(l);
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
    expect(events.find(({ type }) => type === 'target')).toMatchObject({ method: 'inode-table' });
    expect(events.filter(({ type }) => type === 'notice')).toEqual([]);
    expect(events.at(-1)).toMatchObject({ defragmented: 4, failed: 0, skipped: {} });
    expect(await filefrag(l.path('home', 'large'))).toBe(1);
    expect(await identify(l.path('home', 'large'))).toEqual(before);
    expect(await readdir(state)).toEqual([expect.stringMatching(/^[\da-f-]{36}\.json$/)]);
  });

  // The least: each capability of the unit is one without which less is done.
  test.each([
    ['CAP_DAC_OVERRIDE', [], { defragmented: 1, skipped: { 'no-permission': 3 } }],
    ['CAP_DAC_READ_SEARCH', [], { defragmented: 4, skipped: { 'lost-found': 1 } }],
    // A file that nobody has open is told from one that somebody has by the lease.
    ['CAP_LEASE', ['--exclusive'], { defragmented: 1, skipped: { 'open-elsewhere': 3 } }],
  ])('without %s it can do less', async (missing, more, summary) => {
    const l = await population();
    const all = new UnitFile(SERVICE, l.mountPoint).words('CapabilityBoundingSet');
    expect(all).toContain(missing);
    const { events } = await runUnit(l, { capabilities: all.filter((name) => name !== missing), more });
    expect(events.at(-1)).toMatchObject(summary);
  });

  test('with the lease, --exclusive leaves alone only what somebody has open', async (ctx) => {
    await need(ctx, 'setpriv', 'unshare');
    const l = await population();
    const file = await open(l.path('home', 'open'));
    ctx.onTestFinished(() => file.close());
    const { events } = await runUnit(l, { more: ['--exclusive'] });
    await file.close();
    expect(events.at(-1)).toMatchObject({ defragmented: 3, skipped: { 'open-elsewhere': 1 } });
  });

  test('a time limit is a success to systemd', () => {
    expect(new UnitFile(SERVICE, '/').words('SuccessExitStatus')).toEqual(['4', '130']);
  });
});
