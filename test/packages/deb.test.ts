import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { debianWithNode } from '../support/foreign.ts';
import { filefrag, identify, MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

let folder: string;
const debs = new Map<string, string>();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-deb-test-'));
  await execa('npm', ['run', '--silent', 'prebuilds'], { cwd: ROOT });
  for (const arch of ['amd64', 'arm64']) {
    const make = [join(ROOT, 'share/packages/deb.mjs'), '--arch', arch, '--out', folder];
    debs.set(arch, (await execa(process.execPath, make)).stdout);
  }
});
afterAll(() => rm(folder, { recursive: true }));

describe.each(['amd64', 'arm64'])('the Debian package for %s', (arch) => {
  test('lintian finds nothing that is not explained', async () => {
    const { all } = await execa('lintian', ['--allow-root', debs.get(arch)!], { reject: false, all: true });
    expect(all).toBe('');
  });

  test('has what belongs in it, and the addon of its processor only', async () => {
    const { stdout } = await execa('dpkg-deb', ['--contents', debs.get(arch)!]);
    for (const path of [
      'usr/bin/ext4-defrag',
      'lib/systemd/system/ext4-defrag@.service',
      'lib/systemd/system/ext4-defrag@.timer',
      'usr/share/man/man8/ext4-defrag.8.gz',
      'usr/share/bash-completion/completions/ext4-defrag',
      'usr/share/zsh/vendor-completions/_ext4-defrag',
      'usr/share/fish/vendor_completions.d/ext4-defrag.fish',
      'usr/share/doc/ext4-defrag/copyright',
      'usr/share/doc/ext4-defrag/changelog.Debian.gz',
    ]) {
      expect(stdout).toMatch(new RegExp(` \\./${path}( ->.*)?$`, 'm'));
    }
    const addons = stdout.match(/[\w-]+\/[\w-]+\.node$/gm);
    expect(addons).toEqual([`linux-${arch === 'amd64' ? 'x64' : arch}/ext4-defrag.node`]);
  });
});

test('is installed in a clean Debian, defragments there, and leaves nothing when it is purged', async (ctx) => {
  const arch = (await execa('dpkg', ['--print-architecture'])).stdout;
  const deb = debs.get(arch)!;
  const l = await useLab({ size: 128 * MiB });
  // What the package changes in the clean system lands in a folder of its own.
  const system = await mkdtemp(join(folder, 'system-'));
  const [upper, work, root] = ['upper', 'work', 'root'].map((name) => join(system, name));
  for (const path of [upper, work, root]) await mkdir(path);
  const overlay = `lowerdir=${await debianWithNode()},upperdir=${upper},workdir=${work}`;
  await execa('mount', ['-t', 'overlay', '-o', overlay, 'overlay', root]);
  ctx.onTestFinished(() => execa('umount', ['--recursive', root]).then(() => undefined));
  await execa('mount', ['--rbind', '--make-rslave', '/dev', join(root, 'dev')]);
  for (const kind of ['proc', 'sysfs']) {
    await execa('mount', ['-t', kind, kind, join(root, kind === 'proc' ? 'proc' : 'sys')]);
  }
  await mkdir(join(root, 'mnt/lab'));
  await execa('mount', ['--bind', l.mountPoint, join(root, 'mnt/lab')]);
  const inside = (...command: string[]) =>
    execa('chroot', [root, ...command], {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
      extendEnv: false,
    });
  const files = (await inside('find', '/usr', '/etc', '/lib', '/var/lib', '-xdev')).stdout.split('\n').sort();
  await copyFile(deb, join(root, 'tmp', basename(deb)));
  await inside('dpkg', '--install', `/tmp/${basename(deb)}`);
  expect((await inside('ext4-defrag', '--version')).stdout).toMatch(/^ext4-defrag \d/);
  // No timer runs that nobody has enabled.
  expect((await inside('find', '/etc/systemd', '-name', '*defrag*')).stdout).toBe('');

  await writeFile(l.path('file'), randomBytes(4 * MiB));
  await l.fragment('file', 4);
  const before = await identify(l.path('file'));
  const run = await inside('ext4-defrag', '/mnt/lab');
  expect(run.stdout).toContain('256 -> 1 fragments');
  expect(await filefrag(l.path('file'))).toBe(1);
  expect(await identify(l.path('file'))).toEqual(before);

  await inside('dpkg', '--purge', 'ext4-defrag');
  const after = (await inside('find', '/usr', '/etc', '/lib', '/var/lib', '-xdev')).stdout.split('\n').sort();
  // dpkg keeps its own database as it was before the last change.
  const ours = (list: string[]) => list.filter((path) => !/^\/var\/lib\/dpkg\//.test(path));
  expect(ours(after)).toEqual(ours(files));
  expect(after.filter((path) => path.includes('ext4-defrag'))).toEqual([]);
});
