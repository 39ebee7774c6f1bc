import { describe, expect, test, vi } from 'vitest';
import { e4defrag } from '../../lib/cli/e4defrag.ts';
import { TargetReport } from '../../lib/cli/e4defrag/report.ts';
import { defragment } from '../../lib/move/defragment.ts';
import { E4defragMoves, E4defragStatistics, isOkAsItIs } from '../../lib/report/e4defrag.ts';
import type { Event, TargetEvent } from '../../lib/report/events.ts';
import type { Line } from '../../lib/report/reporter.ts';

vi.mock('../../lib/cli/addon.ts', () => ({ loadAddon: () => true }));
vi.mock('../../lib/move/defragment.ts', () => ({ defragment: vi.fn(() => []) }));

// The expected lines were printed by e4defrag 1.47.0, its cursor movements taken out.

const target = (kind: TargetEvent['kind'], path: string): TargetEvent => ({
  type: 'target',
  path,
  kind,
  device: '/dev/loop0',
  mountPoint: '/mnt',
  blockSize: 4096,
  rotational: false,
  method: 'walk',
  deviceProfile: { seek: 0.0001, bandwidth: 5e8 },
  fragmentSize: null,
});

const directory = { target: target('directory', '/mnt'), names: 4, regularFiles: 3, root: true };
const single = { target: target('file', '/mnt/a'), names: 1, regularFiles: 1, root: true };

const on = (stream: Line['to'], lines: Line[]) =>
  lines
    .filter(({ to }) => to === stream)
    .map(({ text }) => `${text}\n`)
    .join('');

describe('moving', () => {
  test.each([
    [target('file', '/mnt/a'), 'ext4 defragmentation for /mnt/a\n'],
    [target('directory', '/mnt'), 'ext4 defragmentation for directory(/mnt)\n'],
    [target('device', '/dev/loop0'), 'ext4 defragmentation for device(/dev/loop0)\n'],
  ])('the heading for a $kind', (event, heading) => {
    expect(on('out', E4defragMoves.heading(event))).toBe(heading);
  });

  test('a directory with -v', () => {
    const moves = new E4defragMoves({ ...directory, verbose: true });
    const lines = [
      ...moves.ok({ path: '/mnt/a' }, 4096, 1),
      ...moves.ok({ path: '/mnt/b' }, 1, 1),
      ...moves.notGood({ path: '/mnt/empty' }, 'File size is 0'),
      ...moves.summary(),
    ];
    expect(on('out', lines)).toBe(
      '[1/4]/mnt/a:\t100%  extents: 4096 -> 1\t[ OK ]\n' +
        '[2/4]/mnt/b:\t100%  extents: 1 -> 1\t[ OK ]\n' +
        '\n\tSuccess:\t\t\t[ 2/4 ]\n\tFailure:\t\t\t[ 2/4 ]\n' +
        '\tTotal extents:\t\t\t4097->2\n\tFragmented percentage:\t\t 33%->0%\n',
    );
    expect(on('err', lines)).toBe('[3/4] "/mnt/empty"\n\tFile size is 0\t\t[ NG ]\n');
    expect(moves.succeeded).toBe(2);
  });

  test('a directory without -v', () => {
    const moves = new E4defragMoves({ ...directory, verbose: false });
    const lines = [
      ...moves.ok({ path: '/mnt/a' }, 4096, 1),
      ...moves.notGood({ path: '/mnt/empty' }, 'File size is 0'),
      ...moves.summary(),
    ];
    expect(on('out', lines)).toBe(
      '[1/4]/mnt/a:\t100%\t[ OK ]\n\n\tSuccess:\t\t\t[ 1/4 ]\n\tFailure:\t\t\t[ 3/4 ]\n',
    );
    expect(on('err', lines)).toBe('');
  });

  test('one file', () => {
    const good = new E4defragMoves({ ...single, verbose: false });
    good.ok({ path: '/mnt/a' }, 2, 1);
    expect(on('out', good.summary())).toBe(' Success:\t\t\t[1/1]\n');
    const bad = new E4defragMoves({ ...single, verbose: false });
    bad.notGood({ path: '/mnt/a' }, 'File size is 0');
    expect(on('out', bad.summary())).toBe(' Success:\t\t\t[0/1]\n');
  });

  test('names that came after the counting raise the total', () => {
    const moves = new E4defragMoves({ ...directory, names: 1, verbose: false });
    moves.ok({ path: '/mnt/a' }, 1, 1);
    expect(on('out', moves.ok({ path: '/mnt/b' }, 1, 1))).toBe('[2/2]/mnt/b:\t100%\t[ OK ]\n');
  });

  test('a file that stays because nothing better exists is a success, one that could not be tried is not', () => {
    expect(isOkAsItIs('already-contiguous')).toBe(true);
    expect(isOkAsItIs('no-better-place')).toBe(true);
    expect(isOkAsItIs('no-space')).toBe(false);
    expect(isOkAsItIs('immutable')).toBe(false);
  });
});

describe('statistics', () => {
  const HEADING = (title: string) => `${title}                             now/best       size/ext\n`;

  test('a file', () => {
    const statistics = new E4defragStatistics({ ...single, verbose: false });
    const lines = [
      ...statistics.heading(),
      ...statistics.file({ path: '/mnt/a' }, { now: 4096, best: 1, blocks: 16384 }),
      ...statistics.summary(),
    ];
    expect(on('out', lines)).toBe(
      HEADING('<File>            ') +
        '/mnt/a                                        4096/1             16 KB\n\n' +
        ' Total/best extents\t\t\t\t4096/1\n Average size per extent\t\t\t16 KB\n' +
        ' Fragmentation score\t\t\t\t85\n' +
        ' [0-30 no problem: 31-55 a little bit fragmented: 56- needs defrag]\n' +
        ' This file (/mnt/a) needs defragmentation.\n Done.\n',
    );
  });

  test('a file with -v: its extents', () => {
    const statistics = new E4defragStatistics({ ...single, verbose: true });
    const lines = statistics.file({ path: '/mnt/a' }, { now: 2, best: 1, blocks: 24 }, [
      { physical: 92080, logical: 0, length: 16 },
      { physical: 89024, logical: 16, length: 8 },
    ]);
    expect(on('out', lines)).toBe(
      '<File>\n[ext 1]:\tstart 92080:\tlogical 0:\tlen 16\n[ext 2]:\tstart 89024:\tlogical 16:\tlen 8\n',
    );
  });

  test('a directory: the five worst, of equals the last one first; long names on a line of their own', () => {
    const statistics = new E4defragStatistics({ ...directory, verbose: false });
    const long = `/mnt/${'long'.repeat(10)}`;
    statistics.file({ path: '/mnt/first' }, { now: 4096, best: 1, blocks: 16384 });
    statistics.file({ path: '/mnt/second' }, { now: 4096, best: 1, blocks: 16384 });
    statistics.file({ path: long }, { now: 64, best: 1, blocks: 1024 });
    for (const name of ['w', 'x', 'y', 'z']) {
      statistics.file({ path: `/mnt/${name}` }, { now: 1, best: 1, blocks: 1 });
    }
    const shown = on('out', statistics.summary()).split('\n\n')[0];
    expect(`${shown}\n`).toBe(
      HEADING('<Fragmented files>') +
        '1. /mnt/second                                4096/1             16 KB\n' +
        '2. /mnt/first                                 4096/1             16 KB\n' +
        `3. ${long}\n                                                64/1             64 KB\n` +
        '4. /mnt/z                                        1/1              4 KB\n' +
        '5. /mnt/y                                        1/1              4 KB\n',
    );
  });

  test('nothing that has a layout', () => {
    const none = (options: typeof directory) =>
      on('out', new E4defragStatistics({ ...options, verbose: false }).summary());
    expect(none(directory)).toBe(' In this directory(/mnt), none can be defragmented.\n Done.\n');
    expect(none(single)).toBe(" This file(/mnt/a) can't be defragmented.\n Done.\n");
  });

  test('for others than root the best is not known', () => {
    const statistics = new E4defragStatistics({ ...single, root: false, verbose: false });
    const lines = [
      ...statistics.file({ path: '/mnt/a' }, { now: 7, best: 1, blocks: 70 }),
      ...statistics.summary(),
    ];
    expect(on('out', lines).split('\n')).toEqual([
      expect.stringContaining('<File>'),
      '/mnt/a                                           7/-               -',
      ' Done.',
      '',
    ]);
  });

  test('a name cannot break a line', () => {
    const statistics = new E4defragStatistics({ ...directory, verbose: true });
    const lines = statistics.file({ path: '/mnt/a\n\u001b[2J' }, { now: 1, best: 1, blocks: 1 });
    expect(on('out', lines)).toContain('[1/4]/mnt/a\\n\\x1b[2J ');
  });
});

test.each([true, false])(
  'how far a scan is, and free space, are none of its business (-c: %s)',
  async (statistics) => {
    const report = new TargetReport({ verbose: true, root: true, statistics });
    const events: Event[] = [
      { type: 'scanning', inodes: 1, inodesTotal: 2, files: 1, fragmentedFiles: 0, seconds: 1 },
      {
        type: 'freeSpace',
        path: '/mnt',
        source: 'fsmap',
        bytes: 4096,
        runs: 1,
        largestRun: 4096,
        histogram: [],
      },
    ];
    for (const event of events) expect(await report.lines(event)).toEqual([]);
  },
);

test('a run gives way and waits its turn, as scripts run several, and keeps nothing', async () => {
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((...args: unknown[]) => {
    // What waits for the output waits for this call.
    const written = args.at(-1);
    if (typeof written === 'function') (written as () => void)();
    return true;
  });
  try {
    await e4defrag(['/mnt/a']);
  } finally {
    write.mockRestore();
  }
  const [[targets, { signal, ...options } = {}]] = vi.mocked(defragment).mock.calls;
  expect([...targets]).toEqual(['/mnt/a']);
  expect(signal).toBeInstanceOf(AbortSignal);
  expect(options).toEqual({ everyFile: true, priority: 'idle', wait: true });
});
