import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { Console } from '../../lib/cli/console.ts';
import { Output } from '../../lib/cli/output.ts';
import type { Event, PauseEvent, ProgressEvent, TargetEvent } from '../../lib/report/events.ts';
import { displayWidth } from '../../lib/report/names.ts';
import { ProgressLine } from '../../lib/report/progress.ts';
import { Status } from '../../lib/report/status.ts';
import { scanningEvent, targetEvent } from '../support/events.ts';

const MiB = 2 ** 20;

const target = (changes: Partial<TargetEvent> = {}) =>
  targetEvent({ kind: 'device', method: 'inode-table', ...changes });

const scanned = scanningEvent({ inodes: 1_000_000 });

const progress = (changes: Partial<ProgressEvent> = {}): ProgressEvent => ({
  type: 'progress',
  path: '/srv/some/directory/a',
  files: 400_000,
  bytesMoved: MiB,
  bytesPlanned: 1024 * MiB,
  bytesEvacuated: 0,
  bytesWritten: 0,
  seconds: 2,
  ...changes,
});

/** After so many seconds of moving 100 MiB/s and writing 110 of 3 GiB. */
const after = (seconds: number, changes: Partial<ProgressEvent> = {}) =>
  progress({
    bytesMoved: 100 * MiB * seconds,
    bytesWritten: 110 * MiB * seconds,
    bytesPlanned: 3072 * MiB,
    seconds,
    ...changes,
  });

const pause = (paused: boolean, seconds = 2): PauseEvent => ({
  type: 'pause',
  paused,
  percent: paused ? 62 : 8,
  seconds,
});

function status(events: Event[], columns?: number): string {
  const seen = new Status();
  for (const event of events) seen.see(event);
  return seen.text(columns);
}

describe('the status of a scan', () => {
  const from = scanningEvent({ inodes: 20_000, seconds: 0 });

  test('says how much of the inodes, how many files, and the time left', () => {
    expect(status([target()])).toBe('0 files  /srv');
    expect(status([target(), from])).toBe(
      '  2 %  20,000 of 1,000,000 inodes  1234 of 400,000 files fragmented',
    );
    expect(status([target(), from, scanningEvent()])).toBe(
      ' 42 %  420,000 of 1,000,000 inodes  1234 of 400,000 files fragmented  3 s left',
    );
  });

  test('leaves out what matters least where there is little room', () => {
    const events = [target(), from, scanningEvent()];
    expect(status(events, 59)).toBe(' 42 %  1234 of 400,000 files fragmented  3 s left');
    expect(status(events, 45)).toBe(' 42 %  1234 of 400,000 files fragmented');
    expect(status(events, 19)).toBe(' 42 %');
    expect(status(events, 3)).toBe(' 42');
  });

  test('names met during the scan do not take its place; the end has no time left', () => {
    const failed: Event = { type: 'failed', path: '/srv/a', code: 'EIO', message: 'EIO: i/o error, read' };
    expect(status([target(), scanned, failed])).toBe(
      '100 %  1,000,000 of 1,000,000 inodes  1234 of 400,000 files fragmented',
    );
  });

  test('moving files says more, until the next target', () => {
    const events: Event[] = [target(), from, progress(), scanningEvent(), progress()];
    for (const end of [3, 4, 5]) {
      expect(status(events.slice(0, end))).toBe('< 0 %  1.0 MiB of 1.0 GiB  /srv/some/directory/a');
    }
    expect(status([...events, target(), scanningEvent()])).toMatch(/^ 42 % .* inodes/);
  });
});

describe('the status of moving', () => {
  const moving = [target(), scanned, after(1), after(2)];

  test('the share done, of how much, both rates, the time left, and the file', () => {
    expect(status(moving)).toBe(
      '  6 %  200.0 MiB of 3.0 GiB  100.0 MiB/s moved  110.0 MiB/s written  29 s left  /srv/some/directory/a',
    );
  });

  test('until all is found less is done, and more is left, than is known', () => {
    expect(status([target(), scanningEvent(), after(1), after(2)])).toMatch(/^< 6 % .* {2}> 29 s left {2}/);
  });

  test('a walk finds as it moves: no share, but how many files', () => {
    const walked = target({ kind: 'directory', method: 'walk' });
    expect(status([walked, after(1), after(2)])).toMatch(
      /^400,000 files {2}200\.0 MiB of 3\.0 GiB found .* {2}> 29 s left {2}/,
    );
    expect(status([target({ kind: 'file', method: 'walk' }), after(1), after(2)])).toMatch(/^ {2}6 % /);
  });

  test('both rates are those of the last seconds', () => {
    const slow = after(10, { bytesMoved: 10 * MiB, bytesWritten: 10 * MiB });
    const faster = [11, 12, 13, 14, 15, 16].map((seconds) =>
      after(seconds, { bytesMoved: seconds * 50 * MiB, bytesWritten: seconds * 60 * MiB }),
    );
    expect(status([target(), scanned, after(0, { bytesPlanned: 3072 * MiB }), slow, ...faster])).toContain(
      '50.0 MiB/s moved  60.0 MiB/s written',
    );
  });

  test('what the kernel does not tell is not made up', () => {
    const untold = [1, 2].map((seconds) => after(seconds, { bytesWritten: 0 }));
    expect(status([target(), scanned, ...untold])).toMatch(/ moved {2}29 s left/);
    expect(status([target(), scanned, after(1)])).not.toMatch(/moved|left/);
  });

  test('the share never goes beyond all of it', () => {
    const beyond = progress({ bytesMoved: 12 * MiB, bytesPlanned: 10 * MiB });
    expect(status([target(), scanned, beyond])).toMatch(/^100 % /);
    expect(status([target(), scanned, progress({ bytesMoved: 0, bytesPlanned: 0 })])).toMatch(/^ {2}0 % /);
  });

  test('where there is little room the written rate goes first, then the name, and so on', () => {
    expect([120, 86, 85, 75, 60, 50, 35, 20, 5].map((columns) => status(moving, columns))).toEqual([
      '  6 %  200.0 MiB of 3.0 GiB  100.0 MiB/s moved  110.0 MiB/s written  29 s left  /srv/some/directory/a',
      '  6 %  200.0 MiB of 3.0 GiB  100.0 MiB/s moved  29 s left  /srv/some/directory/a',
      '  6 %  200.0 MiB of 3.0 GiB  100.0 MiB/s moved  29 s left  /srv/some/directory/a',
      '  6 %  200.0 MiB of 3.0 GiB  100.0 MiB/s moved  29 s left  ...e/directory/a',
      '  6 %  200.0 MiB of 3.0 GiB  100.0 MiB/s moved  29 s left',
      '  6 %  200.0 MiB of 3.0 GiB  29 s left',
      '  6 %  29 s left',
      '  6 %  29 s left',
      '  6 %',
    ]);
  });

  test.each([
    moving,
    [...moving, pause(true)],
    [target(), scanningEvent({ seconds: 0 }), scanningEvent({ seconds: 2 })],
  ])('it is never wider than there is room, whatever the file is called', (...events) => {
    const wide = after(3, { path: `/srv/${'日本'.repeat(40)}\n` });
    for (let columns = 0; columns <= 160; columns++) {
      for (const seen of [events, [...events, wide]]) {
        const text = status(seen, columns);
        expect(displayWidth(text)).toBeLessThanOrEqual(columns);
        expect(text).not.toMatch(/\n/);
      }
    }
  });
});

describe('the status of a pause', () => {
  const paused = [target(), scanned, after(1), after(2), pause(true)];

  test('says so, and how much others wait, instead of rates', () => {
    expect(status(paused)).toBe(
      '  6 %  200.0 MiB of 3.0 GiB  paused: others wait for I/O 62 % of the time  /srv/some/directory/a',
    );
    expect(status(paused, 30)).toBe('paused: others wait for I/O 62');
    expect(status(paused, 55)).toBe('  6 %  paused: others wait for I/O 62 % of the time');
  });

  test('also before anything was moved, and while the scan goes on', () => {
    expect(status([target(), scanningEvent(), pause(true)])).toBe(
      '400,000 files  paused: others wait for I/O 62 % of the time  /srv',
    );
    expect(status([target(), scanningEvent(), pause(true), pause(false)])).toMatch(/^ 42 % .* inodes/);
  });

  test('is no part of the rates', () => {
    const goingOn = [...paused, pause(false, 60)];
    expect(status(goingOn)).toBe('  6 %  200.0 MiB of 3.0 GiB  /srv/some/directory/a');
    const later = [61, 62].map((seconds) =>
      after(seconds, { bytesMoved: (seconds - 58) * 100 * MiB, bytesWritten: (seconds - 58) * 110 * MiB }),
    );
    expect(status([...goingOn, ...later])).toContain('100.0 MiB/s moved  110.0 MiB/s written');
  });
});

describe('the progress line', () => {
  function line(columns: () => number, text: (columns: number) => string = (room) => 'x'.repeat(room)) {
    const written: string[] = [];
    const clock = { now: 0 };
    const write = (part: string) => void written.push(part);
    const drawn = new ProgressLine({ text, write, columns, now: () => clock.now });
    return { drawn, written, clock };
  }

  test('changes at most ten times a second, unless it must', () => {
    const { drawn, written, clock } = line(() => 60);
    for (let i = 0; i < 50; i++, clock.now += 30) drawn.show();
    expect(written.length).toBeGreaterThan(5);
    expect(written.length).toBeLessThanOrEqual(17);
    const before = written.length;
    drawn.show(true);
    drawn.show(true);
    expect(written.length).toBe(before + 2);
  });

  test('is one line, a column narrower than the terminal, and covers what was there', () => {
    const texts = ['a long text', 'short', 'longer text'];
    const { drawn, written, clock } = line(
      () => 60,
      (room) => {
        expect(room).toBe(59);
        return texts.shift()!;
      },
    );
    for (let i = 0; i < 3; i++, clock.now += 200) drawn.show();
    drawn.erase();
    expect(written).toEqual(['\ra long text', '\rshort      ', '\rlonger text', `\r${' '.repeat(11)}\r`]);
    drawn.erase();
    expect(written).toHaveLength(4);
  });

  test('covers no more than there is when the terminal has become narrower', () => {
    let columns = 60;
    const { drawn, written } = line(() => columns);
    drawn.show(true);
    columns = 20;
    drawn.show(true);
    columns = 10;
    drawn.erase();
    expect(written.map((text) => text.replaceAll('\r', '').length)).toEqual([59, 19, 9]);
  });
});

describe('the console', () => {
  function consoleOn(terminal: boolean, columns = 80) {
    const stream = Object.assign(new PassThrough(), { isTTY: terminal, columns });
    const console = new Console(new Output(new PassThrough()), new Output(stream));
    return { console, written: () => (stream.read() as Buffer | null)?.toString() ?? '' };
  }

  test('without a terminal nothing is drawn; asked, it says where the run is, in a line', async () => {
    const { console, written } = consoleOn(false);
    for (const event of [target(), scanned, after(1), after(2)]) console.see(event);
    expect(written()).toBe('');
    await console.tellStatus();
    expect(written()).toMatch(/^ext4-defrag: {3}6 % {2}.* written .*\/srv\/some\/directory\/a\n$/);
  });

  test('on a terminal the line comes back below', async () => {
    const { console, written } = consoleOn(true);
    for (const event of [target(), scanned]) console.see(event);
    const drawn = written();
    expect(drawn).toMatch(/^\r0 files {2}\/srv\r100 %/);
    await console.tellStatus();
    expect(written()).toMatch(/^\r +\rext4-defrag: 100 % .*\n\r100 % [^\n]*$/);
  });

  test('the last step of a scan and a pause are shown, however fast they come', () => {
    const { console, written } = consoleOn(true);
    const steps = [
      scanningEvent(),
      scanningEvent({ inodes: 600_000 }),
      scanned,
      scanningEvent(),
      pause(true),
      after(3),
    ];
    for (const event of [target(), ...steps]) console.see(event);
    expect(
      written()
        .split('\r')
        .slice(1)
        .map((text) => text.slice(0, 5)),
    ).toEqual(['0 fil', '100 %', '400,0']);
  });

  test('a terminal that does not know its width has 80 columns', () => {
    const { console, written } = consoleOn(true, 0);
    console.see(target());
    expect(written()).toBe('\r0 files  /srv');
  });
});
