import { describe, expect, test } from 'vitest';
import { parseDeviceProfile } from '../../lib/cli/deviceProfile.ts';
import { exitCodeOf } from '../../lib/cli/exitCode.ts';
import { helpText } from '../../lib/cli/help.ts';
import { OPTIONS, parseCommandLine, visibleCommands } from '../../lib/cli/options.ts';
import { parsePercent } from '../../lib/cli/percent.ts';
import { onStatusSignal } from '../../lib/cli/signals.ts';
import { parseCount, parseRate, parseSize } from '../../lib/cli/size.ts';
import { parseDuration, parseLatency } from '../../lib/cli/time.ts';
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

  test('space has the options that all commands share, and no other', () => {
    expect(parsed('space', '--json', '/srv')).toMatchObject({
      command: 'space',
      json: true,
      targets: ['/srv'],
    });
    for (const option of ['--full', '--verbose', '--exclude=x', '--top=3', '--max-bytes=1']) {
      expect(() => parseCommandLine(['space', option, '/srv'])).toThrow(/the command space has no option/);
    }
  });

  test('how many files check lists is a matter of the report', () => {
    expect(parsed('check', '/srv').top).toBe(10);
    expect(parsed('check', '--top', '0', '/srv').top).toBe(0);
    expect(parsed('-c', '--top=3', '--top', '250', '/srv').top).toBe(250);
  });

  test.each(['check', 'plan', 'defrag'])('%s takes a device profile', (command) => {
    expect(parsed(command, '/srv').engine.deviceProfile).toBeUndefined();
    const line = parsed(command, '--device-profile', 'seek=12ms,bandwidth=180M', '/srv');
    expect(line.engine.deviceProfile).toEqual({ seek: 0.012, bandwidth: 180 * 2 ** 20 });
  });

  test('defrag gives way, and keeps what the next run can use, unless told otherwise', () => {
    expect(parsed('/srv').engine).toMatchObject({
      priority: 'idle',
      pressure: 15,
      state: true,
      maxRate: undefined,
      maxLatency: undefined,
      timeLimit: undefined,
      maxBytes: undefined,
      maxWrittenPercent: undefined,
      ignoreHistory: false,
      wait: false,
      measure: false,
    });
  });

  test.each(['check', 'plan'])('%s is told nothing of that', (command) => {
    const { engine } = parsed(command, '/srv');
    for (const name of ['priority', 'pressure', 'state']) expect(engine).not.toHaveProperty(name);
  });

  test.each([
    [['--priority', 'low'], { priority: 'low' }],
    [['--priority=normal'], { priority: 'normal' }],
    [['--max-rate', '20M'], { maxRate: 20 * 2 ** 20 }],
    [['--max-rate', '20MiB/s'], { maxRate: 20 * 2 ** 20 }],
    [['--max-latency', '20'], { maxLatency: 20 }],
    [['--max-latency', '0.5s'], { maxLatency: 500 }],
    [['--pressure', '100'], { pressure: 100 }],
    [['--pressure', '40%'], { pressure: 40 }],
    [['--time-limit', '1h30m'], { timeLimit: 5400 }],
    [['--max-bytes', '1G'], { maxBytes: 2 ** 30 }],
    [['--max-written-percent', '2.5'], { maxWrittenPercent: 2.5 }],
    [['--state', 'some/file'], { state: 'some/file' }],
    [['--state=/var/lib/é'], { state: '/var/lib/é' }],
    [['--no-state'], { state: undefined }],
    [['--ignore-history', '--wait', '--measure'], { ignoreHistory: true, wait: true, measure: true }],
  ])('%j reaches the engine', (options, expected) => {
    expect(parsed(...options, '/srv').engine).toMatchObject(expected);
    for (const command of ['check', 'plan']) {
      expect(() => parseCommandLine([command, ...options, '/srv'])).toThrow(/has no option .*defrag/);
    }
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
    [['plan', '--top', '3', '/srv'], /--top.*check/],
    [['check', '--top', 'many', '/srv'], /--top many/],
    [['check', '--top=-1', '/srv'], /--top -1/],
    [['check', '--top'], /--top needs a value: N/],
    [['check', '--device-profile', 'fast', '/srv'], /--device-profile fast/],
    [['demo', '--device-profile', 'seek=1ms'], /--device-profile/],
    [['--priority', 'high', '/srv'], /--priority high is not known: give normal, low, idle/],
    [['--max-rate', '0', '/srv'], /--max-rate must be more than 0/],
    [['--max-rate', '20MB/s', '/srv'], /--max-rate 20MB is not a size/],
    [['--max-latency', '0', '/srv'], /--max-latency must be more than 0/],
    [['--max-latency', 'soon', '/srv'], /--max-latency soon is not a time/],
    [['--pressure', '0', '/srv'], /--pressure 0 is not a percentage/],
    [['--pressure', '101%', '/srv'], /--pressure 101% is not a percentage/],
    [['--time-limit', '0s', '/srv'], /--time-limit must be more than 0/],
    [['--time-limit', '1w', '/srv'], /--time-limit 1w is not a time/],
    [['--max-bytes', '0', '/srv'], /--max-bytes must be more than 0/],
    [['--max-written-percent', '100.1', '/srv'], /--max-written-percent 100.1 is not a percentage/],
    [['--fragment-size', '0', '/srv'], /--fragment-size must be more than 0/],
    [['--state', '--wait', '/srv'], /--state needs a value: FILE/],
    [['--state', 'a\ufffd', '/srv'], /--state a\ufffd is not UTF-8/],
    [['--no-state', '--state', 'a', '/srv'], /--state and --no-state exclude each other/],
    [['--no-state=yes', '/srv'], /--no-state takes no value/],
    [['check', '--color', 'yes', '/srv'], /--color yes is not known: give auto, always, never/],
    [['--color', '--json', '/srv'], /--color needs a value: WHEN/],
    [['--no-wait', '/srv'], /no option --no-wait/],
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
    for (const name of visibleCommands()) expect(text).toMatch(new RegExp(`^ +${name}\\b`, 'm'));
    for (const name of Object.keys(OPTIONS)) expect(text).toContain(`--${name}`);
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    // Which commands have an option, in the fewer words.
    const running = text.replace(/\s+/g, ' ');
    expect(running).toMatch(/--min-size SIZE leave out files smaller than SIZE \(defrag, check, plan only\)/);
    expect(running).toMatch(/--full one fragment a file[^()]*\(defrag, plan, explain only\)/);
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

test('counts', () => {
  expect(['0', '7', '1000000'].map((text) => parseCount(text, '--top'))).toEqual([0, 7, 1e6]);
  for (const text of ['', '-1', '1.5', '1e3', '10K', ' 1', '0x10', '9'.repeat(20)]) {
    expect(() => parseCount(text, '--top'), text).toThrow(/--top/);
  }
});

test('rates', () => {
  expect(['1', '20M', '20M/s', '1GiB/s'].map((text) => parseRate(text, '--max-rate'))).toEqual([
    ...[1, 20 * 2 ** 20],
    ...[20 * 2 ** 20, 2 ** 30],
  ]);
  for (const text of ['', '0', '0/s', '/s', '20M/m', '20M/s/s', '20 M']) {
    expect(() => parseRate(text, '--max-rate'), text).toThrow(/--max-rate/);
  }
});

test('times that somebody may be kept waiting', () => {
  const times = ['100', '100ms', '0.5s', '2s', '70ms', '500us', '.5'];
  expect(times.map((text) => parseLatency(text, '--max-latency'))).toEqual([
    ...[100, 100, 500, 2000],
    ...[70, 0.5, 0.5],
  ]);
  for (const text of ['', '0', '0s', '-1', '1m', '1h', '100 ms', 'ms', '1e3', '9'.repeat(400)]) {
    expect(() => parseLatency(text, '--max-latency'), text).toThrow(/^--max-latency [^\n]*$/);
  }
});

test('times that a run may take', () => {
  const times = ['90', '90s', '30m', '2h', '1d', '1h30m', '1d2h3m4s', '1h90m', '1d30s'];
  expect(times.map((text) => parseDuration(text, '--time-limit'))).toEqual([
    ...[90, 90, 1800, 7200, 86_400],
    ...[5400, 93_784, 9000, 86_430],
  ]);
  for (const text of [
    '',
    '0',
    '0h0m',
    '-1',
    '1h30',
    '30m1h',
    '1.5h',
    '1H',
    'h',
    '1w',
    '1h 30m',
    '9'.repeat(400),
  ]) {
    expect(() => parseDuration(text, '--time-limit'), text).toThrow(/^--time-limit [^\n]*$/);
  }
});

test('percentages', () => {
  const percentages = ['40', '40%', '2.5', '.5%', '100', '0.001'];
  expect(percentages.map((text) => parsePercent(text, '--pressure'))).toEqual([40, 40, 2.5, 0.5, 100, 0.001]);
  for (const text of ['', '%', '0', '0%', '0.0', '100.5', '-1', '1e1', '40 %', 'half']) {
    expect(() => parsePercent(text, '--pressure'), text).toThrow(/--pressure .*is not a percentage/);
  }
});

describe('device profiles', () => {
  const profile = (text: string) => parseDeviceProfile(text, '--device-profile');
  const MiB = 2 ** 20;

  test.each([
    ['seek=12ms,bandwidth=180M', { seek: 0.012, bandwidth: 180 * MiB }],
    ['bandwidth=1G/s,seek=100us', { seek: 0.0001, bandwidth: 1024 * MiB }],
    ['seek=0.0127', { seek: 0.0127 }],
    ['seek=0.01s', { seek: 0.01 }],
    ['seek=.5ms', { seek: 0.0005 }],
    ['seek=0', { seek: 0 }],
    ['bandwidth=500MiB', { bandwidth: 500 * MiB }],
  ])('%s', (text, expected) => expect(profile(text)).toEqual(expected));

  test.each([
    ['', /not a profile/],
    ['12ms', /not a profile/],
    ['latency=12ms', /latency=12ms is not a profile/],
    ['seek=12ms,', /not a profile/],
    ['seek=', /not a profile/],
    ['seek=12 ms', /seek 12 ms is not a time/],
    ['seek=-1ms', /seek -1ms is not a time/],
    ['seek=1h', /seek 1h is not a time/],
    [`seek=${'9'.repeat(400)}`, /is not a time/],
    ['bandwidth=fast', /bandwidth fast is not a size/],
    ['bandwidth=180MB/s', /bandwidth 180MB is not a size/],
    ['bandwidth=0', /bandwidth must be more than 0/],
    ['seek=1ms,seek=2ms', /seek twice/],
  ])('%j is wrong usage', (text, message) => {
    expect(() => profile(text)).toThrow(UsageError);
    expect(() => profile(text)).toThrow(message);
  });
});

test('exit codes: a signal, then a failure, then an unsupported target, then a budget', () => {
  const code = (interrupted: boolean, failed: number, unsupported: number, budget?: object) =>
    exitCodeOf({ interrupted, failed, unsupported, ...(budget && { budget }) });
  expect(code(false, 0, 0)).toBe(0);
  expect(code(false, 2, 1)).toBe(1);
  expect(code(false, 0, 1)).toBe(3);
  expect(code(true, 1, 1)).toBe(130);
  expect(code(false, 0, 0, {})).toBe(4);
  expect(code(false, 0, 1, {})).toBe(3);
  expect(code(false, 1, 1, {})).toBe(1);
  expect(code(true, 1, 1, {})).toBe(130);
});

test('SIGUSR1 asks how far a run is, until its end', () => {
  const before = process.listenerCount('SIGUSR1');
  let asked = 0;
  const end = onStatusSignal(() => asked++);
  process.emit('SIGUSR1');
  process.emit('SIGUSR1');
  expect(asked).toBe(2);
  end();
  expect(process.listenerCount('SIGUSR1')).toBe(before);
});
