// The commands of the documentation, and a small system whose root is a lab's filesystem to run them in as they stand.
import { readFileSync } from 'node:fs';
import { mkdir, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import type { Lab } from './lab.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

/** Before a block that is not tried, with the reason; HTML comments are not shown. */
const UNTRIED = /^<!-- untried: .+ -->$/;

/** The fenced blocks of one language in a file of the documentation, without those that are marked as not tried. */
export function blocksOf(file: string, language: string): string[] {
  const lines = readFileSync(join(ROOT, file), 'utf8').split('\n');
  const blocks: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    if (!lines[at].startsWith('```')) continue;
    const end = lines.indexOf('```', at + 1);
    const before = lines.slice(0, at).findLast((line) => line !== '') ?? '';
    if (lines[at] === '```' + language && !UNTRIED.test(before)) {
      blocks.push(lines.slice(at + 1, end).join('\n'));
    }
    at = end;
  }
  return blocks;
}

/** The commands of the shell in a file, a line each. */
export const commandsOf = (file: string): string[] =>
  blocksOf(file, 'sh').flatMap((block) => block.split('\n').filter((line) => !/^(#|$)/.test(line)));

/** Where programs, and what they need, are found. */
const mounted = [...new Set(['/usr', ROOT, dirname(dirname(process.execPath))])].filter(
  (path) => path === '/usr' || !path.startsWith('/usr/'),
);

/** Makes of the lab's filesystem what a small system's root has to be. */
export async function furnish(lab: Lab): Promise<void> {
  for (const path of ['proc', 'sys', 'dev', 'tmp', 'run', 'opt/bin', ...mounted]) {
    await mkdir(lab.path(path), { recursive: true });
  }
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) await symlink(`usr/${name}`, lab.path(name));
  await symlink(join(ROOT, 'dist/cli/main.js'), lab.path('opt/bin/ext4-defrag'));
}

/** Mounts what is needed where nobody else sees it, and runs a command in it. */
const ENTER = `
set -e
root=$1 device=$2 major=$3 minor=$4 command=$5
shift 5
for path; do mount --rbind "$path" "$root$path"; done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/dev"
mknod "$root/dev/null" c 1 3
for name in "$device" sdb1; do mknod "$root/dev/$name" b "$major" "$minor"; done
exec chroot "$root" /bin/bash -euo pipefail -c "$command"
`;

/**
 * Runs a command of the shell as root of a system whose root is the lab's filesystem, mounted from what is called
 * /dev/sdb1 there as well.
 */
export async function runInside(lab: Lab, command: string) {
  const device = await lab.device();
  const { rdev } = await stat(device);
  // As makedev(3) has it.
  const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)];
  const parameters = [lab.mountPoint, basename(device), String(major), String(minor), command, ...mounted];
  return execa('unshare', ['--mount', 'sh', '-c', ENTER, 'sh', ...parameters], {
    reject: false,
    stripFinalNewline: false,
    extendEnv: false,
    env: {
      PATH: `/opt/bin:${dirname(process.execPath)}:/usr/local/bin:/usr/sbin:/usr/bin`,
      HOME: '/',
      LANG: 'C.UTF-8',
    },
  });
}
