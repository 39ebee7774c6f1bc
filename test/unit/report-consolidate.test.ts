import { describe, expect, test } from 'vitest';
import { exitCodeOf } from '../../lib/cli/exitCode.ts';
import { helpText } from '../../lib/cli/help.ts';
import { parseCommandLine } from '../../lib/cli/options.ts';
import { UsageError } from '../../lib/cli/usageError.ts';
import { consolidate, type Event } from '../../lib/index.ts';
import { Budget } from '../../lib/move/budget.ts';
import { reserveShareFor } from '../../lib/place/donors.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import {
  named,
  type ConsolidatedEvent,
  type ConsolidateEvent,
  type ConsolidateSummary,
  type FreeSpaceNow,
} from '../../lib/report/events.ts';
import { JsonReporter } from '../../lib/report/json.ts';
import { Status } from '../../lib/report/status.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';
import { targetEvent } from '../support/events.ts';

const KiB = 2 ** 10;
const MiB = 2 ** 20;

const free = (changes: Partial<FreeSpaceNow> = {}): FreeSpaceNow => ({
  source: 'fsmap',
  bytes: 100 * MiB,
  runs: 1600,
  largestRun: 512 * KiB,
  histogram: [{ atLeast: 64 * KiB, count: 1600, bytes: 100 * MiB }],
  inLongRuns: 0,
  ...changes,
});

const consolidated = (changes: Partial<ConsolidatedEvent> = {}): ConsolidatedEvent => ({
  type: 'consolidated',
  path: '/srv',
  device: '/dev/sdb1',
  mountPoint: '/srv',
  goal: { kind: 'run', bytes: 64 * MiB },
  longRun: 8 * MiB,
  reached: true,
  windows: 1,
  bytesEvacuated: 30.5 * MiB,
  before: free(),
  after: free({
    runs: 1025,
    largestRun: 64 * MiB,
    histogram: [
      { atLeast: 32 * KiB, count: 1024, bytes: 36 * MiB },
      { atLeast: 64 * MiB, count: 1, bytes: 64 * MiB },
    ],
    inLongRuns: 64 * MiB,
  }),
  ...changes,
});

const summary = (changes: Partial<ConsolidateSummary> = {}): ConsolidateSummary => ({
  type: 'summary',
  command: 'consolidate',
  filesystems: 1,
  reached: 1,
  windows: 1,
  bytesEvacuated: 30.5 * MiB,
  bytesWritten: 31 * MiB,
  failed: 0,
  unsupported: 0,
  interrupted: false,
  seconds: 1.25,
  ...changes,
});

const nothing = { windows: 0, bytesEvacuated: 0, after: free() };

function linesOf(events: readonly ConsolidateEvent[], verbose = false): string[] {
  const reporter = textReporter('consolidate', { verbose, style: NO_COLOURS, errorStyle: NO_COLOURS });
  return events.flatMap((event) =>
    reporter.lines(event).map(({ to, text }) => (to === 'out' ? text : `! ${text}`)),
  );
}

describe('the text report', () => {
  test('what was wanted, what was done, free space before and after', () => {
    expect(linesOf([targetEvent(), consolidated(), summary()])).toEqual([
      '/dev/sdb1 on /srv: a free run of 64.0 MiB',
      '1 window cleared: 30.5 MiB of files moved out of the way.',
      '                                    before         after',
      '  free                           100.0 MiB     100.0 MiB',
      '  runs                                1600          1025',
      '  longest run                    512.0 KiB      64.0 MiB',
      '  in runs of 8 MiB and more        0 bytes      64.0 MiB',
      '',
      'Free space: 100.0 MiB in 1025 runs, the longest 64.0 MiB',
      '             size         runs       bytes    share',
      ' 16 KiB to 64 KiB         1024    36.0 MiB   36.0 %  #########',
      '64 MiB to 256 MiB            1    64.0 MiB   64.0 %  ###############',
      '',
      '30.5 MiB moved, 31.0 MiB written, in 1.25 s.',
    ]);
  });

  test('the goal was there already, or is not to be had', () => {
    expect(linesOf([consolidated(nothing)]).slice(0, 2)).toEqual([
      '/dev/sdb1 on /srv: a free run of 64.0 MiB was there already',
      'Nothing was cleared.',
    ]);
    const detail = 'needs a run of 64.0 MiB; the largest is 512.0 KiB; no window can be cleared for it';
    expect(linesOf([consolidated({ ...nothing, reached: false, detail })])[0]).toBe(
      `/dev/sdb1 on /srv: a free run of 64.0 MiB could not be made: ${detail}`,
    );
    const goal = { kind: 'bytes' as const, bytes: 1024 * MiB };
    expect(linesOf([consolidated({ goal, windows: 20 })]).slice(0, 2)).toEqual([
      '/dev/sdb1 on /srv: 1.0 GiB more in free runs of at least 8 MiB',
      '20 windows cleared: 30.5 MiB of files moved out of the way.',
    ]);
  });

  test('a summary of nothing done says nothing but problems and limits', () => {
    expect(linesOf([summary({ bytesEvacuated: 0 })])).toEqual([]);
    const bytesEvacuated = 0;
    expect(linesOf([summary({ bytesEvacuated, interrupted: true, failed: 1 })])).toEqual([
      'Failed: 1 (named on standard error).',
      'Stopped by a signal; all that was moved is committed.',
    ]);
    expect(linesOf([summary({ bytesEvacuated, budget: { reached: 'time' } })])).toEqual([
      'Stopped at its time limit: run it again to go on.',
    ]);
    expect(linesOf([summary({ bytesWritten: 0, budget: { reached: 'bytes' } })])).toEqual([
      '30.5 MiB moved, in 1.25 s.',
      'Stopped at its limit of bytes to move: run it again to go on.',
    ]);
  });

  test('filesystems are apart, steps are told to who wants to know everything', () => {
    const lines = linesOf([consolidated(), consolidated({ device: '/dev/sdc1' })]);
    expect(lines[lines.findIndex((line) => line.startsWith('/dev/sdc1')) - 1]).toBe('');
    const step = { type: 'placement' as const, path: '/srv', step: 'make-room' as const, reason: 'why' };
    expect(linesOf([step])).toEqual([]);
    expect(linesOf([step], true)).toEqual(['! ext4-defrag: /srv: making room: why']);
  });

  test('no name in it breaks a line or moves the cursor', () => {
    const hostile = 'a\n\u001b[2J\u202e';
    const lines = linesOf([
      consolidated({
        ...named(Buffer.from(`/mnt/${hostile}\xff`, 'latin1')),
        device: `/dev/${hostile}`,
        mountPoint: `/mnt/${hostile}`,
        reached: false,
        detail: `because of ${hostile}`,
      }),
    ]);
    // eslint-disable-next-line no-control-regex
    for (const line of lines) expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
  });
});

test('JSON: one line an event, and the summary comes last', () => {
  const reporter = new JsonReporter({ verbose: false });
  const events: ConsolidateEvent[] = [consolidated(), summary()];
  const lines = events.flatMap((event) => reporter.lines(event).map(({ text }) => text));
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
    { ...consolidated(), schema: 1 },
    { ...summary(), schema: 1 },
  ]);
});

test('the progress line tells what went out of the way, since nobody knows how much that will be', () => {
  const status = new Status();
  status.see(targetEvent({ method: 'inode-table' }));
  const progress = { bytesMoved: 0, bytesPlanned: 0, bytesEvacuated: 12 * MiB, bytesWritten: 0, seconds: 1 };
  status.see({ type: 'progress', path: '/srv/x', files: 0, ...progress });
  expect(status.text()).toBe('12.0 MiB moved out of the way  /srv/x');
});

describe('the command line', () => {
  const parsed = (...args: string[]) => {
    const line = parseCommandLine(args);
    if (line.kind !== 'run') throw new Error(line.kind);
    return line;
  };

  test('space --consolidate has a goal, and gives way as defrag does', () => {
    const line = parsed(
      'space',
      '--consolidate',
      '--run',
      '64M',
      '--max-bytes=1G',
      '--reserve',
      '2.5%',
      '/srv',
    );
    expect(line).toMatchObject({ command: 'consolidate', targets: ['/srv'] });
    expect(line.engine).toMatchObject({
      run: 64 * MiB,
      bytes: undefined,
      maxBytes: 1024 * MiB,
      reserve: 2.5,
      priority: 'idle',
      pressure: 15,
    });
    expect(parsed('space', '--bytes', '1G', '--consolidate', '/srv').engine.bytes).toBe(1024 * MiB);
    expect(parsed('space', '/srv').command).toBe('space');
    expect(parsed('defrag', '--reserve', '0', '/srv').engine.reserve).toBe(0);
    expect(parsed('/srv').engine.reserve).toBeUndefined();
  });

  const wrong = [
    ['space', '--run', '64M', '/srv'],
    ['space', '--reserve', '1', '/srv'],
    ['space', '-v', '/srv'],
    ['space', '--consolidate', '--run', '1M', '--bytes', '1M', '/srv'],
    ['space', '--consolidate', '--run', '0', '/srv'],
    ['space', '--consolidate', '--keep-undo', 'x', '/srv'],
    ['space', '--consolidate'],
    ['--consolidate', '/srv'],
    ['check', '--reserve', '1', '/srv'],
    ['--reserve', '-1', '/srv'],
    ['--reserve=100', '/srv'],
    ['--reserve', 'x', '/srv'],
  ];
  test.each(wrong.map((args) => ({ args, line: args.join(' ') })))('is wrong: $line', ({ args }) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
  });

  test('help says what needs --consolidate, and which options it shares', () => {
    const text = helpText().replace(/\s+/g, ' ');
    expect(text).toMatch(/--consolidate join free space [^()]*\(space only\)/);
    const shared = text.slice(text.indexOf('Options of defrag, apply and space --consolidate:'));
    expect(shared).toMatch(/--reserve PERCENT leave so much/);
    expect(shared).toMatch(/--keep-undo FILE [^()]*\(not space\)/);
  });

  test('a goal that was not reached is no failure; a limit that ended the run before is told', () => {
    expect(exitCodeOf(summary({ reached: 0 }))).toBe(0);
    expect(exitCodeOf(summary({ reached: 0, budget: { reached: 'bytes' } }))).toBe(4);
    expect(exitCodeOf(summary({ interrupted: true, budget: { reached: 'bytes' } }))).toBe(130);
    expect(exitCodeOf(summary({ failed: 1 }))).toBe(1);
    expect(exitCodeOf(summary({ unsupported: 1 }))).toBe(3);
  });
});

describe('the library', () => {
  async function all(events: AsyncIterable<Event>): Promise<Event[]> {
    const list: Event[] = [];
    for await (const event of events) list.push(event);
    return list;
  }

  test('wants a list of targets and a goal that makes sense', async () => {
    await expect(all(consolidate('/srv' as never))).rejects.toThrow(TypeError);
    const wrong = [{ run: 0 }, { bytes: -1 }, { run: 1, bytes: 1 }, { reserve: -1 }, { reserve: 100 }];
    for (const options of wrong) await expect(all(consolidate([], options))).rejects.toThrow(RangeError);
  });

  test('what is wrong with a target is an event, and an aborted signal ends it at once', async () => {
    expect(await all(consolidate(['/does/not/exist', '/proc']))).toMatchObject([
      { type: 'failed', path: '/does/not/exist', code: 'ENOENT' },
      { type: 'unsupported', path: '/proc' },
      { type: 'summary', command: 'consolidate', filesystems: 0, failed: 1, unsupported: 1 },
    ]);
    const signal = AbortSignal.abort();
    expect(await all(consolidate(['/does/not/exist'], { signal }))).toMatchObject([
      { type: 'summary', interrupted: true },
    ]);
  });
});

test('the share that stays free: what is asked for, what ext4 keeps, and root’s for all others', () => {
  const space = {
    magic: 0xef53,
    blockSize: bytes(4096),
    total: blocks(1000),
    free: blocks(500),
    available: blocks(430),
  };
  expect(reserveShareFor(2, space, blocks(20), true)).toBe(0.02);
  expect(reserveShareFor(0, space, blocks(20), true)).toBe(0.02);
  expect(reserveShareFor(0, space, blocks(20), false)).toBe(0.07);
  expect(reserveShareFor(10, space, blocks(20), false)).toBe(0.1);
});

test('a budget may be ended from outside without any limit reached', () => {
  const stop = new AbortController();
  using wide = new Budget(undefined, { bytes: 10 });
  using narrow = new Budget(wide, { signal: stop.signal });
  expect(narrow.bytesLeft).toBe(10);
  stop.abort();
  expect(narrow.signal.aborted).toBe(true);
  expect(narrow.reached).toBeUndefined();
  expect(wide.signal.aborted).toBe(false);
});
