import { describe, expect, test } from 'vitest';
import { SizeClasses } from '../../lib/layout/sizeClasses.ts';
import {
  named,
  type LargestFileEvent,
  type SpaceEvent,
  type SpaceReportEvent,
  type SpaceSummary,
} from '../../lib/report/events.ts';
import { JsonReporter } from '../../lib/report/json.ts';
import { Status } from '../../lib/report/status.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';
import { scanningEvent } from '../support/events.ts';

const [KiB, MiB, GiB] = [2 ** 10, 2 ** 20, 2 ** 30];

const sizes = (...list: [size: number, count: number][]) => {
  const classes = new SizeClasses();
  for (const [size, count] of list) classes.add(size, count);
  return classes.classes;
};

const space = (changes: Partial<SpaceEvent> = {}): SpaceEvent => ({
  type: 'space',
  path: '/mnt/dir',
  device: '/dev/loop0',
  mountPoint: '/mnt',
  blockSize: 4096,
  source: 'fsmap',
  bytes: 208 * MiB,
  runs: 17,
  largestRun: 200 * MiB,
  histogram: sizes([512 * KiB, 16], [200 * MiB, 1]),
  reserve: 51.25 * MiB,
  spendable: 140 * MiB,
  largestAllocation: 128 * MiB,
  heldBack: 2 * MiB,
  promised: 0,
  ...changes,
});

const largest = (changes: Partial<LargestFileEvent> = {}): LargestFileEvent => ({
  type: 'largestFile',
  path: '/mnt/big',
  inode: 12,
  bytes: 3 * GiB,
  fragments: 12_345,
  idealFragments: 2,
  pieces: 4,
  largestPiece: GiB,
  ...changes,
});

const summary = (changes: Partial<SpaceSummary> = {}): SpaceSummary => ({
  type: 'summary',
  command: 'space',
  filesystems: 1,
  bytes: 208 * MiB,
  runs: 17,
  spendable: 140 * MiB,
  largestRun: 200 * MiB,
  failed: 0,
  unsupported: 0,
  interrupted: false,
  seconds: 1,
  ...changes,
});

function linesOf(events: SpaceReportEvent[]) {
  const reporter = textReporter('space', { verbose: false, style: NO_COLOURS, errorStyle: NO_COLOURS });
  return events.flatMap((event) =>
    reporter.lines(event).map(({ to, text }) => (to === 'out' ? text : `! ${text}`)),
  );
}

describe('the text report', () => {
  test('a filesystem: its runs as check tells them, what may be used, what it would do', () => {
    expect(linesOf([space(), scanningEvent(), largest(), summary()])).toEqual([
      '/dev/loop0 on /mnt: ext4, blocks of 4 KiB',
      'Free space: 208.0 MiB in 17 runs, the longest 200.0 MiB',
      '             size         runs       bytes    share',
      ' 256 KiB to 1 MiB           16     8.0 MiB    3.8 %  #',
      '64 MiB to 256 MiB            1   200.0 MiB   96.2 %  #######################',
      '',
      'May be used       140.0 MiB; the reserve of 51.3 MiB is never entered',
      'One allocation    128.0 MiB at most, within a block group',
      'Held back         2.0 MiB: preallocated, or freed and not committed yet; it will be free',
      '',
      'The largest file, 3.0 GiB, would come in 4 pieces (now 12,345, ideal 2): /mnt/big',
    ]);
  });

  test('the free space of check and of space look the same', () => {
    const [, ...own] = linesOf([space()]);
    const check = textReporter('check', { verbose: false, style: NO_COLOURS, errorStyle: NO_COLOURS });
    const free = { ...space(), type: 'freeSpace' as const };
    check.lines(free);
    const empty = { files: 0, fragmentedFiles: 0, fragments: 0, idealFragments: 0, bytes: 0, score: 0 };
    const reading = { readSeconds: 0, idealReadSeconds: 0, fragmentSizes: [], skipped: {} };
    const lines = check
      .lines({ ...summary(), command: 'check', ...empty, ...reading })
      .map(({ text }) => text);
    const from = lines.indexOf(own[0]);
    expect(from).toBeGreaterThanOrEqual(0);
    expect(lines.slice(from, from + 4)).toEqual(own.slice(0, 4));
  });

  test('one piece, and none at all', () => {
    expect(linesOf([largest({ pieces: 1, fragments: 1 })])).toEqual([
      'The largest file, 3.0 GiB, would come in one piece (now 1, ideal 2): /mnt/big',
    ]);
    expect(linesOf([largest({ pieces: null, fragments: 3 })])).toEqual([
      'The largest file, 3.0 GiB, does not fit beside the reserve; ' +
        '1.0 GiB of it could lie in one piece (now 3, ideal 2): /mnt/big',
    ]);
  });

  test('what could be cleared, and what could not', () => {
    const windows = [
      { run: 16 * MiB, start: 4096, evacuate: 8.5 * MiB },
      { run: 64 * MiB, start: 0, evacuate: 0 },
      { run: 256 * MiB, start: null, evacuate: null },
    ];
    expect(linesOf([space(), { type: 'windows', path: '/mnt/dir', windows }]).slice(-4)).toEqual([
      '',
      'A run of 16 MiB could be cleared by moving 8.5 MiB of files.',
      'A run of 64 MiB could be cleared by moving 0 bytes of files.',
      'No run of 256 MiB could be cleared by moving files.',
    ]);
  });

  test('what is not free and what is promised, as far as it is known', () => {
    expect(linesOf([space({ heldBack: 0 })])).toContain('Held back         nothing');
    expect(linesOf([space({ promised: 30 * MiB })])).toContain(
      'Promised          30.0 MiB to what is not written to the disk yet',
    );
    expect(linesOf([space()]).join('\n')).not.toContain('Promised');
    const unknown = space({ unreadable: '/dev/x cannot be\u001b[2J read' });
    for (const key of ['heldBack', 'promised'] as const) Reflect.deleteProperty(unknown, key);
    const lines = linesOf([unknown]);
    expect(lines).toContain(
      'Held back         not known: the kernel does not show here what it has set aside',
    );
    expect(lines).toContain(
      'Not known         the largest file and what could be cleared, since /dev/x cannot be\\x1b[2J read',
    );
  });

  test('a full filesystem has no table', () => {
    const full = { bytes: 0, runs: 0, largestRun: 0, histogram: [], spendable: 0, largestAllocation: 0 };
    const lines = linesOf([space(full)]);
    expect(lines.slice(1, 4)).toEqual([
      'Free space: none',
      '',
      'May be used       0 bytes; the reserve of 51.3 MiB is never entered',
    ]);
  });

  test('no name in it breaks a line or moves the cursor', () => {
    const path = Buffer.from('/mnt/a\nb\u001b[2J\u202e\\c\xff', 'latin1');
    const lines = linesOf([
      space({ mountPoint: '/mnt/a\n\u001b[2J', device: '/dev/x\u009b2J' }),
      largest(named(Buffer.concat([path, Buffer.from('\u202ed')]))),
    ]);
    expect(lines[0]).toBe('/dev/x\\x9b2J on /mnt/a\\n\\x1b[2J: ext4, blocks of 4 KiB');
    expect(lines.at(-1)).toMatch(/: \/mnt\/a\\nb\\x1b\[2J.*\\\\c\\xff\\u\{202e\}d$/);
    // eslint-disable-next-line no-control-regex
    for (const line of lines) expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
  });

  test('several filesystems are apart, problems go to standard error, and the end says how many', () => {
    const other = space({ device: '/dev/loop1', mountPoint: '/srv', path: '/srv' });
    const unsupported = { type: 'unsupported' as const, path: '/proc\n', message: 'not an ext4 filesystem' };
    const failed = {
      type: 'failed' as const,
      path: '/x',
      code: 'ENOENT',
      message: "ENOENT: no such file or directory, stat '/x'",
    };
    const lines = linesOf([
      space(),
      other,
      unsupported,
      failed,
      summary({ failed: 1, unsupported: 1, interrupted: true }),
    ]);
    expect(lines[lines.indexOf('/dev/loop1 on /srv: ext4, blocks of 4 KiB') - 1]).toBe('');
    expect(lines).toContain('! ext4-defrag: /proc\\n: not supported: not an ext4 filesystem');
    expect(lines).toContain(
      '! ext4-defrag: /x: no such file or directory (ENOENT, stat); see whether it is spelled right and mounted',
    );
    expect(lines.slice(-4)).toEqual([
      '',
      'Failed: 1 (named on standard error).',
      'Targets not supported: 1 (named on standard error).',
      'Stopped by a signal; the report is incomplete.',
    ]);
  });

  test('a run that met nothing but problems begins without an empty line', () => {
    expect(linesOf([summary({ filesystems: 0, failed: 1 })])).toEqual([
      'Failed: 1 (named on standard error).',
    ]);
  });
});

test('JSON: every event has a line, names are bytes, and the last is the summary', () => {
  const reporter = new JsonReporter({ verbose: false });
  const path = Buffer.from('/mnt/\xff\n\u009b', 'latin1');
  const events: SpaceReportEvent[] = [space(), largest(named(path)), summary()];
  const lines = events.flatMap((event) => reporter.lines(event).map(({ text }) => text));
  expect(lines).toHaveLength(3);
  // eslint-disable-next-line no-control-regex
  for (const line of lines) expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
  const [first, second, last] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(first).toEqual({ ...space(), schema: 1 });
  expect(second).toMatchObject({
    type: 'largestFile',
    schema: 1,
    pieces: 4,
    pathBase64: path.toString('base64'),
  });
  expect(second).not.toHaveProperty('pathBytes');
  expect(last).toEqual({ ...summary(), schema: 1 });
});

test('the progress line of a scan for the largest file', () => {
  const status = new Status();
  status.see(space());
  status.see(scanningEvent());
  expect(status.text()).toContain('420,000 of 1,000,000 inodes');
});
