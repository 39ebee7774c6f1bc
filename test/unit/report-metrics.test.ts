import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { CheckSummary, DefragSummary, Event } from '../../lib/report/events.ts';
import { Metrics, METRICS, PREFIX } from '../../lib/report/metrics.ts';
import { targetEvent } from '../support/events.ts';

const MiB = 2 ** 20;

const defragSummary: DefragSummary = {
  type: 'summary',
  command: 'defrag',
  files: 10,
  defragmented: 3,
  skipped: { 'already-contiguous': 5, 'no-better-place': 1 },
  failed: 1,
  unsupported: 0,
  fragmentsBefore: 400,
  fragmentsAfter: 12,
  bytesMoved: 30 * MiB,
  bytesEvacuated: 2 * MiB,
  bytesWritten: 33 * MiB,
  gained: {
    fragmentsBefore: 390,
    fragmentsAfter: 3,
    extentsBefore: 391,
    extentsAfter: 3,
    readSecondsBefore: 4,
    readSecondsAfter: 0.5,
  },
  continued: false,
  budget: { reached: 'time', filesLeft: 7, bytesLeft: 70 * MiB, complete: true },
  interrupted: false,
  seconds: 2,
};

const checkSummary: CheckSummary = {
  type: 'summary',
  command: 'check',
  files: 11,
  fragmentedFiles: 2,
  fragments: 20,
  idealFragments: 11,
  bytes: 40 * MiB,
  score: 12.5,
  readSeconds: 1.5,
  idealReadSeconds: 1.25,
  fragmentSizes: [],
  skipped: {},
  failed: 5,
  unsupported: 0,
  interrupted: false,
  seconds: 1,
};

const freeSpace = (path = '/srv'): Event => ({
  type: 'freeSpace',
  path,
  source: 'bitmaps',
  bytes: 40 * MiB,
  runs: 12,
  largestRun: 20 * MiB,
  histogram: [
    { atLeast: MiB, count: 10, bytes: 10 * MiB },
    { atLeast: 8 * MiB, count: 1, bytes: 10 * MiB },
    { atLeast: 16 * MiB, count: 1, bytes: 20 * MiB },
  ],
});

const END = { exitCode: 0, time: 1_700_000_000.5, seconds: 2.25 };

/** Samples by their whole name. */
function samples(metrics: Metrics, end = END): Record<string, number> {
  const lines = metrics.text(end).split('\n');
  return Object.fromEntries(
    lines
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

function metricsOf(events: readonly Event[], command = 'defrag', targets: (string | Buffer)[] = ['/srv']) {
  const metrics = new Metrics(command, targets);
  for (const event of events) metrics.see(event);
  return metrics;
}

describe('metrics', () => {
  test('a run of which nothing is known has its end, and no more', () => {
    expect(metricsOf([]).text({ ...END, exitCode: 3 })).toBe(
      [
        '# HELP ext4_defrag_last_run_timestamp_seconds When the last run ended, in seconds since 1970.',
        '# TYPE ext4_defrag_last_run_timestamp_seconds gauge',
        'ext4_defrag_last_run_timestamp_seconds{command="defrag",target="/srv"} 1700000000.5',
        '# HELP ext4_defrag_last_run_duration_seconds How long the last run took.',
        '# TYPE ext4_defrag_last_run_duration_seconds gauge',
        'ext4_defrag_last_run_duration_seconds{command="defrag",target="/srv"} 2.25',
        '# HELP ext4_defrag_last_run_exit_status Exit status of the last run: 0 done, 1 a file failed, 2 usage, 3 unsupported, 4 limit reached, 130 stopped.',
        '# TYPE ext4_defrag_last_run_exit_status gauge',
        'ext4_defrag_last_run_exit_status{command="defrag",target="/srv"} 3',
        '',
      ].join('\n'),
    );
  });

  test('a run that moved says what; the check after it says how things are, not how the run went', () => {
    const all = samples(metricsOf([targetEvent(), defragSummary, targetEvent(), freeSpace(), checkSummary]));
    const of = (name: keyof typeof METRICS, more = '') =>
      all[`${PREFIX}${name}{command="defrag",target="/srv"${more}}`];
    expect(of('last_run_files')).toBe(10);
    expect(of('last_run_defragmented_files')).toBe(3);
    expect(of('last_run_failed_files')).toBe(1);
    expect(of('last_run_skipped_files', ',reason="already-contiguous"')).toBe(5);
    expect(of('last_run_skipped_files', ',reason="no-better-place"')).toBe(1);
    expect(of('last_run_moved_bytes')).toBe(30 * MiB);
    expect(of('last_run_evacuated_bytes')).toBe(2 * MiB);
    expect(of('last_run_written_bytes')).toBe(33 * MiB);
    expect(of('last_run_saved_read_seconds')).toBe(3.5);
    expect(of('last_run_left_files')).toBe(7);
    expect(of('files')).toBe(11);
    expect(of('fragments')).toBe(20);
    expect(of('score')).toBe(12.5);
    expect(of('free_bytes', ',mountpoint="/srv"')).toBe(40 * MiB);
    expect(of('free_largest_run_bytes', ',mountpoint="/srv"')).toBe(20 * MiB);
    expect(of('free_fragmentation_ratio', ',mountpoint="/srv"')).toBe(0.25);
    // Everything there is: no metric is written by nobody.
    const names = new Set(Object.keys(all).map((name) => name.slice(PREFIX.length, name.indexOf('{'))));
    expect([...names]).toEqual(Object.keys(METRICS));
  });

  test('a check counts its own failures', () => {
    const all = samples(metricsOf([targetEvent(), checkSummary], 'check'));
    expect(all['ext4_defrag_last_run_failed_files{command="check",target="/srv"}']).toBe(5);
    expect(all['ext4_defrag_last_run_files{command="check",target="/srv"}']).toBeUndefined();
  });

  test('free space of several filesystems, each once', () => {
    const other = targetEvent({ path: '/home', mountPoint: '/home' });
    const events = [targetEvent(), freeSpace(), targetEvent(), freeSpace(), other, freeSpace('/home')];
    const all = samples(metricsOf(events, 'check', ['/srv', '/srv', '/home']));
    const free = Object.keys(all).filter((name) => name.startsWith('ext4_defrag_free_bytes'));
    expect(free).toEqual([
      'ext4_defrag_free_bytes{command="check",target="/srv /srv /home",mountpoint="/srv"}',
      'ext4_defrag_free_bytes{command="check",target="/srv /srv /home",mountpoint="/home"}',
    ]);
  });

  test('a full filesystem is not fragmented, and divides nothing by 0', () => {
    const full: Event = { ...freeSpace(), bytes: 0, runs: 0, largestRun: 0, histogram: [] } as Event;
    const all = samples(metricsOf([targetEvent(), full]));
    expect(
      all['ext4_defrag_free_fragmentation_ratio{command="defrag",target="/srv",mountpoint="/srv"}'],
    ).toBe(0);
  });

  test('names cannot leave their label', () => {
    const hostile = Buffer.concat([Buffer.from('/a"} 1\n# TYPE x\\'), Buffer.from([0xff, 0x1b])]);
    const text = metricsOf([targetEvent({ mountPoint: '/m"\n\\ é' }), freeSpace()], 'defrag', [hostile]).text(
      END,
    );
    expect(text).toContain('target="/a\\"} 1\\\\n# TYPE x\\\\\\\\\\\\xff\\\\x1b"');
    expect(text).toContain('mountpoint="/m\\"\\\\n\\\\\\\\ é"');
    for (const line of text.split('\n'))
      expect(line).toMatch(/^(# (HELP|TYPE) .*|ext4_defrag_\w+\{.*\} \S+|)$/);
  });
});

describe('what uses the metrics', () => {
  const share = (path: string) =>
    readFileSync(fileURLToPath(new URL(`../../share/${path}`, import.meta.url)), 'utf8');
  const namesIn = (text: string) => [...new Set(text.match(/\bext4_defrag_\w+/g))];
  const known = new Set(Object.keys(METRICS).map((name) => `${PREFIX}${name}`));

  test('the alert rules name only metrics that there are', () => {
    const names = namesIn(share('prometheus/ext4-defrag.rules.yml'));
    expect(names.length).toBeGreaterThan(3);
    for (const name of names) expect(known).toContain(name);
  });

  test('the dashboard names only metrics that there are, and every panel has a query and a place', () => {
    const text = share('grafana/ext4-defrag.json');
    for (const name of namesIn(text)) expect(known).toContain(name);
    const { panels } = JSON.parse(text) as {
      panels: { id: number; gridPos: { x: number; w: number }; targets: { expr: string }[] }[];
    };
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { gridPos, targets } of panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (const { expr } of targets) expect(expr).toContain(PREFIX);
    }
  });
});
