import { describe, expect, test } from 'vitest';
import { parseCommandLine } from '../../lib/cli/options.ts';
import { UsageError } from '../../lib/cli/usageError.ts';
import type { MapEvent, MappedFileEvent, MapSummary } from '../../lib/report/events.ts';
import { toJson } from '../../lib/report/json.ts';
import { scriptSafe } from '../../lib/report/page.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { drawCells } from '../../lib/report/text/blockMap.ts';
import { MapText } from '../../lib/report/text/map.ts';

/** Ten blocks in each cell. */
function cellsOf(text: string): MapEvent['cells'] {
  const column = (char: string) => Array.from(text, (one) => (one === char ? 10 : 0));
  return {
    free: column('.'),
    contiguous: column('#'),
    fragmented: column('x'),
    metadata: column('m'),
    other: column(':'),
  };
}

const PLAIN = { width: 12, unicode: false, colour: false };

describe('a map of characters', () => {
  test('shows each kind, in rows', () => {
    const { rows, cellsPerGlyph } = drawCells(cellsOf('mm##xx::....#x'), PLAIN);
    expect(cellsPerGlyph).toBe(1);
    expect(rows).toEqual(['  mm##xx::..', '  ..#x']);
  });

  test('shows what most of several cells are used for; only what is nearly free is free', () => {
    const cells = cellsOf('#'.repeat(250) + 'x'.repeat(250) + '.'.repeat(700));
    const { rows, cellsPerGlyph } = drawCells(cells, PLAIN);
    expect(cellsPerGlyph).toBe(5);
    expect(rows.length).toBeLessThanOrEqual(24);
    expect(rows.join('').replaceAll(' ', '')).toBe('#'.repeat(50) + 'x'.repeat(50) + '.'.repeat(140));
    const one = (used: number) =>
      drawCells({ ...cellsOf('.'), free: [100 - used], contiguous: [used] }, PLAIN).rows;
    expect([one(12), one(13)]).toEqual([['  .'], ['  #']]);
  });

  test('of a file shows every place where it has a block', () => {
    const cells = {
      ...cellsOf('......'),
      other: [990, 990, 990, 990, 990, 990],
      fragmented: [0, 0, 1, 0, 0, 0],
    };
    expect(drawCells(cells, PLAIN).rows).toEqual(['  ::::::']);
    expect(drawCells(cells, PLAIN, true).rows).toEqual(['  ::x:::']);
  });

  test('in colour says the same, and each stretch has its colour once', () => {
    const style = { width: 80, unicode: true, colour: true };
    const [row] = drawCells(cellsOf('##xx..'), style).rows;
    // eslint-disable-next-line no-control-regex
    expect(row.replace(/\u001b\[\d+m/g, '')).toBe('  ██▒▒··');
    expect(row.split('\u001b[0m')).toHaveLength(4);
  });
});

const MAP: MapEvent = {
  type: 'map',
  path: '/srv',
  kind: 'filesystem',
  device: '/dev/sdz1',
  mountPoint: '/srv',
  blockSize: 4096,
  blocks: 80,
  unknown: null,
  blocksPerCell: 10,
  cells: cellsOf('m##xx...'),
  totals: { free: 30, contiguous: 20, fragmented: 20, metadata: 10, other: 0 },
  free: {
    source: 'fsmap',
    bytes: 122_880,
    runs: 1,
    largestRun: 122_880,
    histogram: [{ atLeast: 65_536, count: 1, bytes: 122_880 }],
  },
  files: {
    count: 2,
    fragmented: 1,
    fragments: 5,
    idealFragments: 2,
    sizes: [{ atLeast: 16_384, count: 5, bytes: 163_840 }],
  },
};
const FILE: MappedFileEvent = {
  type: 'mappedFile',
  path: '/srv/a\u001b[2J\u202eb',
  inode: 12,
  size: 81_000,
  blocks: 20,
  fragments: 4,
  idealFragments: 1,
  extents: Array.from({ length: 4 }, (_, i) => [30 + 6 * i, 5] as const),
};
const SUMMARY: MapSummary = {
  type: 'summary',
  command: 'map',
  maps: 1,
  skipped: {},
  failed: 0,
  unsupported: 0,
  interrupted: false,
  seconds: 1,
};

function textOf(...events: Parameters<MapText['lines']>[0][]): string {
  const reporter = new MapText({
    verbose: false,
    style: NO_COLOURS,
    errorStyle: NO_COLOURS,
    top: 3,
    map: PLAIN,
  });
  return events.flatMap((event) => reporter.lines(event).map(({ text }) => text)).join('\n');
}

describe('the report of map', () => {
  test('draws, explains, counts and names; a hostile name does nothing', () => {
    const text = textOf(MAP, FILE, SUMMARY);
    expect(text).toContain('/dev/sdz1 on /srv: ext4, 320 KiB; a character is 40 KiB');
    expect(text).toContain('  m##xx...');
    expect(text).toMatch(/x +80\.0 KiB +25\.0 % {2}fragmented files/);
    expect(text).not.toContain('directories');
    expect(text).toContain('2 files, 1 fragmented, in 5 fragments');
    expect(text).toMatch(/4 fragments +79\.1 KiB {2}\/srv\/a\\x1b\[2J\\u\{202e\}b$/);
  });

  test('of a file lists its extents, so many of them', () => {
    const text = textOf({ ...MAP, kind: 'file' }, FILE, SUMMARY);
    expect(text).toContain('in 4 fragments (ideal 1)');
    expect(text).toMatch(/30 +34 +20\.0 KiB\n +36 +40 .*\n +42 +46 .*\n +and 1 more$/);
    expect(text).not.toContain('Free space');
  });

  test('without privilege says what is not known', () => {
    const text = textOf({ ...MAP, unknown: 'no\u001b way', files: null }, SUMMARY);
    expect(text).toContain('Whose blocks are is not known: no\\x1b way');
    expect(text).not.toMatch(/\d files/);
  });

  test('as JSON keeps the columns', () => {
    expect(JSON.parse(toJson(MAP))).toMatchObject({
      type: 'map',
      schema: 1,
      cells: { metadata: [10, 0, 0, 0, 0, 0, 0, 0] },
    });
  });
});

describe('data in a page', () => {
  test.each([
    '</script><script>alert(1)</script>',
    '<!--<script>',
    '\u0000\u001b[2J\u0085\u2028\u202e',
    '\ud800',
    ']]>',
  ])('%j stays data', (name) => {
    const text = scriptSafe({ name });
    // eslint-disable-next-line no-control-regex
    expect(text).not.toMatch(/[<\u0000-\u001f\u007f-\u009f\u2028\u202e]/);
    expect(JSON.parse(text)).toEqual({ name });
  });
});

describe('the command line of map', () => {
  const parsed = (...args: string[]) => {
    const line = parseCommandLine(args);
    if (line.kind !== 'run') throw new Error('not a run');
    return line;
  };

  test('has files to write, and one to compare with', () => {
    const line = parsed(
      'map',
      '--html',
      'p.html',
      '-o',
      's.json',
      '--compare',
      'b.json',
      '--top',
      '7',
      '/srv',
    );
    expect(line.engine).toMatchObject({ html: 'p.html', output: 's.json', compare: 'b.json', top: 7 });
    expect(line).toMatchObject({ command: 'map', top: 7 });
    expect(parsed('--report', 'r.html', '/srv').engine.report).toBe('r.html');
  });

  test.each([
    ['map'],
    ['map', '--compare', 'b.json', '/srv'],
    ['map', '--html', 'p.html', '/srv', '/home'],
    ['map', '-o', 's.json', '/srv', '/home'],
    ['map', '--exclude', '*.o', '/srv'],
    ['check', '--html', 'p.html', '/srv'],
    ['defrag', '--report', 'r.html', '/srv', '/home'],
    ['plan', '--report', 'r.html', '/srv'],
  ])('%j is a mistake', (...args) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
  });
});
