import fc from 'fast-check';
import { expect, test } from 'vitest';
import { History, MOST_RECORDS, type FileRecord } from '../../lib/state/history.ts';

const DAY = 24 * 3600 * 1000;
const NOW = Date.UTC(2026, 0, 1);

const file = (inode: number, generation = 7) => ({ inode, generation });
const moved = (inode: number, fragmentsBefore = 101, fragmentsAfter = 1) => ({
  ...file(inode),
  fragmentsBefore,
  fragmentsAfter,
});
const inPieces = (inode: number, fragments: number) => ({ ...file(inode), fragments });

/** A file that was moved `times` times, a day apart and the last time at {@link NOW}, and had lost all each time. */
function movedInVain(times: number): History {
  const history = new History();
  for (let ago = times - 1; ago >= 0; ago--) history.moved(moved(12), NOW - ago * DAY);
  return history;
}

test('a move was fruitless when half of what it won is lost within thirty days', () => {
  const history = new History();
  history.moved(moved(12, 101, 1), NOW);
  const after = (days: number, fragments: number) => history.judge(inPieces(12, fragments), NOW + days * DAY);
  expect(after(10, 50)).toEqual({ fruitless: 0, perDay: 4.9, leaveAlone: false });
  expect(after(10, 51)).toEqual({ fruitless: 1, perDay: 5, leaveAlone: false });
  expect(after(29.9, 51).fruitless).toBe(1);
  expect(after(30, 51).fruitless).toBe(0);
  expect(after(10, 1)).toEqual({ fruitless: 0, perDay: 0, leaveAlone: false });
});

test('a move that won nothing has lost nothing', () => {
  const history = new History();
  history.moved(moved(12, 5, 5), NOW);
  expect(history.judge(inPieces(12, 500), NOW + DAY).fruitless).toBe(0);
});

test('three fruitless moves in a row are enough, for ninety days', () => {
  const judge = (times: number, days: number, fragments = 101) =>
    movedInVain(times).judge(inPieces(12, fragments), NOW + days * DAY);
  expect(judge(2, 1)).toMatchObject({ fruitless: 2, leaveAlone: false });
  expect(judge(3, 1)).toMatchObject({ fruitless: 3, leaveAlone: true });
  expect(judge(3, 89.9)).toMatchObject({ fruitless: 3, leaveAlone: true });
  expect(judge(3, 90)).toMatchObject({ fruitless: 0, leaveAlone: false });
  expect(judge(3, 1, 20)).toMatchObject({ fruitless: 0, leaveAlone: false });
});

test('a file that stayed good once, or was forgiven, begins anew', () => {
  for (const [days, fragments] of [
    [5, 20],
    [91, 101],
  ]) {
    const history = movedInVain(3);
    history.moved(moved(12, fragments), NOW + days * DAY);
    expect(history.judge(inPieces(12, 101), NOW + (days + 1) * DAY).fruitless).toBe(1);
  }
});

test('judging changes nothing', () => {
  const history = movedInVain(2);
  const before = [...history];
  const judge = () => history.judge(inPieces(12, 101), NOW + DAY);
  expect(judge()).toEqual(judge());
  expect([...history]).toEqual(before);
});

test('an inode that is used anew is another file', () => {
  const history = movedInVain(3);
  const unknown = { fruitless: 0, perDay: undefined, leaveAlone: false };
  expect(history.judge({ ...file(12, 8), fragments: 101 }, NOW + DAY)).toEqual(unknown);
  expect(history.judge(inPieces(13, 101), NOW + DAY)).toEqual(unknown);
  history.moved({ ...moved(12), generation: 8 }, NOW + DAY);
  expect([...history]).toEqual([
    { ...file(12, 8), at: NOW + DAY, before: 101, after: 1, fruitless: 0 } satisfies FileRecord,
  ]);
});

test('where the clock was set back no time has passed, and soon after a move there is no rate', () => {
  const judge = (at: number) => movedInVain(1).judge(inPieces(12, 101), at);
  expect(judge(NOW - 400 * DAY)).toEqual({ fruitless: 1, perDay: undefined, leaveAlone: false });
  expect(judge(NOW)).toEqual({ fruitless: 1, perDay: undefined, leaveAlone: false });
  expect(judge(NOW + 1).perDay).toBeUndefined();
});

test('whatever happens at whatever time, the numbers make sense, and the records stay in order', () => {
  const event = fc.record({
    inode: fc.integer({ min: 1, max: 3 }),
    generation: fc.integer({ min: 0, max: 1 }),
    fragmentsBefore: fc.nat(1000),
    fragmentsAfter: fc.nat(1000),
    now: fc.integer({ min: 0, max: 200 }).map((days) => days * DAY),
  });
  fc.assert(
    fc.property(fc.array(event), event, (events, last) => {
      const history = new History();
      for (const each of events) history.moved(each, each.now);
      const { fruitless, perDay, leaveAlone } = history.judge(
        { ...last, fragments: last.fragmentsBefore },
        last.now,
      );
      expect(fruitless).toBeLessThanOrEqual(events.length);
      expect(perDay ?? 0).toBeGreaterThanOrEqual(0);
      expect(perDay ?? 0).toBeLessThanOrEqual(24_000);
      expect(leaveAlone).toBe(fruitless >= 3);
      const times = Array.from(history, ({ at }) => at);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
    }),
  );
});

test('a streak does not grow without end', () => {
  expect([...movedInVain(1000)][0].fruitless).toBe(255);
});

test('of too many files those moved longest ago are forgotten, and quickly', () => {
  const history = new History();
  for (let inode = 1; inode <= MOST_RECORDS; inode++) history.moved(moved(inode), NOW + inode);
  history.moved(moved(1), NOW + MOST_RECORDS + 1);
  const started = performance.now();
  for (let i = 2; i <= MOST_RECORDS; i++) history.moved(moved(MOST_RECORDS + i), NOW + MOST_RECORDS + i);
  // It takes a tenth of a second; going over all records each time, minutes.
  expect(performance.now() - started).toBeLessThan(5000);
  expect(history.size).toBe(MOST_RECORDS);
  const inodes = Array.from(history, ({ inode }) => inode);
  expect(inodes.slice(0, 2)).toEqual([1, MOST_RECORDS + 2]);
  expect(inodes.at(-1)).toBe(2 * MOST_RECORDS);
});

test('records make a history in whatever order they come', () => {
  const records = Array.from({ length: MOST_RECORDS + 10 }, (_, i): FileRecord => {
    return { ...file(i + 1), at: NOW - i, before: 9, after: 1, fruitless: 0 };
  });
  expect([...new History(records)]).toEqual(records.slice(0, MOST_RECORDS).toReversed());
});
