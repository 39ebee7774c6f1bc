import { randomBytes } from 'node:crypto';
import { chmodSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { afterAll, describe, expect, test } from 'vitest';
import { filefrag, identify, MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// The command as it is installed: compiled, in a process of its own.
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

// What runs leave for the next is none of this machine's.
process.env.STATE_DIRECTORY = await mkdtemp(join(tmpdir(), 'ext4-defrag-state-'));
await chmod(process.env.STATE_DIRECTORY, 0o1777);
afterAll(() => rm(process.env.STATE_DIRECTORY ?? '', { recursive: true }));

const run = (args: readonly string[], options: Options = {}) =>
  execa(process.execPath, [CLI, ...args], { reject: false, ...options }) as Promise<{
    exitCode: number;
    stdout: string;
    stderr: string;
  }>;

const lines = (stdout: string) =>
  stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { type: string; schema: number; [key: string]: unknown });

async function fragmented(l: Lab, name: string, size = 2 * MiB, run = 4): Promise<string> {
  await writeFile(l.path(name), randomBytes(size));
  await l.fragment(name, run);
  return l.path(name);
}

describe('defrag', () => {
  test('says what changed, and exits 0; again, says that nothing could be improved and why', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    const before = await identify(path);
    const first = await run([path]);
    expect(first).toMatchObject({ exitCode: 0, stderr: '' });
    expect(first.stdout).toContain('128 -> 1 fragments');
    expect(await filefrag(path)).toBe(1);
    expect(await identify(path)).toEqual(before);
    const second = await run([path]);
    expect(second.exitCode).toBe(0);
    expect(second.stdout).toMatch(/nothing/i);
    expect(second.stdout).toMatch(/contiguous/);
    expect(second.stdout).not.toMatch(/\bOK\b/);
  });

  test('--json: every line has type and schema, the last is the summary of the contract', async () => {
    const l = await useLab();
    await fragmented(l, 'file');
    await writeFile(l.path('whole'), randomBytes(MiB));
    await l.remount();
    const { exitCode, stdout } = await run(['--json', '-v', l.mountPoint]);
    expect(exitCode).toBe(0);
    const events = lines(stdout);
    for (const event of events)
      expect(event).toMatchObject({ schema: 1, type: expect.any(String) as string });
    expect(events.at(-1)).toMatchObject({
      type: 'summary',
      files: 2,
      defragmented: 1,
      skipped: { 'already-contiguous': 1 },
      failed: 0,
      fragmentsBefore: 129,
      fragmentsAfter: 2,
      bytesMoved: 2 * MiB,
      seconds: expect.any(Number) as number,
    });
  });

  test('options reach the engine: --exclude, --min-size, --max-size, --fragment-size, --full', async () => {
    const l = await useLab();
    for (const name of ['keep.log', 'small', 'large'])
      await fragmented(l, name, name === 'small' ? MiB : 3 * MiB);
    await fragmented(l, 'medium', 2 * MiB, 256);
    const summary = async (...args: string[]) =>
      lines((await run(['plan', '--json', ...args, l.mountPoint])).stdout).at(-1);
    expect(await summary()).toMatchObject({ filesToMove: 4 });
    expect(await summary('--exclude', '*.log', '--exclude', 'small')).toMatchObject({
      filesToMove: 2,
      skipped: { excluded: 2 },
    });
    expect(await summary('--min-size', '2M', '--max-size=2MiB')).toMatchObject({
      filesToMove: 1,
      skipped: { 'too-small': 1, 'too-large': 2 },
    });
    expect(await summary('--fragment-size', '256K')).toMatchObject({ filesToMove: 3 });
    expect(await summary('--full')).toMatchObject({ filesToMove: 4 });
  });

  test('--exclusive leaves a file alone that another process has open', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    await l.remount();
    const holder = execa('sh', ['-c', 'exec 3< "$0"; echo ready; read line', path], {
      stdin: 'pipe',
      buffer: false,
    });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    try {
      const { stdout, exitCode } = await run(['--exclusive', '--json', path]);
      expect(exitCode).toBe(0);
      expect(lines(stdout).at(-1)).toMatchObject({ defragmented: 0, skipped: { 'open-elsewhere': 1 } });
      expect(await filefrag(path)).toBe(128);
    } finally {
      holder.stdin.end('\n');
      await holder;
    }
    expect(lines((await run(['--exclusive', '--json', path])).stdout).at(-1)).toMatchObject({
      defragmented: 1,
    });
  });

  test('a running program is left alone, and runs on', async () => {
    const l = await useLab();
    await copyFile('/bin/sleep', l.path('sleep'));
    await chmod(l.path('sleep'), 0o755);
    await l.fragment('sleep', 2);
    await l.remount();
    const sleeper = execa(l.path('sleep'), ['60']);
    try {
      await new Promise((resolve) => sleeper.once('spawn', resolve));
      const { stdout } = await run(['--json', l.path('sleep')]);
      expect(lines(stdout).at(-1)).toMatchObject({ skipped: { running: 1 }, failed: 0 });
    } finally {
      sleeper.kill();
      await sleeper.catch(() => undefined);
    }
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s: ends with exit 130, everything whole and committed',
    async (signal) => {
      const l = await useLab({ size: 1024 * MiB });
      const names = ['a', 'b', 'c', 'd'];
      for (const name of names) await fragmented(l, name, scaled(64 * MiB), 2);
      const before = await Promise.all(names.map((name) => identify(l.path(name))));
      await l.remount();
      const child = execa(process.execPath, [CLI, '--json', l.mountPoint], { reject: false });
      // The first chunk is done when the first file or progress line comes.
      await new Promise((resolve) => child.stdout.once('data', resolve));
      child.kill(signal);
      const { exitCode, stdout } = await child;
      expect(exitCode).toBe(130);
      expect(lines(stdout).at(-1)).toMatchObject({ type: 'summary', interrupted: true, failed: 0 });
      await l.remount();
      expect(await Promise.all(names.map((name) => identify(l.path(name))))).toEqual(before);
    },
  );

  test('a budget ends the run with exit 4, the next goes on, and both say so', async () => {
    const l = await useLab();
    for (const name of ['a', 'b', 'c']) await fragmented(l, name, 4 * MiB);
    await l.remount();
    const first = await run(['--max-bytes', '6M', l.mountPoint]);
    expect(first.exitCode).toBe(4);
    expect(first.stdout).toMatch(/limit of bytes/);
    const second = await run(['--json', l.mountPoint]);
    expect(second.exitCode).toBe(0);
    expect(lines(second.stdout).at(-1)).toMatchObject({ continued: true, defragmented: 2 });
    expect((await readdir(process.env.STATE_DIRECTORY ?? '')).length).toBeGreaterThan(0);
  });

  test('SIGUSR1 shows where the run is, and nothing else happens', async () => {
    const l = await useLab();
    await fragmented(l, 'a', 8 * MiB);
    await l.remount();
    const child = execa(process.execPath, [CLI, '--json', '--max-rate', '2M', l.mountPoint], {
      reject: false,
    });
    await new Promise((resolve) =>
      child.stdout.on('data', (text: Buffer) => /"progress"/.test(text.toString()) && resolve(text)),
    );
    child.kill('SIGUSR1');
    const { exitCode, stderr } = await child;
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/MiB/);
    expect(stderr).not.toMatch(/Debugger/);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test('results to a closed pipe end the run quietly', async () => {
    const l = await useLab();
    for (let i = 0; i < 50; i++) await fragmented(l, `file-${i}`, 64 * 1024, 1);
    const { stdout, stderr } = await execa('sh', [
      '-c',
      '"$0" "$1" -v "$2" | head -n 1',
      process.execPath,
      CLI,
      l.mountPoint,
    ]);
    expect(stdout.split('\n')).toHaveLength(1);
    expect(stderr).toBe('');
  });
});

describe('check', () => {
  test('counts as filefrag does, and ends in the summary of the contract', async () => {
    const l = await useLab();
    await fragmented(l, 'file');
    await writeFile(l.path('whole'), randomBytes(MiB));
    await l.remount();
    for (const args of [
      ['check', '--json'],
      ['-c', '--json'],
    ]) {
      const { stdout, exitCode } = await run([...args, l.mountPoint]);
      expect(exitCode).toBe(0);
      expect(lines(stdout).at(-1)).toMatchObject({
        type: 'summary',
        files: 2,
        fragmentedFiles: 1,
        fragments: (await filefrag(l.path('file'))) + 1,
        idealFragments: 2,
        bytes: 3 * MiB,
        score: expect.any(Number) as number,
        seconds: expect.any(Number) as number,
      });
    }
    const text = await run(['check', l.mountPoint]);
    expect(text.stdout).toContain('file');
    expect(text.stdout).toMatch(/score/i);
  });
});

describe('bad input', () => {
  test.each([
    [['--no-such-option', '/tmp'], /--no-such-option/],
    [[], /target/i],
    [['--min-size', 'huge', '/tmp'], /--min-size/],
    [['check', '--full', '/tmp'], /--full/],
  ])('%j is wrong usage: one clear line and exit 2', async (args, message) => {
    const { exitCode, stdout, stderr } = await run(args);
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
    expect(stderr).toContain('--help');
    expect(stderr.split('\n').length).toBeLessThanOrEqual(2);
  });

  test('a path that does not exist fails by name, and the other targets go on', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    const { exitCode, stdout, stderr } = await run([l.path('missing'), path]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('missing');
    expect(stderr).toMatch(
      /: no such file or directory \(ENOENT, stat\); see whether it is spelled right and mounted$/m,
    );
    expect(stdout).toContain('128 -> 1 fragments');
  });

  test.each([
    ['another filesystem', { make: (l: Lab) => Promise.resolve(l.path('..')) }, /ext4/],
    [
      'a FIFO',
      { make: async (l: Lab) => (await execa('mkfifo', [l.path('fifo')]), l.path('fifo')) },
      /neither|not/,
    ],
  ])('%s as the target is not supported: exit 3', async (_, { make }, message) => {
    const l = await useLab();
    // The folder beside the mount is on whatever /tmp is; a tmpfs makes sure that it is no ext4.
    const elsewhere = l.path('tmpfs');
    await mkdir(elsewhere);
    await execa('mount', ['-t', 'tmpfs', 'none', elsewhere]);
    try {
      const target = (await make(l)).endsWith('fifo') ? l.path('fifo') : elsewhere;
      const { exitCode, stderr } = await run([target]);
      expect(exitCode).toBe(3);
      expect(stderr).toMatch(message);
    } finally {
      await execa('umount', [elsewhere]);
    }
  });

  test('a device that is not mounted: exit 3, and what to do', async () => {
    const l = await useLab();
    const device = await l.device();
    // A second loop device of the same image, which nobody mounts.
    const { stdout: other } = await execa('losetup', ['--find', '--show', '--read-only', l.image]);
    try {
      expect(other).not.toBe(device);
      const { exitCode, stderr } = await run([other]);
      expect(exitCode).toBe(3);
      expect(stderr).toMatch(/not mounted/);
    } finally {
      await execa('losetup', ['--detach', other]);
    }
  });

  test.each([
    { what: 'no journal', lab: { mkfs: ['-O', '^has_journal'] }, override: '--allow-no-journal' },
    { what: 'fast_commit', lab: { mkfs: ['-O', 'fast_commit'] }, override: '--allow-fast-commit' },
    { what: 'data=journal', lab: { mount: 'data=journal' }, override: undefined },
    { what: 'bigalloc', lab: { mkfs: ['-O', 'bigalloc', '-C', '16384'] }, override: undefined },
  ])('a filesystem with $what is refused by name, and nothing is moved', async ({ what, lab, override }) => {
    const l = await useLab(lab);
    await writeFile(l.path('file'), randomBytes(MiB));
    if (override !== undefined) await l.fragment('file', 4);
    const before = await filefrag(l.path('file'));
    const { exitCode, stderr } = await run([l.mountPoint]);
    expect(exitCode).toBe(3);
    expect(stderr).toContain(what);
    expect(await filefrag(l.path('file'))).toBe(before);
    if (override === undefined) return;
    expect(stderr).toContain(override);
    expect((await run([override, l.mountPoint])).exitCode).toBe(0);
    expect(await filefrag(l.path('file'))).toBe(1);
  });

  test('a read-only mount is refused, and can be checked', async () => {
    const l = await useLab();
    await fragmented(l, 'file');
    await l.unmount();
    await execa('mount', ['-o', 'loop,ro', l.image, l.mountPoint]);
    try {
      const { exitCode, stderr } = await run([l.mountPoint]);
      expect(exitCode).toBe(3);
      expect(stderr).toMatch(/read-only/);
      expect((await run(['check', l.mountPoint])).exitCode).toBe(0);
    } finally {
      await execa('umount', [l.mountPoint]);
    }
  });
});

describe('hostile trees', () => {
  test('names are shown without control characters, and are bytes', async () => {
    const l = await useLab();
    const names = ['new\nline', 'esc\u001b[31mred', 'tab\t', 'bidi\u202e', 'back\\slash'].map((n) =>
      Buffer.from(n),
    );
    names.push(Buffer.from([0x62, 0x61, 0x64, 0xff, 0xfe]), Buffer.alloc(255, 'x'));
    for (const name of names) {
      await writeFile(l.path('plain'), randomBytes(64 * 1024));
      await l.fragment('plain', 4);
      await l.unmount();
      await l.mount();
      await (
        await import('node:fs/promises')
      ).rename(l.path('plain'), Buffer.concat([Buffer.from(`${l.mountPoint}/`), name]));
    }
    const check = async () =>
      lines((await run(['-c', '--json', l.mountPoint])).stdout).filter(({ type }) => type === 'file');
    const json = await check();
    expect(json).toHaveLength(names.length);
    const text = await run(['-v', l.mountPoint]);
    expect(text.exitCode).toBe(0);
    // eslint-disable-next-line no-control-regex
    expect(text.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e\ufffd]/);
    expect(text.stdout.match(/-> 1 fragments/g)).toHaveLength(names.length);
    expect(await check()).toEqual([]);
    const bytes = json.find(({ pathBase64 }) => pathBase64 !== undefined)?.pathBase64 as string;
    expect(Buffer.from(bytes, 'base64').subarray(-2)).toEqual(Buffer.from([0xff, 0xfe]));
  });

  test('links below the target are not followed, FIFOs and devices are not opened, other mounts not entered', async () => {
    const l = await useLab();
    const inside = await useLab();
    const path = await fragmented(inside, 'elsewhere');
    await mkdir(l.path('top', 'mount'), { recursive: true });
    await symlink(inside.mountPoint, l.path('top', 'link-to-directory'));
    await symlink(path, l.path('top', 'link-to-file'));
    await execa('mkfifo', [l.path('top', 'fifo')]);
    await execa('mknod', [l.path('top', 'device'), 'c', '1', '3']);
    await execa('mount', ['--bind', inside.mountPoint, l.path('top', 'mount')]);
    try {
      const walk = await run(['--json', '-v', l.path('top')]);
      expect(walk.exitCode).toBe(0);
      expect(lines(walk.stdout).at(-1)).toMatchObject({
        files: 0,
        skipped: { 'not-regular': 4, 'other-filesystem': 1 },
      });
      const tables = await run(['--json', '-v', l.mountPoint]);
      expect(tables.exitCode).toBe(0);
      expect(lines(tables.stdout).at(-1)).toMatchObject({ files: 0, skipped: { 'not-regular': 4 } });
      expect(await filefrag(path)).toBe(128);
    } finally {
      await execa('umount', [l.path('top', 'mount')]);
    }
  });

  test('a link that the user names is followed', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    await symlink(path, l.path('link'));
    expect((await run([l.path('link')])).exitCode).toBe(0);
    expect(await filefrag(path)).toBe(1);
  });

  test('an ordinary user: own files are moved, the rest is left alone with the reason', async () => {
    const l = await useLab();
    await mkdir(l.path('own'));
    await execa('chown', ['65534:65534', l.path('own')]);
    for (const name of ['own/mine', 'own/theirs']) await fragmented(l, name);
    await execa('chown', ['65534:65534', l.path('own/mine')]);
    chmodSync(l.path('own/theirs'), 0o600);
    await mkdir(l.path('own/closed'), { mode: 0o700 });
    await chmod(join(l.mountPoint, '..'), 0o755);
    const { stdout, exitCode, stderr } = await run(['--json', l.path('own')], { uid: 65534, gid: 65534 });
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
    expect(lines(stdout).at(-1)).toMatchObject({
      defragmented: 1,
      skipped: { 'no-permission': 2 },
      failed: 0,
    });
    expect(await filefrag(l.path('own/mine'))).toBe(1);
  });
});

describe('under the name e4defrag', () => {
  async function asE4defrag(l: Lab, args: readonly string[]) {
    await mkdir(l.path('bin'), { recursive: true });
    await symlink(CLI, l.path('bin/e4defrag')).catch(() => undefined);
    return execa(process.execPath, [l.path('bin/e4defrag'), ...args], { reject: false });
  }

  /** The lines that scripts read, numbers and all; ours and e4defrag's must be the same. */
  const facts = (stdout: string) =>
    stdout
      // eslint-disable-next-line no-control-regex
      .replace(/\u001b\[[0-9;]*[A-Za-z]/g, '')
      .split('\n')
      .filter((line) => /score|Total\/best|Average size|needs? defrag|does not need|Success/.test(line))
      .map((line) => line.trim());

  test('-c of a file says what e4defrag says', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    await l.remount();
    const real = await execa('e4defrag', ['-c', path], { reject: false });
    const ours = await asE4defrag(l, ['-c', path]);
    expect(facts(ours.stdout)).toEqual(facts(real.stdout));
    expect(facts(real.stdout).length).toBeGreaterThanOrEqual(4);
    expect(ours.exitCode).toBe(real.exitCode);
  });

  test('a file, a directory, and what cannot be done: output and exit status of e4defrag', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    const one = await asE4defrag(l, ['-v', path]);
    expect(one.exitCode).toBe(0);
    expect(one.stdout).toContain(`ext4 defragmentation for ${path}`);
    expect(one.stdout).toMatch(/\[1\/1\].*100%.*extents: 128 -> 1\s+\[ OK \]/);
    expect(one.stdout).toContain('Success:\t\t\t[1/1]');
    await mkdir(l.path('dir'));
    await fragmented(l, 'dir/a');
    await fragmented(l, 'dir/b');
    const directory = await asE4defrag(l, [l.path('dir')]);
    expect(directory.exitCode).toBe(0);
    // e4defrag counts the directory itself too, as one that failed.
    expect(directory.stdout).toMatch(/Success:\t+\[ 2\/3 \]/);
    expect(directory.stdout).toMatch(/Failure:\t+\[ 1\/3 \]/);
    expect((await asE4defrag(l, [l.path('missing')])).exitCode).toBe(1);
    expect((await asE4defrag(l, [])).exitCode).toBe(1);
    expect((await asE4defrag(l, ['--json', path])).exitCode).toBe(1);
  });
});

test('no temporary file is left behind', async () => {
  const l = await useLab();
  await fragmented(l, 'file');
  await run([l.mountPoint]);
  expect((await readdir(l.mountPoint)).sort()).toEqual(['file', 'lost+found']);
});

test('--version and --help', async () => {
  expect((await run(['--version'])).stdout).toMatch(/\d+\.\d+\.\d+/);
  const help = await run(['--help']);
  expect(help.exitCode).toBe(0);
  for (const option of ['--json', '--full', '--fragment-size', '--exclude', '--exclusive']) {
    expect(help.stdout).toContain(option);
  }
});
