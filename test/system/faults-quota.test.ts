// Limits that not every kernel knows, through the command: quotas, and the memory of a cgroup.
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, onTestFinished, test, type TestContext } from 'vitest';
import { EXIT } from '../../lib/cli/exitCode.ts';
import { NOBODY } from '../support/as.ts';
import { changed, FILE_SIZE, fragmentedFiles, runJson } from '../support/faults.ts';
import { identify, IN_VM, MiB, scaled, type Identity, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

test('256 MiB of memory: less is read ahead, and the run ends well', async (context) => {
  const group = await memoryGroup(context, 256 * MiB);
  const l = await useLab({ size: 1024 * MiB });
  const before = await fragmentedFiles(l, 2, scaled(128 * MiB), 512);
  await l.remount();
  const { exitCode, defragmented } = await runJson([l.mountPoint, '--no-state'], group.run);
  expect(exitCode).toBe(EXIT.OK);
  expect([...defragmented].sort()).toEqual(['a', 'b']);
  await l.remount();
  expect(await changed(l, before)).toEqual([]);
  const script = "import('./lib/move/readAhead.ts').then(({ AHEAD }) => console.log(AHEAD))";
  const [program, ...args] = [...group.run, process.execPath, '--import', 'tsx', '-e', script];
  const { stdout } = await execa(program, args, { cwd: fileURLToPath(new URL('../../', import.meta.url)) });
  expect(Number(stdout)).toBe(8 * MiB);
});

/** A cgroup with a limit, and the words that run something in it. */
async function memoryGroup({ skip }: TestContext, limit: number): Promise<{ run: string[] }> {
  const name = 'ext4-defrag-test';
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  const first = /^\S+ \S+ \S+ \S+ (\/sys\/fs\/cgroup\S*) .* - cgroup \S+ \S*\bmemory\b/m.exec(mounts)?.[1];
  if (first === undefined && !/ \/sys\/fs\/cgroup .* - cgroup2 /.test(mounts)) {
    skip(!IN_VM, 'no cgroup controller of memory is mounted');
    await execa('mount', ['-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
  }
  const folder = join(first ?? '/sys/fs/cgroup', name);
  if (first === undefined) await writeFile('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
  await mkdir(folder);
  onTestFinished(() => rmdir(folder));
  const file = first === undefined ? 'memory.max' : 'memory.limit_in_bytes';
  await writeFile(join(folder, file), String(limit));
  return { run: ['sh', '-c', `echo $$ > ${join(folder, 'cgroup.procs')}; exec "$0" "$@"`] };
}

test('EDQUOT: a user has reached the quota', async (context) => {
  const l = await quotaLab(context);
  const names = [...(await fragmentedFiles(l, 2)).keys()];
  for (const name of names) await execa('chown', [String(NOBODY), l.path(name)]);
  await execa('chmod', ['777', l.mountPoint]);
  await execa('chmod', ['755', dirname(l.mountPoint)]);
  const before = new Map<string, Identity>();
  for (const name of names) before.set(name, await identify(l.path(name)));
  await l.remount();
  // Both files, and half a donor.
  const limit = (2.5 * FILE_SIZE) / 1024;
  await execa('setquota', ['-u', String(NOBODY), '0', String(limit), '0', '0', l.mountPoint]);
  const user = ['setpriv', `--reuid=${NOBODY}`, '--clear-groups', '--inh-caps=-all', '--bounding-set=-all'];
  const result = await runJson([l.path('a'), l.path('b'), '--no-state'], user);
  // It is left as it was, for a reason, or in part; nothing fails.
  expect({ exitCode: result.exitCode, stderr: result.stderr, failed: [...result.failed] }).toEqual({
    exitCode: EXIT.OK,
    stderr: '',
    failed: [],
  });
  for (const reason of result.skipped.values()) expect(['no-space', 'no-better-place']).toContain(reason);
  expect(result.skipped.size).toBeGreaterThan(0);
  await l.remount();
  expect(await changed(l, before)).toEqual([]);
});

async function quotaLab({ skip }: TestContext): Promise<Lab> {
  const mkfs = ['-O', 'quota', '-E', 'quotatype=usrquota'];
  return useLab({ size: 128 * MiB, mkfs, mount: 'usrquota' }).catch(async (error: unknown) => {
    const { stdout } = await execa('dmesg');
    const why = /The kernel was not built with CONFIG_QUOTA.*/.exec(stdout)?.[0];
    if (why === undefined) throw error;
    return skip(why);
  });
}
