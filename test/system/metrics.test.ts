import { randomBytes } from 'node:crypto';
import { lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest';
import { MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CLI = join(ROOT, 'dist/cli/main.js');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-metrics-'));
});
afterAll(() => rm(folder, { recursive: true }));

const run = (args: readonly string[], options: Options = {}) =>
  execa(process.execPath, [CLI, ...args], {
    reject: false,
    env: { STATE_DIRECTORY: folder },
    ...options,
  }) as Promise<{ exitCode: number; stdout: string; stderr: string }>;

/** Promtool's judgement, where it is installed: it is not in the VM. */
async function promtool(ctx: TestContext, args: string[], input?: string): Promise<void> {
  const result = await execa('promtool', args, { reject: false, all: true, ...(input && { input }) });
  if (result.failed && result.exitCode === undefined) ctx.skip('promtool is not installed');
  expect(result.all).not.toMatch(/error|warning|should/i);
  expect(result.exitCode).toBe(0);
}

const valueOf = (text: string, name: string): number =>
  Number(new RegExp(`^ext4_defrag_${name}\\{.*\\} (\\S+)$`, 'm').exec(text)?.[1] ?? NaN);

async function fragmented(l: Lab, size = 2 * MiB): Promise<void> {
  await writeFile(l.path('file'), randomBytes(size));
  await l.fragment('file', 4);
  await l.remount();
}

describe('--metrics', () => {
  test('a run leaves a file that promtool finds clean, and that says how things are now', async (ctx) => {
    const l = await useLab();
    await fragmented(l);
    const file = join(folder, 'run.prom');
    expect(await run(['--metrics', file, l.mountPoint])).toMatchObject({ exitCode: 0, stderr: '' });
    const text = await readFile(file, 'utf8');
    expect(valueOf(text, 'last_run_exit_status')).toBe(0);
    expect(valueOf(text, 'last_run_fragments_before')).toBe(128);
    expect(valueOf(text, 'last_run_moved_bytes')).toBe(2 * MiB);
    expect(valueOf(text, 'fragments')).toBe(1);
    expect(valueOf(text, 'score')).toBe(0);
    expect(valueOf(text, 'free_bytes')).toBeGreaterThan(100 * MiB);
    expect(valueOf(text, 'free_fragmentation_ratio')).toBeLessThan(0.2);
    expect(text).toContain(`mountpoint="${l.mountPoint}"`);
    expect(Math.abs(valueOf(text, 'last_run_timestamp_seconds') - Date.now() / 1000)).toBeLessThan(30);
    expect((await stat(file)).mode & 0o7777).toBe(0o644);
    await promtool(ctx, ['check', 'metrics'], text);
  });

  test('the mode does not depend on the umask, and no temporary file is left', async () => {
    const l = await useLab({ size: 64 * MiB });
    const own = await mkdtemp(join(folder, 'own-'));
    const file = join(own, 'x.prom');
    const command = `umask 077; exec "$0" "$1" check --metrics "$2" "$3"`;
    for (let i = 0; i < 2; i++) {
      await execa('sh', ['-c', command, process.execPath, CLI, file, l.mountPoint]);
      expect((await stat(file)).mode & 0o7777).toBe(0o644);
    }
    expect(await readdir(own)).toEqual(['x.prom']);
  });

  test('a run that cannot begin, and one that is stopped, write as well', async (ctx) => {
    const file = join(folder, 'failed.prom');
    // A target that is no ext4, with a name that could break out of its label.
    const target = await mkdtemp('/dev/shm/ext4-defrag-"\n} ');
    ctx.onTestFinished(() => rm(target, { recursive: true }));
    expect(await run(['--metrics', file, target])).toMatchObject({ exitCode: 3 });
    const failed = await readFile(file, 'utf8');
    expect(valueOf(failed, 'last_run_exit_status')).toBe(3);
    expect(valueOf(failed, 'last_run_unsupported_targets')).toBe(1);

    const l = await useLab();
    await fragmented(l, scaled(64 * MiB));
    const stopped = execa(process.execPath, [CLI, '--max-rate', '1M', '--metrics', file, l.mountPoint], {
      reject: false,
      env: { STATE_DIRECTORY: folder },
    });
    await new Promise((resolve) => setTimeout(resolve, scaled(1) < 1 ? 10_000 : 1500));
    stopped.kill('SIGTERM');
    expect((await stopped).exitCode).toBe(130);
    const text = await readFile(file, 'utf8');
    expect(valueOf(text, 'last_run_exit_status')).toBe(130);
    // Nobody waits for a look at all files then.
    expect(valueOf(text, 'score')).toBeNaN();
    await promtool(ctx, ['check', 'metrics'], failed + text.replaceAll(/^#.*\n/gm, ''));
  });

  test('a limit, an applied plan and consolidated space', async (ctx) => {
    const l = await useLab();
    await fragmented(l, 8 * MiB);
    const [file, plan] = [join(folder, 'limit.prom'), join(folder, 'plan.json')];
    expect(await run(['--metrics', file, '--max-bytes', '1M', l.mountPoint])).toMatchObject({ exitCode: 4 });
    const text = await readFile(file, 'utf8');
    expect(valueOf(text, 'last_run_exit_status')).toBe(4);
    expect(valueOf(text, 'last_run_left_files')).toBe(1);
    expect(valueOf(text, 'fragments')).toBeGreaterThan(100);
    await promtool(ctx, ['check', 'metrics'], text);
    await run(['plan', '-o', plan, l.mountPoint]);
    expect(await run(['apply', '--metrics', file, plan])).toMatchObject({ exitCode: 0 });
    const applied = await readFile(file, 'utf8');
    expect(applied).toContain('command="apply"');
    expect(valueOf(applied, 'last_run_defragmented_files')).toBe(1);
    expect(valueOf(applied, 'fragments')).toBe(1);
    await run(['space', '--consolidate', '--run', '16M', '--metrics', file, l.mountPoint]);
    expect(valueOf(await readFile(file, 'utf8'), 'free_largest_run_bytes')).toBeGreaterThanOrEqual(16 * MiB);
  });

  test.each([
    ['a symbolic link', 'it is a symbolic link', (path: string) => symlink('/dev/null', path)],
    ['a file of somebody else', 'not a file that this program wrote', (path: string) => writeFile(path, 'x')],
  ])('%s is left alone, before anything is done', async (name, message, make) => {
    const l = await useLab({ size: 64 * MiB });
    const file = join(folder, name.replaceAll(' ', '-'));
    await make(file);
    const before = await lstat(file);
    const result = await run(['--metrics', file, l.mountPoint]);
    expect(result).toMatchObject({ exitCode: 2, stdout: '' });
    expect(result.stderr).toContain(message);
    expect((await lstat(file)).ino).toBe(before.ino);
  });

  test('a device, and a folder that is not there, are refused', async () => {
    expect((await run(['check', '--metrics', '/dev/null', '/'])).stderr).toContain('no regular file');
    const result = await run(['check', '--metrics', join(folder, 'no', 'x.prom'), '/']);
    expect(result.exitCode).toBe(2);
    expect(result.stderr).toContain('no such file or directory');
  });

  test('what cannot be written at the end is a failure', async () => {
    const l = await useLab({ size: 64 * MiB });
    // A folder on a filesystem without a free inode.
    const full = await useLab({ size: 64 * MiB, mkfs: ['-N', '16'] });
    for (let i = 0; ; i++) {
      try {
        await writeFile(full.path(`f${i}`), '');
      } catch {
        break;
      }
    }
    const result = await run(['check', '--metrics', full.path('x.prom'), l.mountPoint]);
    expect(result.exitCode).toBe(1);
    expect(result.stderr).toContain('the metrics cannot be written: no space left on device');
  });
});

describe('the alert rules', () => {
  test('are rules, and fire when they should', async (ctx) => {
    await promtool(ctx, ['check', 'rules', join(ROOT, 'share/prometheus/ext4-defrag.rules.yml')]);
    await promtool(ctx, ['test', 'rules', join(ROOT, 'test/support/alerts.test.yml')]);
  });
});
