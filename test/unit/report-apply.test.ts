import { describe, expect, test } from 'vitest';
import { exitCodeOf } from '../../lib/cli/exitCode.ts';
import { helpText } from '../../lib/cli/help.ts';
import { parseCommandLine } from '../../lib/cli/options.ts';
import { UsageError } from '../../lib/cli/usageError.ts';
import type {
  ApplyEvent,
  ApplySummary,
  DefragmentedEvent,
  PlanSums,
  PlanSummary,
} from '../../lib/report/events.ts';
import { JsonReporter } from '../../lib/report/json.ts';
import { Status } from '../../lib/report/status.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { textReporter } from '../support/text.ts';
import { REASONS } from '../../lib/scan/reasons.ts';
import { targetEvent } from '../support/events.ts';

const MiB = 2 ** 20;

const sums = (changes: Partial<PlanSums> = {}): PlanSums => ({
  files: 3,
  bytes: 6 * MiB,
  fragmentsBefore: 14_288,
  fragmentsAfter: 3,
  savedSeconds: 3.62,
  ...changes,
});

const summary = (changes: Partial<ApplySummary> = {}): ApplySummary => ({
  type: 'summary',
  command: 'apply',
  kind: 'plan',
  files: 3,
  applied: 2,
  skipped: { 'changed-since-plan': 1 },
  failed: 0,
  unsupported: 0,
  fragmentsBefore: 14_288,
  fragmentsAfter: 130,
  bytesMoved: 4 * MiB,
  bytesEvacuated: 0,
  bytesWritten: 4.1 * MiB,
  gained: {
    fragmentsBefore: 14_160,
    fragmentsAfter: 2,
    extentsBefore: 14_160,
    extentsAfter: 2,
    readSecondsBefore: 2.1,
    readSecondsAfter: 0.1,
  },
  continued: false,
  interrupted: false,
  seconds: 1.25,
  predicted: sums(),
  achieved: sums({ files: 2, bytes: 4 * MiB, fragmentsBefore: 14_160, fragmentsAfter: 2, savedSeconds: 2 }),
  ...changes,
});

const nothing = (changes: Partial<ApplySummary> = {}) =>
  summary({ applied: 0, bytesMoved: 0, skipped: {}, achieved: sums({ files: 0 }), ...changes });

const moved: DefragmentedEvent = {
  type: 'defragmented',
  path: '/srv/a',
  inode: 12,
  fragmentsBefore: 1,
  fragmentsAfter: 128,
  extentsBefore: 1,
  extentsAfter: 128,
  bytesMoved: 2 * MiB,
  readSecondsBefore: 0.1,
  readSecondsAfter: 1,
};

function report(events: ApplyEvent[], verbose = false) {
  const reporter = textReporter('apply', { verbose, style: NO_COLOURS, errorStyle: NO_COLOURS });
  const lines = events.flatMap((event) => [...reporter.lines(event)]);
  const to = (stream: 'out' | 'err') => lines.filter((line) => line.to === stream).map(({ text }) => text);
  return { out: to('out'), err: to('err') };
}

const target = targetEvent({ method: 'plan' });

describe('the report of apply', () => {
  test('ends with what was predicted beside what was achieved', () => {
    expect(report([target, summary()]).out).toEqual([
      '',
      '2 of 3 steps carried out: 4.0 MiB moved, 4.1 MiB written, in 1.25 s.',
      'Left alone:',
      `        1  ${REASONS['changed-since-plan']}`,
      '',
      'By the plan, and what came of it:',
      '                       predicted      achieved',
      '  files                        3             2',
      '  fragments before        14,288        14,160',
      '  fragments after              3             2',
      '  moved                  6.0 MiB       4.0 MiB',
      '  saved a read            3.62 s        2.00 s',
    ]);
  });

  test('of an undo file, with what reading costs again', () => {
    const undone = sums({ fragmentsBefore: 3, fragmentsAfter: 288, savedSeconds: -3.62 });
    const { out } = report([
      target,
      summary({ kind: 'undo', predicted: undone, achieved: undone, skipped: {} }),
    ]);
    expect(out[1]).toMatch(/^2 of 3 steps put back: /);
    expect(out).toContain('  lost a read             3.62 s        3.62 s');
    expect(out.join('\n')).not.toContain('saved');
  });

  test('names what was put back, and what changed meanwhile, and hides what a name hides', () => {
    const { out } = report([
      target,
      { ...moved, type: 'restored', path: '/srv/a\u202e\n' },
      { type: 'skip', path: '/srv/b', reason: 'changed-since-plan', fragments: 9 },
      { type: 'skip', path: '/srv/c', reason: 'place-taken' },
    ]);
    expect(out).toEqual([
      '/srv/a\\u{202e}\\n: put back, 1 -> 128 fragments, 2.0 MiB moved',
      `/srv/b: left alone: ${REASONS['changed-since-plan']}`,
      `/srv/c: left alone: ${REASONS['place-taken']}`,
    ]);
  });

  test.each<[string, ApplySummary, RegExp]>([
    ['refused', nothing({ skipped: { 'place-taken': 3 } }), /^None of 3 steps could be carried out\.$/m],
    ['unsupported', nothing({ unsupported: 1 }), /^Nothing was moved: the plan could not be worked on\.$/m],
    ['empty', nothing({ predicted: sums({ files: 0 }) }), /^Nothing was moved: the plan has no steps\.$/m],
    ['stopped', nothing({ interrupted: true }), /^Stopped by a signal/m],
  ])('when nothing was done: %s', (_, event, words) => {
    expect(report([target, event]).out.join('\n')).toMatch(words);
  });

  test('an empty plan has no table', () => {
    expect(report([nothing({ predicted: sums({ files: 0 }) })]).out.join('\n')).not.toContain('predicted');
  });

  test('says how to put it back', () => {
    const last = (undoFile: string) => report([target, summary({ undoFile })]).out.slice(-2);
    expect(last('/tmp/my undo')).toEqual(['', "To put it back: ext4-defrag apply '/tmp/my undo'"]);
    expect(last('/tmp/\u001b')[1]).toBe('To put it back: apply the file /tmp/\\x1b');
  });

  test('a budget that was reached is told of, and is exit 4', () => {
    const event = summary({ budget: { reached: 'time', filesLeft: 1, bytesLeft: 2 * MiB, complete: true } });
    expect(report([target, event]).out.at(-1)).toMatch(/^Stopped at its time limit, with 1 file left/);
    expect(exitCodeOf(event)).toBe(4);
    expect(exitCodeOf(summary())).toBe(0);
  });

  test('JSON lines: every event, the summary last', () => {
    const reporter = new JsonReporter({ verbose: false });
    const events: ApplyEvent[] = [
      target,
      { type: 'skip', path: '/srv/b', reason: 'changed-since-plan' },
      { ...moved, type: 'restored' },
      summary(),
    ];
    const lines = events
      .flatMap((event) => [...reporter.lines(event)])
      .map(({ text }) => JSON.parse(text) as object);
    expect(lines).toMatchObject(events.map((event) => ({ ...event, schema: 1 })));
  });

  test('all that is to be done is known from the beginning', () => {
    const status = new Status();
    status.see(target);
    status.see({
      type: 'progress',
      path: '/srv/a',
      files: 1,
      bytesMoved: MiB,
      bytesPlanned: 4 * MiB,
      bytesEvacuated: 0,
      bytesWritten: MiB,
      seconds: 1,
    });
    expect(status.text()).toMatch(/^ 25 % /);
  });
});

test('plan says where the plan is, or that nothing was written', () => {
  const event: PlanSummary = {
    type: 'summary',
    command: 'plan',
    files: 1,
    filesToMove: 1,
    bytesToMove: MiB,
    fragmentsBefore: 9,
    fragmentsAfter: 1,
    savedSeconds: 1,
    skipped: {},
    failed: 0,
    unsupported: 0,
    interrupted: false,
    seconds: 1,
  };
  const last = (changes: Partial<PlanSummary>) => {
    const reporter = textReporter('plan', { verbose: false, style: NO_COLOURS, errorStyle: NO_COLOURS });
    return reporter.lines({ ...event, ...changes }).map(({ text }) => text);
  };
  expect(last({}).at(-1)).toBe('Nothing was written.');
  expect(last({ planFile: 'plan.json' }).slice(-2)).toEqual([
    'The plan is in plan.json; nothing else was written.',
    'To carry it out: ext4-defrag apply ./plan.json',
  ]);
});

describe('the command line', () => {
  const parsed = (...args: string[]) => {
    const line = parseCommandLine(args);
    if (line.kind !== 'run') throw new Error(`not a run: ${line.kind}`);
    return line;
  };

  test('apply takes a plan file, and perhaps a target', () => {
    expect(parsed('apply', 'plan.json')).toMatchObject({ command: 'apply', targets: ['plan.json'] });
    expect(parsed('apply', 'plan.json', '/srv')).toMatchObject({ targets: ['plan.json', '/srv'] });
  });

  test('apply gives way and keeps to budgets as defrag does, and remembers nothing', () => {
    const { engine } = parsed(
      'apply',
      '--max-bytes',
      '1M',
      '--keep-undo',
      'undo',
      '--exclusive',
      'plan.json',
    );
    expect(engine).toMatchObject({
      priority: 'idle',
      pressure: 15,
      maxBytes: MiB,
      keepUndo: 'undo',
      exclusive: true,
    });
    expect(engine).not.toHaveProperty('state');
  });

  test('files to write', () => {
    expect(parsed('plan', '-o', 'plan.json', '/srv').engine).toMatchObject({ output: 'plan.json' });
    expect(parsed('--keep-undo=undo.json', '/srv').engine).toMatchObject({ keepUndo: 'undo.json' });
  });

  test.each([
    [['apply'], /apply needs a plan file/],
    [['apply', 'a', 'b', 'c'], /a plan file and one target/],
    [['apply', '--full', 'a'], /apply has no option --full/],
    [['apply', '--state', 's', 'a'], /apply has no option --state/],
    [['-o', 'plan.json', '/srv'], /defrag has no option --output/],
    [['plan', '-o', '/srv'], /no target|needs a value/],
    [['plan', '-o', 'a\ufffd', '/srv'], /--output a\ufffd is not UTF-8/],
    [['plan', '--keep-undo', 'a', '/srv'], /plan has no option --keep-undo/],
  ])('%j is wrong usage', (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(UsageError);
    expect(() => parseCommandLine(args)).toThrow(message);
  });

  test('help tells what only defrag has of what moves files', () => {
    const running = helpText().replace(/\s+/g, ' ');
    expect(running).toMatch(
      /Options of defrag, apply and space --consolidate:.*--ignore-history [^()]*\(defrag only\)/,
    );
    expect(running).toMatch(/--keep-undo FILE record in FILE [^()]* \(not space\)/);
  });
});
