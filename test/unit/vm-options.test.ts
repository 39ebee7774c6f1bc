import { describe, expect, test } from 'vitest';
import { parseCommandLine, UsageError } from '../../vm/options.ts';

test('options end where the command begins', () => {
  const { vm } = parseCommandLine(['--kernel', '6.1', 'vitest', 'run', '--kernel', 'x']);
  expect(vm).toMatchObject({ kernel: '6.1', command: ['vitest', 'run', '--kernel', 'x'] });
  expect(parseCommandLine(['--', '--help']).vm.command).toEqual(['--help']);
});

test('all options', () => {
  const { vm, log, help } = parseCommandLine([
    ...['--memory=4096', '--timeout', '60', '--env', 'A=1=2', '--env=B=', '--allow-log', 'loop\\d'],
    ...['--log', 'file', '--disk', 'a', '--disk', 'b', '--accel', 'tcg', 'true'],
  ]);
  expect(help).toBe(false);
  expect(log).toBe('file');
  expect(vm).toEqual({
    command: ['true'],
    kernel: '6.12',
    memory: 4096,
    timeout: 60,
    env: { A: '1=2', B: '' },
    allowLog: [/loop\d/],
    disks: ['a', 'b'],
    accelerator: 'tcg',
  });
});

test('help needs no command', () => {
  expect(parseCommandLine(['--kernel', '6.1', '--help']).help).toBe(true);
});

describe('bad usage', () => {
  test.each([
    [[], /which command/],
    [['--kernel', '6.1'], /which command/],
    [['--kernel'], /--kernel needs a value/],
    [['--log=', 'true'], /--log needs a value/],
    [['--memory', '2G', 'true'], /--memory needs a whole number above 0, not "2G"/],
    [['--timeout', '0', 'true'], /--timeout/],
    [['--env', '1A=x', 'true'], /NAME=VALUE/],
    [['--env', 'A', 'true'], /NAME=VALUE/],
    [['--allow-log', '(', 'true'], /--allow-log/],
    [['--accel', 'xen', 'true'], /kvm or tcg/],
    [['--kernle', '6.1', 'true'], /no option --kernle/],
  ])('%j', (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
    expect(() => parseCommandLine(args)).toThrow(message);
  });
});
