import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { optionsOf } from '../../lib/cli/manual/words.ts';
import { manualPage } from '../../lib/cli/manual/page.ts';
import { completionFor } from '../../lib/cli/completion/completion.ts';
import { helpText } from '../../lib/cli/help.ts';
import {
  COMMANDS,
  OPTIONS,
  parseCommandLine,
  SHELLS,
  visibleCommands,
  type OptionSpec,
} from '../../lib/cli/options.ts';
import { isInstalled, Shells } from '../support/shells.ts';

// Shells take their time to start.
vi.setConfig({ testTimeout: 60_000 });

let shells: Shells;
beforeAll(async () => {
  shells = await Shells.create();
  await mkdir(join(shells.files, 'folder'));
  await writeFile(join(shells.files, 'plan.json'), '');
});
afterAll(() => shells[Symbol.asyncDispose]());

/** Names of the folder, as shells show them. */
const FILES = ['folder', 'plan.json'];
const plain = (offers: readonly string[]) => offers.map((offer) => offer.replace(/\/$/, ''));

describe.each(SHELLS)('completion in %s', (shell) => {
  /** What is offered at the end of one line. */
  const cases: readonly (readonly [line: string, offers: readonly string[]])[] = [
    ['ext4-defrag ', [...visibleCommands(), ...FILES]],
    ['ext4-defrag pl', ['plan', 'plan.json']],
    ['ext4-defrag -v ch', ['check']],
    ['ext4-defrag --exclude check pla', ['plan', 'plan.json']],
    ['ext4-defrag check ', FILES],
    ['ext4-defrag check plan.json ', FILES],
    ['ext4-defrag folder che', []],
    ['ext4-defrag -- pl', ['plan.json']],
    ['ext4-defrag apply p', ['plan.json']],
    ['ext4-defrag demo ', []],
    ['ext4-defrag help c', visibleCommands().filter((command) => command.startsWith('c'))],
    ['ext4-defrag completion ', SHELLS],
    ['ext4-defrag --priority ', ['normal', 'low', 'idle']],
    ['ext4-defrag --priority l', ['low']],
    ['ext4-defrag --priority=', ['normal', 'low', 'idle']],
    ['ext4-defrag --priority=i', ['idle']],
    ['ext4-defrag --max-rate ', []],
    ['ext4-defrag plan -o pl', ['plan.json']],
    ['ext4-defrag plan --output=pl', ['plan.json']],
    ['ext4-defrag -c --to', ['--top']],
    ['ext4-defrag check --prio', []],
    ['ext4-defrag --to', []],
  ];

  test('offers what can stand there', async (ctx) => {
    if (!(await isInstalled(shell))) return ctx.skip(`${shell} is not installed`);
    const offers = await shells.offers(
      shell,
      cases.map(([line]) => line),
    );
    const found = cases.map(([line], i) => [line, plain(offers[i])]);
    expect(found).toEqual(cases.map(([line, expected]) => [line, [...expected].sort()]));
  });

  test("offers each command's own options", async (ctx) => {
    if (!(await isInstalled(shell))) return ctx.skip(`${shell} is not installed`);
    const commands = visibleCommands();
    const offers = await shells.offers(
      shell,
      commands.map((command) => `ext4-defrag ${command} --`),
    );
    const long = (names: readonly string[]) => plain(names).map((name) => name.replace(/=$/, ''));
    for (const [i, command] of commands.entries()) {
      const expected = optionsOf(command).map(([name]) => `--${name}`);
      expect(
        long(offers[i]).filter((name) => name.startsWith('--')),
        command,
      ).toEqual(expected.sort());
    }
  });
});

test('bash completes as one types, names with spaces too', async (ctx) => {
  for (const program of ['bash', 'script']) {
    if (!(await isInstalled(program))) return ctx.skip(`${program} is not installed`);
  }
  await writeFile(join(shells.files, 'a name'), '');
  const typed = [
    `source ${shells.script('bash')}`,
    'ext4-defrag() { printf "[%s]" "$@" >../typed; }',
    'ext4-defrag che\t--dev\tseek=1ms --verb\ta\\ n\tfol\t',
    'exit',
  ];
  await execa('script', ['-qec', 'bash --norc -i', '/dev/null'], {
    cwd: shells.files,
    input: typed.map((line) => `${line}\n`).join(''),
    env: { TERM: 'dumb', INPUTRC: '/dev/null' },
    timeout: 20_000,
  });
  const { stdout } = await execa('cat', [join(shells.folder, 'typed')]);
  expect(stdout).toBe('[check][--device-profile][seek=1ms][--verbose][a name][folder/]');
});

describe('the manual page', () => {
  const page = manualPage(new Date('2026-02-03T23:59:59Z'));

  test('mandoc finds nothing to complain of', async (ctx) => {
    if (!(await isInstalled('mandoc'))) return ctx.skip('mandoc is not installed');
    const { stdout, exitCode } = await execa('mandoc', ['-Tlint', '-Wstyle'], { input: page, reject: false });
    // Which other manuals are installed here says nothing of this one.
    const complaints = stdout.split('\n').filter((line) => !line.includes('referenced manual not found'));
    expect(complaints.filter(Boolean)).toEqual([]);
    expect(exitCode).toBeLessThan(2);
  });

  test('shows every command, option and value as it is typed', async (ctx) => {
    if (!(await isInstalled('mandoc'))) return ctx.skip('mandoc is not installed');
    const { stdout } = await execa('mandoc', ['-Tascii', '-Owidth=200'], { input: page });
    // Overstruck letters are bold.
    const text = stdout.split('\b').reduce((joined, part) => joined.slice(0, -1) + part);
    expect(text).toContain('February 3, 2026');
    for (const command of visibleCommands()) expect(text).toMatch(new RegExp(`^ +${command}( |$)`, 'm'));
    for (const [name, { short, value }] of Object.entries<OptionSpec>(OPTIONS)) {
      const argument = value ? ` ${value}` : '';
      const heading = short ? `-${short}${argument}, --${name}${argument}` : `--${name}${argument}`;
      expect(text).toMatch(new RegExp(`^ +${heading}( |$)`, 'm'));
      if (value) expect(text).toMatch(new RegExp(`^ +${value}( |$)`, 'm'));
    }
    expect(text).not.toContain('completion');
  });
});

describe('help of a command', () => {
  test.each(visibleCommands())('%s: its options and no other, in 80 columns', (command) => {
    const text = helpText(command);
    expect(text.split('\n')[0]).toContain(`ext4-defrag ${command}`);
    for (const name of Object.keys(OPTIONS)) {
      const has = optionsOf(command).some(([own]) => own === name);
      expect(new RegExp(`^ {2,6}(-., )?--${name}( |$)`, 'm').test(text), name).toBe(has);
    }
    expect(text).toContain('Examples:');
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  test('is what help COMMAND and COMMAND --help ask for', () => {
    expect(parseCommandLine(['help', 'check'])).toEqual({ kind: 'help', command: 'check' });
    expect(parseCommandLine(['check', '/srv', '--help'])).toEqual({ kind: 'help', command: 'check' });
    expect(parseCommandLine(['help'])).toEqual({ kind: 'help', command: undefined });
    expect(() => parseCommandLine(['help', 'me'])).toThrow(
      /help cannot do with me: give one of defrag, check/,
    );
    expect(() => parseCommandLine(['help', 'check', 'plan'])).toThrow(/check plan/);
  });

  test('its examples are command lines that are understood', () => {
    const lines = visibleCommands().flatMap((command) => [
      ...helpText(command).matchAll(/^ {4}(ext4-defrag .*)$/gm),
    ]);
    for (const [, line] of lines) {
      for (const part of line.split(' && ')) {
        const words = part.split(' ').map((word) => word.replaceAll("'", ''));
        expect(() => parseCommandLine(words.slice(1)), part).not.toThrow();
      }
    }
    expect(lines.length).toBeGreaterThan(visibleCommands().length);
  });
});

test('completion prints the script of a shell', () => {
  expect(parseCommandLine(['completion', 'zsh'])).toEqual({ kind: 'completion', shell: 'zsh' });
  for (const words of [[], ['tcsh'], ['bash', 'zsh']]) {
    expect(() => parseCommandLine(['completion', ...words])).toThrow(/give one of bash, zsh, fish/);
  }
  expect(completionFor('zsh')).toMatch(/^#compdef ext4-defrag\n/);
  expect(helpText()).not.toContain('completion');
  expect(COMMANDS.completion.hidden).toBe(true);
});
