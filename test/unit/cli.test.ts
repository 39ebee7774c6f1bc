import { describe, expect, test } from 'vitest';
import { exitCodeOf } from '../../lib/cli/exitCode.ts';
import { helpText } from '../../lib/cli/help.ts';
import { COMMANDS, OPTIONS, parseCommandLine } from '../../lib/cli/options.ts';
import { parseSize } from '../../lib/cli/size.ts';
import { UsageError } from '../../lib/cli/usageError.ts';

const parsed = (...args: string[]) => {
  const line = parseCommandLine(args);
  if (line.kind !== 'run') throw new Error(`not a run: ${line.kind}`);
  return line;
};

describe('the command line', () => {
  test('a target alone is defragmented', () => {
    expect(parsed('/srv')).toMatchObject({
      command: 'defrag',
      targets: ['/srv'],
      verbose: false,
      json: false,
    });
  });

  test('commands, and what only looks like one', () => {
    expect(parsed('check', '/srv')).toMatchObject({ command: 'check', targets: ['/srv'] });
    expect(parsed('-c', '/srv')).toMatchObject({ command: 'check', targets: ['/srv'] });
    expect(parsed('-cv', '/srv')).toMatchObject({ command: 'check', verbose: true });
    expect(parsed('./check')).toMatchObject({ command: 'defrag', targets: ['./check'] });
    expect(parsed('--', 'check')).toMatchObject({ command: 'defrag', targets: ['check'] });
  });

  test('options go to the engine in bytes', () => {
    const { engine } = parsed(
      '--fragment-size',
      '64K',
      '--min-size=1M',
      '--max-size',
      '2GiB',
      '--exclusive',
      '/srv',
    );
    expect(engine).toMatchObject({
      fragmentSize: 65536,
      minSize: 2 ** 20,
      maxSize: 2 ** 31,
      exclusive: true,
    });
    expect(parsed('--exclude', '*.a', '--exclude', 'b/c', '/srv').engine.exclude).toEqual(['*.a', 'b/c']);
    expect(parsed('plan', '--full', '/srv').engine.full).toBe(true);
  });

  test('help and version need no target', () => {
    expect(parseCommandLine(['--help']).kind).toBe('help');
    expect(parseCommandLine(['check', '-h']).kind).toBe('help');
    expect(parseCommandLine(['--version']).kind).toBe('version');
  });

  test('a target that is not UTF-8 is handed on as its bytes', () => {
    const bytes = Buffer.from([0x61, 0xff]);
    const line = parseCommandLine(['a\ufffd'], () => bytes);
    expect(line).toMatchObject({ targets: [bytes] });
  });

  test.each([
    [[], /target/],
    [['check'], /target/],
    [['--nonsense', '/srv'], /--nonsense/],
    [['check', '--full', '/srv'], /--full/],
    [['plan', '--exclusive', '/srv'], /--exclusive/],
    [['--fragment-size', '/srv'], /--fragment-size|target/],
    [['--min-size', '10Q', '/srv'], /10Q/],
    [['--json=yes', '/srv'], /--json/],
    [['plan', '-c', '/srv'], /plan/],
    [['demo', '/srv'], /demo/],
  ])('%j is wrong usage, in one line', (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
    try {
      parseCommandLine(args);
    } catch (error) {
      expect((error as Error).message).toMatch(message);
      expect((error as Error).message).not.toContain('\n');
    }
  });

  test('help names every command and option, in 80 columns', () => {
    const text = helpText();
    for (const name of Object.keys(COMMANDS)) expect(text).toMatch(new RegExp(`^ +${name}\\b`, 'm'));
    for (const name of Object.keys(OPTIONS)) expect(text).toContain(`--${name}`);
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});

test('sizes', () => {
  const sizes = ['0', '512', '4k', '4K', '4KiB', '8M', '1G', '2T'];
  expect(sizes.map((text) => parseSize(text, '--min-size'))).toEqual([
    ...[0, 512, 4096, 4096, 4096],
    ...[8 * 2 ** 20, 2 ** 30, 2 * 2 ** 40],
  ]);
  for (const text of ['', '-1', 'x', '1Z', '4MB', '1.5M', '1e3', '99999999999T', ' 1', '0x10']) {
    expect(() => parseSize(text, '--min-size'), text).toThrow(/--min-size/);
  }
});

test('exit codes: a signal, then a failure, then an unsupported target', () => {
  const code = (interrupted: boolean, failed: number, unsupported: number) =>
    exitCodeOf({ interrupted, failed, unsupported });
  expect(code(false, 0, 0)).toBe(0);
  expect(code(false, 2, 1)).toBe(1);
  expect(code(false, 0, 1)).toBe(3);
  expect(code(true, 1, 1)).toBe(130);
});
