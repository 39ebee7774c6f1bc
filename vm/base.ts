// The root disk: this machine's own node, tools and libraries, and the project's npm packages. The guest
// thereby runs the very programs that run here, and nothing needs to be installed in it.
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { cached, digest } from './cache.ts';
import { makeExt4 } from './ext4.ts';
import { findProgram, requirePrograms, runProgram } from './host.ts';
import { copyInto, copyTree } from './tree.ts';

const required = [
  ...['bash', 'env', 'mount', 'umount', 'losetup', 'findmnt', 'blkid', 'blockdev', 'fallocate', 'dmesg'],
  ...['mke2fs', 'mkfs.ext4', 'e2fsck', 'fsck.ext4', 'debugfs', 'dumpe2fs', 'tune2fs', 'resize2fs'],
  ...['chattr', 'lsattr', 'filefrag', 'e4defrag', 'e2freefrag'],
  ...['mkswap', 'swapon', 'swapoff', 'flock', 'cp', 'dd', 'sync'],
];

/** Taken along where this machine has them; for most of them busybox has a plainer version. */
const optional = [
  ...[
    'cat',
    'chmod',
    'chown',
    'cut',
    'date',
    'df',
    'du',
    'head',
    'id',
    'install',
    'link',
    'ln',
    'ls',
    'md5sum',
  ],
  ...[
    'mkdir',
    'mkfifo',
    'mknod',
    'mktemp',
    'mv',
    'nproc',
    'od',
    'readlink',
    'realpath',
    'rm',
    'rmdir',
    'seq',
  ],
  ...['sha256sum', 'shuf', 'sleep', 'sort', 'stat', 'stdbuf', 'tail', 'tee', 'timeout', 'touch', 'tr'],
  ...['truncate', 'uname', 'unlink', 'wc', 'yes', 'awk', 'cmp', 'diff', 'find', 'grep', 'gzip', 'sed', 'tar'],
  ...[
    'xargs',
    'xz',
    'zstd',
    'ps',
    'pgrep',
    'pkill',
    'kill',
    'prlimit',
    'taskset',
    'chrt',
    'ionice',
    'setsid',
  ],
  ...['fsfreeze', 'fstrim', 'lsblk', 'wipefs', 'unshare', 'nsenter', 'setpriv', 'script', 'blkdiscard'],
  ...[
    'badblocks',
    'e2image',
    'e2label',
    'e2undo',
    'mkfs.ext2',
    'mkfs.ext3',
    'mkfs.xfs',
    'mkfs.btrfs',
    'logsave',
  ],
  ...['dmsetup', 'fio', 'strace', 'fuser', 'lsof', 'getfattr', 'setfattr', 'attr', 'getfacl', 'setfacl'],
  ...['quotacheck', 'quotaon', 'quotaoff', 'repquota', 'setquota', 'xfs_io', 'jq', 'perf', 'rsync'],
];

/** npm packages that check or build the project but run none of its tests. */
const developmentOnly = [
  ...['@andrewbranch', '@arethetypeswrong', '@eslint', '@eslint-community', '@humanfs', '@publint', '@types'],
  ...['@typescript-eslint', 'cli-highlight', 'eslint', 'highlight.js', 'marked', 'node-emoji', 'prebuildify'],
  ...[
    'prettier',
    'publint',
    'typescript',
    'typescript-eslint',
    'undici-types',
    '.cache',
    '.vite',
    '.vite-temp',
  ],
];

const files: Readonly<Record<string, string>> = {
  '/etc/passwd': 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n',
  '/etc/group': 'root:x:0:\nnogroup:x:65534:\n',
  '/etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files\n',
  '/etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
  '/etc/hostname': 'vm\n',
};

/** With everything merged, each host path of a program or library has its place, whatever the host's layout. */
const links: Readonly<Record<string, string>> = {
  bin: 'usr/bin',
  sbin: 'usr/bin',
  lib: 'usr/lib',
  lib64: 'usr/lib64',
  'usr/sbin': 'bin',
  // e4defrag looks mounts up there.
  'etc/mtab': '/proc/self/mounts',
};
const emptyFolders = [
  ...['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'mnt', 'project', 'scratch'],
  ...['usr/bin', 'usr/lib64', 'usr/lib/modules', 'etc'],
];

/** The project's own programs are on the PATH, and others cannot be fetched: so npx just runs them. */
const npx = '#!/bin/sh\nexec "$@"\n';

/** The files a program is linked with, from what `ldd` prints. */
export function parseLdd(text: string): string[] {
  const paths = text.split('\n').map((line) => /^\s+(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line)?.[1]);
  return [...new Set(paths.filter((path) => path !== undefined))];
}

function programs(): { name: string; path: string }[] {
  requirePrograms([...required, 'ldd']);
  const found = [...required, ...optional].map((name) => ({ name, path: findProgram(name) }));
  const known = found.flatMap(({ name, path }) => (path === undefined ? [] : [{ name, path }]));
  return [...known, { name: 'node', path: process.execPath }];
}

export async function baseDisk(
  project: string,
  busybox: string,
  say: (text: string) => void,
): Promise<string> {
  const tools = programs();
  const state = await Promise.all(
    tools.map(
      async ({ name, path }) => `${name} ${path} ${(await stat(path)).size} ${(await stat(path)).mtimeMs}`,
    ),
  );
  const key = digest(
    process.version,
    state.join('\n'),
    await readFile(busybox),
    await readFile(join(project, 'node_modules', '.package-lock.json')),
    await readFile(new URL(import.meta.url)),
  );
  return await cached(`base-${key}.ext4`, async (image) => {
    say('building the root disk');
    const folder = `${image}-tree`;
    try {
      await fill(folder, tools, project, busybox);
      await makeExt4({ image, from: folder, freeBytes: 2 ** 30, label: 'base' });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

async function fill(
  root: string,
  tools: readonly { name: string; path: string }[],
  project: string,
  busybox: string,
): Promise<void> {
  for (const name of emptyFolders) await mkdir(join(root, name), { recursive: true });
  for (const [path, target] of Object.entries(links)) await symlink(target, join(root, path));
  for (const { name, path } of tools) await copyInto(root, path, join('/usr/bin', name));
  await installBusybox(root, busybox);
  for (const [path, text] of Object.entries(files)) await writeFile(join(root, path), text);
  await writeFile(join(root, 'usr/bin/npx'), npx, { mode: 0o755 });
  if (existsSync('/etc/mke2fs.conf')) await copyInto(root, '/etc/mke2fs.conf');
  await copyTree(join(project, 'node_modules'), join(root, 'node_modules'), (path) =>
    developmentOnly.includes(path),
  );
  await installLibraries(
    root,
    tools.map(({ path }) => path),
  );
}

/** The shared libraries of programs, and of the addons among the npm packages. */
async function installLibraries(root: string, programs: readonly string[]): Promise<void> {
  const packages = join(root, 'node_modules');
  const addons = (await readdir(packages, { recursive: true })).filter((name) => name.endsWith('.node'));
  const linked = [...programs, ...addons.map((name) => join(packages, name))];
  // A script or a static program makes ldd fail and say so; the others are answered all the same.
  const { stdout } = await execa('ldd', linked, { reject: false, stderr: 'ignore' });
  for (const library of parseLdd(stdout)) await copyInto(root, library);
}

/** Whatever program is not there comes from busybox. */
async function installBusybox(root: string, busybox: string): Promise<void> {
  await copyInto(root, busybox, '/usr/bin/busybox');
  await chmod(join(root, 'usr/bin/busybox'), 0o755);
  const applets = await runProgram('listing the applets', busybox, ['--list']);
  for (const applet of applets.split('\n')) {
    const path = join(root, 'usr/bin', applet);
    if (!existsSync(path)) await symlink('busybox', path);
  }
}
