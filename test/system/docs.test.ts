import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { COMMAND_MANUAL } from '../../lib/cli/manual/commands.ts';
import { blocksOf, commandsOf, furnish, runInside } from '../support/documented.ts';
import { filefrag, identify, IN_VM, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// What the documentation says can be typed, typed as it stands, in a system where all that is named in it is there and
// in fragments.

const FRAGMENTED = [
  'home/letter',
  'home/film',
  'srv/data/file',
  'srv/db/base',
  'srv/disk.img',
  'srv/torrents/complete/film',
  'srv/torrents/complete/new.part',
  'var/lib/mysql/ibdata1',
  'var/lib/libvirt/images/guest.img',
  'boot/kernel',
  'boot/initrd',
];
/** Its name is no text. */
const ODD = 'srv/odd-\\377';
const MAILS = Array.from({ length: 20 }, (_, i) => `var/mail/cur/${i}`);

/** A run gives way to others, so it takes its time on a machine that is busy. In milliseconds. */
const TIMEOUT = { timeout: 600_000 };

/** What must be said by the commands of which more is to be expected than that they say something. */
const SAID: readonly (readonly [command: RegExp, output: RegExp])[] = [
  [/sort_by\(\.idealReadSeconds/, /^"\/srv\/[\w./-]+"$/m],
  [/\{defragmented, bytesMoved/, /^\{\n {2}"defragmented": [1-9]\d*,\n {2}"bytesMoved": [1-9]\d*,/],
  [/to_entries\[\]/, /^1\timmutable$/m],
  [/inTheWay\[\]\.message/, /^it is immutable: chattr -i lets it be moved$/m],
  [/base64 -d/, /^\/srv\/odd-\ufffd\0$/],
  [/check \/home/, /fragment/],
  [/space --consolidate --run 20G/, /\S/],
  [/order-file/, /boot-files\.txt/],
  [/plan -o/, /^2 of 2 steps carried out/m],
  [/apply --keep-undo/, /^2 of 2 steps carried out/m],
  [/apply undo/, /^2 of 2 steps put back/m],
  [/max-latency 20/, /ibdata1: 32 -> 1 fragments/],
  [/--exclusive/, /guest\.img: 32 -> 1 fragments/],
  [/\*\.part/, /^(?![^]*new\.part)[^]*film: 32 -> 1 fragments/],
  [/explain \/srv\/db/, /^In the way {8}nothing$/m],
];

async function write(l: Lab, name: string, size: number): Promise<void> {
  await mkdir(dirname(l.path(name)), { recursive: true });
  await writeFile(l.path(name), randomBytes(size));
}

/** A system in which there is something to do for each command. */
async function system(): Promise<Lab> {
  const l = await useLab({ size: 384 * MiB });
  await furnish(l);
  for (const name of FRAGMENTED) await write(l, name, MiB);
  for (const name of MAILS) await write(l, name, 3000);
  await write(l, 'odd', MiB);
  await execa('bash', ['-c', `mv odd "$(printf '${ODD}')"`], { cwd: l.mountPoint });
  await writeFile(l.path('boot-files.txt'), '/boot/initrd\n/boot/kernel\n');
  return l;
}

/** Has the files lie in fragments, and nothing of them in the cache or open. */
async function fragment(l: Lab): Promise<void> {
  await execa('chattr', ['-i', l.path('srv/disk.img')]);
  for (const name of FRAGMENTED) await l.fragment(name, 8);
  await execa('chattr', ['+i', l.path('srv/disk.img')]);
  await l.remount();
}

const FILES = ['docs/scripting.md', 'docs/cookbook.md', 'README.md'];

/** demo makes a filesystem of its own, for which there is no loop device here; it is tried in other tests. */
const manual = Object.values(COMMAND_MANUAL)
  .flatMap(({ examples }) => examples.map(({ command }) => command))
  .filter((command) => command !== 'ext4-defrag demo');

const SOURCES = [
  ...FILES.map((file) => [file, commandsOf(file)] as const),
  ['the manual page', manual] as const,
];

// In the VM there is neither jq nor anything that an older kernel makes a difference to.
describe.skipIf(IN_VM)('what the documentation has one type', () => {
  test('there is much of it', () => {
    const all = SOURCES.flatMap(([, commands]) => commands);
    expect(all.length).toBeGreaterThan(35);
    expect(all.filter((command) => command.includes('| jq ')).length).toBeGreaterThanOrEqual(5);
    for (const [of] of SAID) expect(all.filter((command) => of.test(command))).not.toEqual([]);
  });

  test.each(SOURCES)('%s: each command works and says something', TIMEOUT, async (_, commands) => {
    const l = await system();
    const files = [...FRAGMENTED, ...MAILS].map((name) => l.path(name));
    const before = await Promise.all(files.map(identify));
    for (const command of commands) {
      // What is to be undone is what the command before has done.
      if (!/apply undo/.test(command)) await fragment(l);
      if (/apply --keep-undo/.test(command)) await runInside(l, 'ext4-defrag plan -o plan.json /home');
      const { exitCode, stdout, stderr } = await runInside(l, command);
      expect({ command, exitCode, stderr }).toEqual({
        command,
        exitCode: 0,
        stderr: expect.any(String) as string,
      });
      expect(stderr, command).not.toMatch(/error|cannot|denied|not found/i);
      const said = SAID.filter(([of]) => of.test(command)).map(([, output]) => output);
      for (const output of [/\S/, ...said]) expect(stdout, command).toMatch(output);
    }
    await execa('chattr', ['-i', l.path('srv/disk.img')]);
    // chattr changes ctime.
    const content = (all: Awaited<typeof before>) => all.map((one) => ({ ...one, ctime: 0n }));
    expect(content(await Promise.all(files.map(identify)))).toEqual(content(before));
  });

  test('README.md: the program does what it says', async () => {
    const [block, ...more] = blocksOf('README.md', 'ts');
    expect(more).toEqual([]);
    const l = await useLab();
    await write(l, 'data/file', MiB);
    await l.fragment('data/file', 8);
    await l.remount();
    expect(block).toContain("'/srv/data'");
    const source = `const { signal } = new AbortController();\n${block.replace('/srv/data', l.path('data'))}`;
    // Where the package's own name leads to it.
    const program = fileURLToPath(new URL('../../build/test/readme.mjs', import.meta.url));
    await writeFile(program, (await transform(source, { loader: 'ts' })).code);
    onTestFinished(() => rm(program));
    const { stdout } = await execa(process.execPath, [program]);
    expect(stdout).toBe(`${l.path('data/file')} 32 1`);
    expect(await filefrag(l.path('data/file'))).toBe(1);
  });
});
