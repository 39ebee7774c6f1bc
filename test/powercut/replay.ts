import { mkdtempSync, rmSync, readFileSync } from 'node:fs';
import { examine, type Finding } from './examine.ts';
import { Acknowledged, decodeMark, MARK, STATE } from './record.ts';
import { BASE_FILES, DEVICE, MARKS, NOTE, numberOf, SLOTS, type Scenario } from './scenario.ts';
import { survivors, WriteLog, type LogEntry } from './writeLog.ts';

/** What was found out about a scenario. */
export interface Result {
  /** Power cuts right after a flush, and those at any instant, of whose unflushed writes chance keeps some. */
  readonly atFlushes: number;
  readonly atInstants: number;
  /** The records that had been acknowledged at the last cut, and how many of them were written while it ran. */
  readonly acknowledged: number;
  /** How many cuts something was wrong after, and what. */
  readonly bad: number;
  readonly findings: readonly Finding[];
}

/** A number in [0, 1) from a seed, mulberry32. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** So many of a list, from each of as many equal stretches of it one. */
export function sample(list: readonly number[], count: number, chance: () => number): number[] {
  if (list.length <= count) return [...list];
  return Array.from(
    { length: count },
    (_, i) => list[Math.floor(((i + chance()) * list.length) / count)] ?? 0,
  );
}

/** From where to where in a log the mover worked. One that was cut short ends where the log ends. */
function working(entries: readonly LogEntry[]): { begin: number; end: number } {
  const notes = entries.flatMap(({ offset }, i) => (offset === NOTE ? [i] : []));
  if (notes.length === 0) return { begin: 0, end: 0 };
  return { begin: notes[0], end: notes.length > 1 ? notes[notes.length - 1] : entries.length };
}

/** Replays a log on to the image that it began with, cuts the power at some of its points, and looks at what is left. */
export async function replay(
  image: string,
  logPath: string,
  scenario: Scenario,
  { points, seed }: { readonly points: number; readonly seed: number },
): Promise<Result> {
  const chance = random(seed);
  const log = new WriteLog(logPath, DEVICE);
  const folder = mkdtempSync('/dev/shm/ext4-defrag-powercut-');
  try {
    const { entries } = log;
    const { begin, end } = working(entries);
    if (end === 0) throw new Error(`${logPath}: the mover never began`);
    const between = Array.from({ length: end - begin }, (_, i) => begin + i + 1);
    const flushes = new Set(
      sample(
        between.filter((cut) => entries[cut - 1].flush),
        Math.ceil(points / 2),
        chance,
      ),
    );
    const instants = new Set(sample(between, Math.floor(points / 2), chance));
    const device = readFileSync(image);
    const acknowledged = new Acknowledged();
    for (const name of BASE_FILES) {
      const slots = Array.from({ length: SLOTS }, (_, slot) => ({ slot, sequence: 0 }));
      acknowledged.take({ file: numberOf(name), state: STATE.THERE, acknowledged: slots });
    }
    const initially = acknowledged.count;
    const findings: Finding[] = [];
    let bad = 0;
    let flushed = 0;
    const look = async (left: Buffer) => {
      const found = await examine(left, acknowledged, scenario, folder);
      findings.push(...found);
      if (found.length > 0) bad++;
    };
    const applyTo = (left: Buffer, entry: LogEntry) => log.data(entry).copy(left, entry.offset);
    for (let cut = 1; cut <= end; cut++) {
      const entry = entries[cut - 1];
      note(log, entry, acknowledged);
      if (entry.flush) {
        for (const durable of entries.slice(flushed, cut)) applyTo(device, durable);
        flushed = cut;
      }
      if (flushes.has(cut)) await look(device);
      if (!instants.has(cut)) continue;
      const left = Buffer.from(device);
      for (const lucky of survivors(entries, cut, flushed, () => chance() < 0.5)) applyTo(left, lucky);
      await look(left);
    }
    return {
      atFlushes: flushes.size,
      atInstants: instants.size,
      acknowledged: acknowledged.count - initially,
      bad,
      findings,
    };
  } finally {
    log.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Takes note of the marks in what is written. */
function note(log: WriteLog, entry: LogEntry, acknowledged: Acknowledged): void {
  const from = entry.offset - MARKS.offset;
  if (from < 0 || from >= MARKS.length) return;
  const data = log.data(entry);
  for (let at = 0; at < data.length; at += MARK) {
    const mark = decodeMark(data.subarray(at, at + MARK));
    if (mark !== undefined) acknowledged.take(mark);
  }
}
