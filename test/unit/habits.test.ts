import { afterEach, describe, expect, test } from 'vitest';
import { parseCommandLine } from '../../lib/cli/options.ts';
import { styleFor } from '../../lib/cli/terminal.ts';
import { formatRoundSize, formatSize, useDecimalUnits } from '../../lib/report/format.ts';
import { COLOURS, NO_COLOURS } from '../../lib/report/style.ts';

afterEach(() => useDecimalUnits(false));

test('sizes are in powers of 1024, and with --si of 1000', () => {
  const sizes = [1, 999, 1000, 1023, 1024, 999_950, 1e6, 2 ** 20 - 1, 4 * 2 ** 20, 1e15];
  expect(sizes.map(formatSize)).toEqual([
    ...['1 byte', '999 bytes', '1000 bytes', '1023 bytes', '1.0 KiB', '976.5 KiB', '976.6 KiB'],
    ...['1.0 MiB', '4.0 MiB', '909.5 TiB'],
  ]);
  useDecimalUnits(true);
  expect(sizes.map(formatSize)).toEqual([
    ...['1 byte', '999 bytes', '1.0 kB', '1.0 kB', '1.0 kB', '1.0 MB', '1.0 MB'],
    ...['1.0 MB', '4.2 MB', '1.0 PB'],
  ]);
  expect(formatRoundSize(5e8)).toBe('500 MB');
  expect(parseCommandLine(['check', '--si', '/srv'])).toMatchObject({ si: true });
});

describe('colours', () => {
  const terminal = { isTerminal: true };
  const pipe = { isTerminal: false };

  test.each([
    ['auto', terminal, {}, COLOURS],
    ['auto', terminal, { NO_COLOR: '' }, COLOURS],
    ['auto', terminal, { NO_COLOR: '1' }, NO_COLOURS],
    ['auto', terminal, { TERM: 'dumb' }, NO_COLOURS],
    ['auto', pipe, {}, NO_COLOURS],
    ['always', pipe, { NO_COLOR: '1', TERM: 'dumb' }, COLOURS],
    ['never', terminal, {}, NO_COLOURS],
  ] as const)('--color=%s, %j, %j', (wanted, output, env, style) => {
    expect(styleFor(output, env, wanted)).toBe(style);
  });

  test('are as the command line says', () => {
    expect(parseCommandLine(['/srv'])).toMatchObject({ color: 'auto' });
    expect(parseCommandLine(['space', '--color=never', '/srv'])).toMatchObject({ color: 'never' });
  });
});
