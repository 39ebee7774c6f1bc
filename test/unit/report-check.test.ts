import { describe, expect, test } from 'vitest';
import { typicalDevice } from '../../lib/layout/readCost.ts';
import { SizeClasses } from '../../lib/layout/sizeClasses.ts';
import type {
  CheckEvent,
  CheckSummary,
  FileEvent,
  FreeSpaceEvent,
  TargetEvent,
} from '../../lib/report/events.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';

const [KiB, MiB, GiB] = [2 ** 10, 2 ** 20, 2 ** 30];

const target = (changes: Partial<TargetEvent> = {}): TargetEvent => ({
  type: 'target',
  path: '/mnt',
  kind: 'directory',
  device: '/dev/loop0',
  mountPoint: '/mnt',
  blockSize: 4096,
  rotational: false,
  method: 'inode-table',
  deviceProfile: typicalDevice(false),
  fragmentSize: 8 * MiB,
  ...changes,
});

const walked = (changes: Partial<TargetEvent> = {}) => target({ method: 'walk', path: '/srv', ...changes });

const file = (i: number): FileEvent => ({
  type: 'file',
  path: `/mnt/f${i}`,
  inode: i,
  size: i * MiB,
  blocks: i * 256,
  extents: 10 * i,
  fragments: 10 * i,
  idealFragments: 1,
  score: 0,
  readSeconds: 3 * i,
  idealReadSeconds: 2 * i,
});

const sizes = (...list: [size: number, count: number][]) => {
  const classes = new SizeClasses();
  for (const [size, count] of list) classes.add(size, count);
  return classes.classes;
};

const free = (changes: Partial<FreeSpaceEvent> = {}): FreeSpaceEvent => ({
  type: 'freeSpace',
  path: '/mnt',
  source: 'bitmaps',
  bytes: 8 * MiB + 4 * KiB,
  runs: 2,
  largestRun: 8 * MiB,
  histogram: sizes([4 * KiB, 1], [8 * MiB, 1]),
  ...changes,
});

const summary = (changes: Partial<CheckSummary> = {}): CheckSummary => ({
  type: 'summary',
  command: 'check',
  files: 100,
  fragmentedFiles: 5,
  fragments: 250,
  idealFragments: 100,
  bytes: GiB,
  score: 12,
  readSeconds: 14.2,
  idealReadSeconds: 12.1,
  fragmentSizes: [],
  skipped: {},
  failed: 0,
  unsupported: 0,
  interrupted: false,
  seconds: 1,
  ...changes,
});

function linesOf(events: CheckEvent[], { top, verbose = false }: { top?: number; verbose?: boolean } = {}) {
  const reporter = textReporter('check', {
    verbose,
    style: NO_COLOURS,
    errorStyle: NO_COLOURS,
    ...(top !== undefined && { top }),
  });
  return events.flatMap((event) => reporter.lines(event).map(({ text }) => text));
}

const text = (...args: Parameters<typeof linesOf>) => linesOf(...args).join('\n');

describe('the line about a target', () => {
  test('a whole filesystem is announced before it is read', () => {
    expect(linesOf([target()])).toEqual([
      '/dev/loop0 on /mnt: ext4, blocks of 4 KiB, not rotational; reading its inode tables',
    ]);
    expect(text([target({ kind: 'device', path: '/dev/loop0', blockSize: 1024, rotational: true })])).toBe(
      '/dev/loop0 on /mnt: ext4, blocks of 1 KiB, rotational; reading its inode tables',
    );
  });

  test('and why it is walked all the same', () => {
    expect(text([walked({ path: '/mnt', walkReason: '/dev/loop0 cannot be\nread' })])).toBe(
      '/dev/loop0 on /mnt: ext4, blocks of 4 KiB, not rotational; ' +
        'going through it name by name, since /dev/loop0 cannot be\\nread',
    );
  });

  test('a directory has one with -v only, a file none', () => {
    expect(linesOf([walked()])).toEqual([]);
    expect(text([walked()], { verbose: true })).toBe(
      '/srv: on /dev/loop0, blocks of 4 KiB, not rotational; going through it name by name',
    );
    expect(linesOf([walked({ kind: 'file' })], { verbose: true })).toEqual([]);
  });

  test('no name in it breaks the line', () => {
    expect(text([target({ mountPoint: '/mnt/a\n\u001b[2J', device: '/dev/x\n' })])).toMatch(
      /^\/dev\/x\\n on \/mnt\/a\\n\\x1b\[2J: /,
    );
  });
});

describe('tables of sizes', () => {
  test('fragments by size: how many, how much, and what share', () => {
    const fragmentSizes = sizes([4 * KiB, 128], [8 * KiB, 64], [31 * MiB, 1], [2 * GiB, 1], [5 * GiB, 1]);
    const lines = linesOf([target(), summary({ fragmentSizes })]);
    const from = lines.indexOf('Fragments by size:');
    expect(lines.slice(from, from + 5)).toEqual([
      'Fragments by size:',
      '             size    fragments       bytes    share',
      '  4 KiB to 16 KiB          192     1.0 MiB    0.0 %',
      ' 16 MiB to 64 MiB            1    31.0 MiB    0.4 %',
      '   1 GiB and more            2     7.0 GiB   99.6 %  ########################',
    ]);
  });

  test('small blocks have a row for themselves', () => {
    expect(text([target(), summary({ fragmentSizes: sizes([1 * KiB, 10], [4 * KiB, 1]) })])).toMatch(
      /^ +less than 4 KiB +10 +10\.0 KiB +71\.4 % {2}#{17}$/m,
    );
  });

  test('no row is wider than 80 columns', () => {
    const fragmentSizes = sizes([256 * KiB, 123_456_789]);
    for (const line of linesOf([walked(), summary({ fragmentSizes })]).filter((row) => row.includes('#'))) {
      expect(line.length).toBeLessThanOrEqual(80);
    }
  });

  test('one fragment needs no table', () => {
    const fragmentSizes = sizes([4 * KiB, 1]);
    expect(text([walked(), summary({ fragments: 1, fragmentSizes })])).not.toContain('by size');
  });

  test('free space: the sums, and a table', () => {
    const lines = linesOf([target(), free(), summary()]);
    const from = lines.findIndex((line) => line.startsWith('Free'));
    expect(lines.slice(from, from + 4)).toEqual([
      'Free space: 8.0 MiB in 2 runs, the longest 8.0 MiB',
      '             size         runs       bytes    share',
      '  4 KiB to 16 KiB            1     4.0 KiB    0.0 %',
      '  4 MiB to 16 MiB            1     8.0 MiB  100.0 %  ########################',
    ]);
  });

  test('no free space, and one run of it', () => {
    const none = free({ bytes: 0, runs: 0, largestRun: 0, histogram: [] });
    expect(linesOf([target(), none, summary()])).toContain('Free space: none');
    const one = free({ bytes: 8 * MiB, runs: 1, histogram: sizes([8 * MiB, 1]) });
    expect(linesOf([target(), one, summary()])).toContain('Free space: 8.0 MiB in 1 run');
  });

  test('of several targets each is named', () => {
    const other = target({ path: '/home\n', mountPoint: '/home' });
    const lines = text([target(), free(), other, free({ path: '/home\n' }), summary()]);
    expect(lines).toMatch(/^Free space of \/mnt: /m);
    expect(lines).toMatch(/^Free space of \/home\\n: /m);
  });
});

describe('the worst files', () => {
  const named = (top?: number) => {
    const files = Array.from({ length: 12 }, (_, i) => file(i + 1));
    const lines = text([target(), ...files, summary({ fragmentedFiles: 12 })], {
      ...(top !== undefined && { top }),
    });
    return [...lines.matchAll(/\/mnt\/f(\d+)/g)].map(([, i]) => Number(i));
  };

  test('ten unless told, the worst first', () => {
    expect(named()).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
    expect(named(3)).toEqual([12, 11, 10]);
    expect(named(100)).toHaveLength(12);
  });

  test('none when nobody wants any', () => {
    expect(named(0)).toEqual([]);
    expect(text([target(), file(1), summary()], { top: 0 })).not.toMatch(/most to gain|fragmented file:/i);
  });

  test('with what reading them costs, and would cost', () => {
    const lines = linesOf([target(), file(4), summary()]);
    const from = lines.indexOf('Most to gain, by read time saved:');
    expect(lines.slice(from + 1, from + 3)).toEqual([
      '  read now       ideal  fragments  ideal        size  file',
      '    12.0 s      8.00 s         40      1     4.0 MiB  /mnt/f4',
    ]);
  });

  test('the only one is called so, however few are listed', () => {
    const only = summary({ fragmentedFiles: 1 });
    expect(linesOf([target(), file(1), only])).toContain('The fragmented file:');
    expect(linesOf([target(), file(1), file(2), summary()], { top: 1 })).not.toContain(
      'The fragmented file:',
    );
  });
});

describe('the verdict', () => {
  const last = (events: CheckEvent[], count = 1) => linesOf(events).slice(-count);
  const costing = (share: number) => summary({ readSeconds: 100, idealReadSeconds: 100 - share });

  test('what fragmentation costs, on what device, and what to do', () => {
    expect(last([target(), summary()], 4)).toEqual([
      '',
      'Reading every file from start to end takes about 14.2 s, and 12.1 s if each were ideal:',
      'fragmentation costs 14.8 % of the time (not rotational: 0.1 ms a seek, 500 MiB/s).',
      'Worth defragmenting: ext4-defrag /mnt',
    ]);
  });

  test.each([
    [1.9, 'Nothing to gain.'],
    [2, 'Little to gain.'],
    [9.9, 'Little to gain.'],
    [10, 'Worth defragmenting: ext4-defrag /mnt'],
    [90, 'Worth defragmenting: ext4-defrag /mnt'],
  ])('%d %% of the time: %s', (share, words) => {
    expect(last([target(), costing(share)])).toEqual([words]);
  });

  test('nothing fragmented, nothing there, nothing seen to its end', () => {
    expect(last([target(), summary({ fragmentedFiles: 0 })])).toEqual([
      'No file is fragmented: nothing to gain.',
    ]);
    const silent = [summary({ files: 0, fragmentedFiles: 0 }), summary({ interrupted: true })];
    for (const event of silent) expect(text([target(), event])).not.toMatch(/gain|worth|from start to end/i);
  });

  test('the device is a typical one of its kind, or as given', () => {
    const rotational = target({ rotational: true, deviceProfile: typicalDevice(true) });
    expect(text([rotational, summary()])).toContain('(rotational: 12.7 ms a seek, 180 MiB/s)');
    const given = target({ deviceProfile: { ...typicalDevice(false), seek: 0.00002 } });
    expect(text([given, summary()])).toContain('(as given: 0.02 ms a seek, 500 MiB/s)');
  });

  test('several targets: one command, and the device only where they are alike', () => {
    const other = walked({ path: '/my srv' });
    const alike = text([target(), other, summary()]);
    expect(alike).toContain('(not rotational');
    expect(alike).toMatch(/: ext4-defrag \/mnt '\/my srv'$/);
    const disk = walked({ rotational: true, deviceProfile: typicalDevice(true) });
    expect(text([target(), disk, summary()])).toContain('costs 14.8 % of the time.\n');
  });

  test('a command that cannot be typed as it stands is left out', () => {
    expect(last([target({ path: '/mnt\n' }), summary()])).toEqual(['Worth defragmenting.']);
    const many = Array.from({ length: 50 }, (_, i) => walked({ path: `/srv/${i}` }));
    expect(last([...many, summary()])).toEqual(['Worth defragmenting.']);
  });

  test('of one file', () => {
    const lone = walked({ kind: 'file', path: '/mnt/f4' });
    const lines = linesOf([lone, file(4), summary({ files: 1, fragmentedFiles: 1 })]);
    expect(lines.slice(-4)).toEqual([
      '',
      'Reading it from start to end takes about 14.2 s, and 12.1 s if it were ideal:',
      'fragmentation costs 14.8 % of the time (not rotational: 0.1 ms a seek, 500 MiB/s).',
      'Worth defragmenting: ext4-defrag /mnt/f4',
    ]);
    expect(lines.join('\n')).not.toContain('The fragmented file');
    const whole = summary({ files: 1, fragmentedFiles: 0 });
    expect(linesOf([lone, file(4), whole]).at(-1)).toBe('It is not fragmented: nothing to gain.');
  });
});

test('sections are apart by one empty line, and the first has none before it', () => {
  const fragmentSizes = sizes([4 * KiB, 250]);
  const whole = text([target(), free(), file(1), summary({ fragmentSizes })]);
  expect(whole.split('\n\n').map((section) => section.split(/[:\s]/, 1)[0])).toEqual([
    ...['/dev/loop0', 'Files', 'Fragments', 'Free'],
    ...['Most', 'Reading'],
  ]);
  expect(text([walked(), summary()])).toMatch(/^Files /);
});
