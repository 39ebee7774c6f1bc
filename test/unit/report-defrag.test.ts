import { describe, expect, test } from 'vitest';
import { typicalDevice } from '../../lib/layout/readCost.ts';
import type { DefragEvent, DefragSummary, SkipEvent, TargetEvent } from '../../lib/report/events.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';
import { REASONS } from '../../lib/scan/reasons.ts';
import { targetEvent } from '../support/events.ts';

const [MiB, GiB] = [2 ** 20, 2 ** 30];

const target = (changes: Partial<TargetEvent> = {}) =>
  targetEvent({ deviceProfile: typicalDevice(changes.rotational ?? false), ...changes });

const summary = (changes: Partial<DefragSummary> = {}): DefragSummary => ({
  type: 'summary',
  command: 'defrag',
  files: 10,
  defragmented: 3,
  skipped: {},
  failed: 0,
  unsupported: 0,
  fragmentsBefore: 14_007,
  fragmentsAfter: 10,
  bytesMoved: 3.1 * GiB,
  bytesEvacuated: 0,
  bytesWritten: 3.3 * GiB,
  gained: {
    fragmentsBefore: 14_000,
    fragmentsAfter: 3,
    extentsBefore: 14_321,
    extentsAfter: 26,
    readSecondsBefore: 95.04,
    readSecondsAfter: 12.3,
  },
  continued: false,
  interrupted: false,
  seconds: 28.6,
  ...changes,
});

const nothing = (changes: Partial<DefragSummary> = {}) =>
  summary({ defragmented: 0, bytesMoved: 0, bytesWritten: 4096, ...changes });

const left = (changes: Partial<NonNullable<DefragSummary['budget']>> = {}) => ({
  budget: { reached: 'time' as const, filesLeft: 12, bytesLeft: 3 * GiB, complete: true, ...changes },
});

function report(events: DefragEvent[], verbose = false) {
  const reporter = textReporter('defrag', { verbose, style: NO_COLOURS, errorStyle: NO_COLOURS });
  const lines = events.flatMap((event) => [...reporter.lines(event)]);
  const to = (stream: 'out' | 'err') => lines.filter((line) => line.to === stream).map(({ text }) => text);
  return { out: to('out'), err: to('err') };
}

const out = (...events: DefragEvent[]) => report(events).out.join('\n');

describe('the headline', () => {
  test('says what was moved and what was written', () => {
    expect(report([target(), summary()]).out.slice(0, 3)).toEqual([
      '',
      '3 of 10 files defragmented: 3.1 GiB moved, 3.3 GiB written, in 28.6 s.',
      'Fragments in all: 14,007 -> 10.',
    ]);
  });

  test('nothing of what was written where the kernel does not tell', () => {
    expect(out(target(), summary({ bytesWritten: 0 }))).toContain('defragmented: 3.1 GiB moved, in 28.6 s.');
  });

  test('says that the run went on with an earlier one, also when it found nothing to do', () => {
    const words = 'This run went on where an earlier one stopped.';
    for (const event of [summary(), nothing()]) {
      expect(out(target(), event)).not.toContain(words);
      expect(report([target(), { ...event, continued: true }]).out).toContain(words);
    }
  });
});

describe('the table of what was gained', () => {
  const table = (...events: DefragEvent[]) => {
    const lines = report(events).out;
    const from = lines.indexOf('Gained:');
    return from === -1 ? [] : lines.slice(from - 1);
  };

  test('fragments, extents and the estimated read time, in columns, at the end', () => {
    const skipped = { busy: 1, 'already-contiguous': 6 };
    expect(table(target(), summary({ skipped }))).toEqual([
      '',
      'Gained:',
      '                       before         after',
      '  fragments            14,000             3',
      '  extents              14,321            26',
      '  read time        1 min 35 s        12.3 s  estimated for a typical SSD',
    ]);
  });

  test('and what was measured, of how many files and bytes', () => {
    const measured = { files: 2, bytes: 200 * MiB, secondsBefore: 2.5, secondsAfter: 0.41 };
    expect(table(target(), summary({ measured })).at(-1)).toBe(
      '  measured read        2.50 s        410 ms  2 files, 200.0 MiB',
    );
  });

  test('the estimate says for what device, where the targets have but one kind', () => {
    const disk = target({ rotational: true });
    const given = target({ deviceProfile: { seek: 1, bandwidth: 1 } });
    const last = (...targets: TargetEvent[]) => table(...targets, summary()).at(-1);
    expect(last(disk)).toMatch(/estimated for a typical disk$/);
    expect(last(given)).toMatch(/estimated for the device profile given$/);
    expect(last(disk, target())).toMatch(/ estimated$/);
    expect(last(target(), target({ path: '/home' }))).toMatch(/estimated for a typical SSD$/);
  });

  test('is not there when nothing was improved, or nothing supported', () => {
    expect(table(target(), nothing({ skipped: { 'already-contiguous': 3 } }))).toEqual([]);
    const refused: DefragEvent = { type: 'unsupported', path: '/srv', message: 'no' };
    expect(table(refused, nothing({ files: 0, unsupported: 1 }))).toEqual([]);
  });

  test('problems and the end of the run stay apart from it', () => {
    const { out } = report([target(), summary({ failed: 1, interrupted: true })]);
    expect(out.slice(-3)).toEqual([
      '',
      'Failed: 1 (named on standard error).',
      'Stopped by a signal; all that was moved is committed.',
    ]);
  });
});

describe('a run that ended at its budget', () => {
  const last = (changes: Parameters<typeof left>[0]) => report([target(), summary(left(changes))]).out.at(-1);

  test('says at which limit, what is left, and what to do', () => {
    expect(last({})).toBe(
      'Stopped at its time limit, with 12 files left (3.0 GiB to move): run it again to go on.',
    );
    expect(last({ reached: 'bytes', complete: false, filesLeft: 1, bytesLeft: MiB })).toBe(
      'Stopped at its limit of bytes to move, with at least 1 file left (1.0 MiB to move): run it again to go on.',
    );
  });

  test('when nothing is known to be left', () => {
    expect(last({ filesLeft: 0, bytesLeft: 0, complete: false })).toBe(
      'Stopped at its time limit, before all files were looked at: run it again to go on.',
    );
    expect(last({ filesLeft: 0, bytesLeft: 0 })).toBe('Stopped at its time limit, with nothing left to do.');
  });

  test('that nothing was moved until then is no fault of the files', () => {
    const skipped = { budget: 12, 'already-contiguous': 3 };
    expect(out(target(), nothing({ skipped, ...left() }))).toMatch(
      /^\nNothing was improved: the run came to its limit before\.$/m,
    );
    const hindered = nothing({ skipped: { ...skipped, busy: 1 }, ...left() });
    expect(out(target(), hindered)).toMatch(
      new RegExp(`^\nNothing could be improved: ${REASONS.busy}\\.$`, 'm'),
    );
  });

  test.each(['budget', 'interrupted'] as const)(
    'files left behind (%s) are counted; named only with -v, or when the user named them',
    (reason) => {
      const skip: SkipEvent = { type: 'skip', path: '/srv/later', reason, fragments: 9 };
      const events = [target(), skip, summary({ skipped: { [reason]: 12 } })];
      expect(report(events).out.join('\n')).not.toContain('/srv/later');
      expect(report(events).out).toContain(`       12  ${REASONS[reason]}`);
      const named = `/srv/later: left alone: ${REASONS[reason]}`;
      expect(report(events, true).out).toContain(named);
      expect(report([target({ kind: 'file' }), skip]).out).toEqual([named]);
    },
  );
});

describe('files that earlier runs know of', () => {
  const again = (fragmentsPerDay?: number): SkipEvent => ({
    type: 'skip',
    path: '/srv/log',
    reason: 'fragments-again',
    ...(fragmentsPerDay !== undefined && { fragmentsPerDay }),
  });

  test.each([
    [12_345, ' (about 12,000 fragments a day)'],
    [48.7, ' (about 49 fragments a day)'],
    [0.999, ' (about 1 fragment a day)'],
    [0.345, ' (about 0.34 fragments a day)'],
    [undefined, ''],
  ])('one that regains %s fragments a day', (perDay, words) => {
    expect(out(target(), again(perDay))).toBe(`/srv/log: left alone: ${REASONS['fragments-again']}${words}`);
  });

  test('what an earlier run has done is fine as it is', () => {
    const done: SkipEvent = { type: 'skip', path: '/srv/done', reason: 'done-earlier' };
    expect(report([target(), done]).out).toEqual([]);
    expect(report([target(), done], true).out).toHaveLength(1);
    expect(out(target(), nothing({ skipped: { 'done-earlier': 4 } }))).toContain(
      `Nothing was moved: ${REASONS['done-earlier']}.`,
    );
  });
});

describe('beside the results', () => {
  test('notes go to standard error', () => {
    const notice: DefragEvent = { type: 'notice', about: 'state', message: 'cannot be kept\u001b' };
    expect(report([target(), notice])).toEqual({
      out: [],
      err: ['ext4-defrag: note: cannot be kept\\x1b'],
    });
  });

  test('pauses are told of with -v only', () => {
    const pauses: DefragEvent[] = [
      { type: 'pause', paused: true, percent: 62, seconds: 1 },
      { type: 'pause', paused: false, percent: 4, seconds: 9 },
    ];
    expect(report(pauses)).toEqual({ out: [], err: [] });
    expect(report(pauses, true)).toEqual({
      out: [],
      err: ['ext4-defrag: pausing: others wait for I/O 62 % of the time', 'ext4-defrag: going on'],
    });
  });
});
