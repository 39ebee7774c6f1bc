// The programs of this machine that the VM needs.
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { execa } from 'execa';
import { VmFailure } from './failure.ts';

const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Which Debian package brings a program, for the message that says it is missing. */
const packages: Record<string, string> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  mke2fs: 'e2fsprogs',
  'apt-get': 'apt',
  'dpkg-deb': 'dpkg',
  ldd: 'libc-bin',
  setpriv: 'util-linux',
};

/** Where a program is, or undefined. Many of them are in sbin, which is not on every user's PATH. */
export function findProgram(name: string): string | undefined {
  if (name.includes('/')) return existsSync(name) ? name : undefined;
  const folder = folders.find((candidate) => candidate !== '' && existsSync(join(candidate, name)));
  return folder === undefined ? undefined : realpathSync(join(folder, name));
}

export function requirePrograms(names: readonly string[]): void {
  const missing = names.filter((name) => findProgram(name) === undefined);
  if (missing.length === 0) return;
  const install = [...new Set(missing.map((name) => packages[name] ?? name))].join(' ');
  throw new VmFailure('setup', `missing programs: ${missing.join(', ')}; run: apt-get install ${install}`);
}

/** The guest is an amd64 Debian that runs this machine's own programs. */
export function requireX64Linux(): void {
  if (process.platform === 'linux' && process.arch === 'x64') return;
  throw new VmFailure('setup', `the VM needs Linux on x64; this is ${process.platform} on ${process.arch}`);
}

/** Runs a host program to its end; a failure becomes one line that says what was being done. */
export async function runProgram(
  doing: string,
  program: string,
  args: readonly string[],
  options: { cwd?: string; input?: Uint8Array } = {},
): Promise<string> {
  requirePrograms([program]);
  // execa fails on a program that stops reading its input early, so `input` goes in only where it is wanted.
  const result = await execa(program, args, {
    ...options,
    preferLocal: false,
    reject: false,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    env: { LC_ALL: 'C', PATH: folders.join(delimiter) },
  });
  if (!result.failed) return result.stdout;
  const why = result.stderr.trim().split('\n').at(-1) || result.shortMessage;
  throw new VmFailure('setup', `${doing} failed: ${program}: ${why}`);
}
