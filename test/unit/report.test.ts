import { describe, expect, test } from 'vitest';
import { ExtentTable } from '../../lib/layout/extents.ts';
import type { DefragSummary, Event, FileEvent, SkipEvent } from '../../lib/report/events.ts';
import { formatRoundSize, formatSeconds, formatSize } from '../../lib/report/format.ts';
import { JsonReporter, toJson } from '../../lib/report/json.ts';
import { FINE_AS_IT_IS } from '../../lib/report/leftAlone.ts';
import { drawMap, spanOf } from '../../lib/report/map.ts';
import { displayWidth, printable, printableText, shellWord, truncatePath } from '../../lib/report/names.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';
import { Greatest } from '../../lib/report/worst.ts';
import { REASONS, type Reason } from '../../lib/scan/reasons.ts';
import { scanningEvent, targetEvent } from '../support/events.ts';

const target = targetEvent();

const summary = (changes: Partial<DefragSummary> = {}): DefragSummary => ({
  type: 'summary',
  command: 'defrag',
  files: 3,
  defragmented: 0,
  skipped: {},
  failed: 0,
  unsupported: 0,
  fragmentsBefore: 3,
  fragmentsAfter: 3,
  bytesMoved: 0,
  bytesEvacuated: 0,
  bytesWritten: 0,
  gained: {
    fragmentsBefore: 0,
    fragmentsAfter: 0,
    extentsBefore: 0,
    extentsAfter: 0,
    readSecondsBefore: 0,
    readSecondsAfter: 0,
  },
  continued: false,
  interrupted: false,
  seconds: 0.1,
  ...changes,
});

function text(command: 'check' | 'plan' | 'defrag', events: Event[], verbose = false) {
  const reporter = textReporter(command, { verbose, style: NO_COLOURS, errorStyle: NO_COLOURS });
  const lines = events.flatMap((event) => [...reporter.lines(event)]);
  const to = (stream: 'out' | 'err') =>
    lines
      .filter((line) => line.to === stream)
      .map((line) => line.text)
      .join('\n');
  return { out: to('out'), err: to('err') };
}

describe('names', () => {
  test.each([
    ['plain', 'plain'],
    ['two\nlines', 'two\\nlines'],
    ['\u001b[2J', '\\x1b[2J'],
    ['\u009b31m', '\\x9b31m'],
    ['gpj.\u202eexe', 'gpj.\\u{202e}exe'],
    ['back\\slash', 'back\\\\slash'],
    ['日本', '日本'],
  ])('%j is shown as %j', (path, shown) => expect(printable({ path })).toBe(shown));

  test('bytes that are not UTF-8 are shown as such, the rest as it is', () => {
    const pathBytes = Buffer.from([0xc3, 0xa9, 0xff, 0x0a, 0xe2, 0x82]);
    expect(printable({ path: pathBytes.toString(), pathBytes })).toBe('é\\xff\\n\\xe2\\x82');
  });

  test('messages keep their backslashes and lose their controls', () => {
    expect(printableText('a\\b\u0007')).toBe('a\\b\\x07');
  });

  test('for a shell they are one word each, and neither option nor command', () => {
    const words = ['/srv', 'check', '-v', '../a', '.', '.a', "/it's here", '/a;b'].map((path) =>
      shellWord({ path }),
    );
    expect(words).toEqual([
      ...['/srv', './check', './-v', '../a', '.', './.a'],
      ...["'/it'\\''s here'", "'/a;b'"],
    ]);
    expect(shellWord({ path: '/a\nb' })).toBeUndefined();
    expect(shellWord({ path: 'a\ufffd', pathBytes: Buffer.from([0x61, 0xff]) })).toBeUndefined();
  });

  test('a long path keeps its end', () => {
    expect(truncatePath('/very/long/path/name', 12)).toBe('...path/name');
    expect(displayWidth(truncatePath('/日本/日本/日本', 9))).toBeLessThanOrEqual(9);
    expect(truncatePath('short', 12)).toBe('short');
  });
});

describe('JSON', () => {
  test('each line has type and schema, and bytes in base64', () => {
    const event: Event = {
      type: 'skip',
      path: 'a\ufffd',
      pathBytes: Buffer.from([0x61, 0xff]),
      reason: 'busy',
    };
    expect(JSON.parse(toJson(event))).toEqual({
      type: 'skip',
      schema: 1,
      path: 'a\ufffd',
      pathBase64: 'Yf8=',
      reason: 'busy',
    });
  });

  test('no control or format character is there raw', () => {
    expect(toJson({ type: 'skip', path: '\u001b\u202e\u2028\u009b', reason: 'busy' })).not.toMatch(
      // eslint-disable-next-line no-control-regex
      /[\u0000-\u001f\u007f-\u009f\u202e\u2028]/,
    );
  });

  test('what is fine as it is needs -v; the summary always comes', () => {
    const skip = (reason: Reason): SkipEvent => ({ type: 'skip', path: '/srv/a', reason });
    const events = [target, skip('already-contiguous'), skip('done-earlier'), skip('no-space'), summary()];
    const lines = (verbose: boolean) => {
      const reporter = new JsonReporter({ verbose });
      return events.flatMap((event) => [...reporter.lines(event)]).length;
    };
    expect([lines(false), lines(true)]).toEqual([3, 5]);
  });

  test('pauses, notices, files that the budget left behind, and all fields come as they are', () => {
    const events: Event[] = [
      { type: 'notice', about: 'pressure', message: 'the kernel does not tell' },
      { type: 'pause', paused: true, percent: 62, seconds: 1 },
      { type: 'pause', paused: false, percent: 3, seconds: 9 },
      { type: 'skip', path: '/srv/a', reason: 'budget', fragments: 7 },
      { type: 'skip', path: '/srv/b', reason: 'fragments-again', fragments: 7, fragmentsPerDay: 3.5 },
      summary({ budget: { reached: 'time', filesLeft: 3, bytesLeft: 4096, complete: false } }),
    ];
    const reporter = new JsonReporter({ verbose: false });
    const lines = [target, ...events].flatMap((event) => [...reporter.lines(event)]);
    expect(lines.every(({ to }) => to === 'out')).toBe(true);
    expect(lines.slice(1).map(({ text }) => JSON.parse(text) as unknown)).toEqual(
      events.map((event) => ({ ...event, schema: 1 })),
    );
  });
});

test('JSON: of the steps of a scan a few a second, the last among them', () => {
  const reporter = new JsonReporter({ verbose: false });
  const steps = Array.from({ length: 100 }, (_, i) => scanningEvent({ inodes: i, seconds: i / 64 }));
  const seen = [target, ...steps, scanningEvent({ inodes: 1_000_000, seconds: 1.6 }), summary()]
    .flatMap((event) => [...reporter.lines(event)])
    .map(({ text }) => JSON.parse(text) as { type: string; inodes?: number });
  expect(seen.map(({ type, inodes }) => inodes ?? type)).toEqual([
    ...['target', 0, 13, 26, 39, 52, 65, 78, 91],
    ...[1_000_000, 'summary'],
  ]);
});

describe('text', () => {
  test('says that nothing was moved, and why; never OK', () => {
    const { out } = text('defrag', [target, summary({ skipped: { 'already-contiguous': 3 } })]);
    expect(out).toMatch(/nothing/i);
    expect(out).toContain(REASONS['already-contiguous']);
    expect(out).not.toMatch(/\bOK\b/);
  });

  test('a file that could not be improved is named with its reason; one that is fine only with -v', () => {
    const events: Event[] = [
      target,
      { type: 'skip', path: '/srv/full', reason: 'no-better-place' },
      { type: 'skip', path: '/srv/fine', reason: 'already-contiguous' },
      summary({ skipped: { 'no-better-place': 1, 'already-contiguous': 1 } }),
    ];
    expect(text('defrag', events).out).toContain('/srv/full');
    expect(text('defrag', events).out).toContain(REASONS['no-better-place']);
    expect(text('defrag', events).out).not.toContain('/srv/fine');
    expect(text('defrag', events, true).out).toContain('/srv/fine');
  });

  test('about a file that the user named nothing is passed over', () => {
    const events: Event[] = [
      { ...target, kind: 'file', path: '/srv/fine' },
      { type: 'skip', path: '/srv/fine', reason: 'already-contiguous' },
      summary({ files: 1, skipped: { 'already-contiguous': 1 } }),
    ];
    expect(text('defrag', events).out).toContain(REASONS['already-contiguous']);
  });

  test('failures go to standard error, results to standard output', () => {
    const { out, err } = text('defrag', [
      target,
      { type: 'failed', path: '/srv/bad\n', code: 'EIO', message: 'EIO: i/o error, read' },
      {
        type: 'defragmented',
        path: '/srv/a',
        inode: 12,
        fragmentsBefore: 4096,
        fragmentsAfter: 1,
        extentsBefore: 4096,
        extentsAfter: 1,
        bytesMoved: 64 * 2 ** 20,
        readSecondsBefore: 0.5,
        readSecondsAfter: 0.1,
      },
      summary({ failed: 1, defragmented: 1 }),
    ]);
    expect(err).toContain('/srv/bad\\n');
    expect(err).toMatch(/i\/o error/i);
    expect(out).toMatch(/\/srv\/a: 4,?096 -> 1 fragments, 64\.0 MiB moved/);
  });

  test('check names the files that cost most to read, worst first, and no more than ten', () => {
    const file = (i: number): FileEvent => ({
      type: 'file',
      path: `/srv/f${i}`,
      inode: i,
      size: 4096 * i,
      blocks: i,
      extents: i,
      fragments: i,
      idealFragments: 1,
      score: 0,
      readSeconds: i,
      idealReadSeconds: 1,
    });
    const order = [7, 20, 3, 15, 1, 9, 12, 18, 2, 11, 5, 17, 14];
    const events: Event[] = [
      target,
      ...order.map(file),
      {
        type: 'summary',
        command: 'check',
        files: order.length,
        fragmentedFiles: 12,
        fragments: 134,
        idealFragments: 13,
        bytes: 1000,
        score: 42,
        readSeconds: 134,
        idealReadSeconds: 13,
        fragmentSizes: [],
        skipped: {},
        failed: 0,
        unsupported: 0,
        interrupted: false,
        seconds: 1,
      },
    ];
    const named = [...text('check', events).out.matchAll(/\/srv\/f(\d+)/g)].map(([, i]) => Number(i));
    expect(named).toEqual([20, 18, 17, 15, 14, 12, 11, 9, 7, 5]);
    expect(text('check', events).out).toMatch(/42/);
  });

  test('every reason has its words, and what is fine is part of the closed list', () => {
    for (const words of Object.values(REASONS)) expect(words).toMatch(/^[a-z].*[^.]$/);
    for (const reason of FINE_AS_IT_IS) expect(REASONS).toHaveProperty(reason);
  });
});

test('numbers for people', () => {
  expect([0, 1023, 1024, 64 * 2 ** 20, 1.5 * 2 ** 40].map(formatSize)).toEqual([
    '0 bytes',
    '1023 bytes',
    '1.0 KiB',
    '64.0 MiB',
    '1.5 TiB',
  ]);
  expect([4096, 1.5 * 2 ** 30, 500 * 2 ** 20, 100].map(formatRoundSize)).toEqual([
    '4 KiB',
    '1.5 GiB',
    '500 MiB',
    '100 bytes',
  ]);
  expect(formatSeconds(0.05)).toMatch(/50 ms/);
  expect(formatSeconds(7200)).toMatch(/2 h/);
});

test('the greatest of many, of equals the first, whatever the limit', () => {
  const items = Array.from({ length: 1000 }, (_, i) => ({ i, rank: (i * 7919) % 500 }));
  const expected = items.toSorted((a, b) => b.rank - a.rank);
  for (const limit of [0, 1, 10, 300, 2000]) {
    const greatest = new Greatest<(typeof items)[number]>(limit, ({ rank }) => rank);
    for (const item of items) greatest.add(item);
    expect(greatest.items).toEqual(expected.slice(0, limit));
  }
});

describe('the block map', () => {
  const extents = (...runs: [physical: number, length: number][]) => {
    let logical = 0;
    return ExtentTable.from(
      runs.map(([physical, length]) => {
        const extent = { logical, physical, length };
        logical += length;
        return extent;
      }),
    );
  };

  test('shows where a file lies, darker where there is more of it', () => {
    const file = extents([0, 25], [50, 50]);
    const [row] = drawMap([{ name: 'f', extents: file }], spanOf([file]), {
      width: 15,
      unicode: false,
      colour: false,
    });
    expect(row).toBe('f |##:  #####|');
  });

  test('a single block shows, however large the device', () => {
    const file = extents([1_000_000, 1]);
    const style = { width: 30, unicode: true, colour: false };
    const [row] = drawMap([{ name: '', extents: file }], { start: 0, end: 2_000_000 }, style);
    expect(row.match(/░/g)).toHaveLength(1);
  });

  test('colour only when asked for', () => {
    const file = extents([0, 10]);
    const draw = (colour: boolean) =>
      drawMap([{ name: 'f', extents: file }], spanOf([file]), { width: 20, unicode: false, colour })[0];
    expect(draw(false)).not.toContain('\u001b');
    expect(draw(true)).toContain('\u001b[');
  });

  test('files without blocks span something all the same', () => {
    expect(spanOf([extents()])).toEqual({ start: 0, end: 1 });
  });
});
