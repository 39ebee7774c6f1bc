import { MOST_FRUITLESS, MOST_RECORDS, type FileRecord } from './history.ts';

/** What is kept of one filesystem, as it is written: flat lists of numbers, which take the least room and time. */
export interface Remembered {
  /** A cycle that has not come to its end: when it began, and inode and generation of each file dealt with. */
  readonly cycle?: { readonly started: number; readonly done: readonly number[] };
  /** The fields of each {@link FileRecord}. */
  readonly files: readonly number[];
}

const FORMAT = 1;
/** What is larger is not read. One filesystem takes less than half of it. */
export const MOST_BYTES = 64 * 1024 * 1024;
export const MOST_DONE = 500_000;
const MOST_FILESYSTEMS = 64;
/** Brackets and quotes of all of them, generously. */
const MOST_MARKS = 16 * (MOST_FILESYSTEMS + 1);

type Range = readonly [least: number, most: number];

const INODE: Range = [1, 2 ** 32 - 1];
const WORD: Range = [0, 2 ** 32 - 1];
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** The end of what Date knows, in milliseconds since 1970. */
const TIME: Range = [0, 8.64e15];
const DONE = [INODE, WORD];
const FILE = [INODE, WORD, TIME, WORD, WORD, [0, MOST_FRUITLESS] as const];

/**
 * The text of a state file.
 *
 * @param filesystems by UUID. The first are left out where all would be more than is ever read.
 */
export function encode(filesystems: ReadonlyMap<string, Remembered>): string {
  const parts = Array.from(filesystems, ([uuid, of]) => `${JSON.stringify(uuid)}:${JSON.stringify(of)}`);
  const head = `{"format":${FORMAT},"filesystems":{`;
  let length = parts.reduce((sum, part) => sum + part.length + 1, head.length + 3);
  while (length > MOST_BYTES || parts.length > MOST_FILESYSTEMS) length -= parts.shift()!.length + 1;
  return `${head}${parts.join()}}}\n`;
}

/** @returns what a state file says by UUID, or undefined when anything in it is not as {@link encode} writes it */
export function decode(content: Buffer): Map<string, Remembered> | undefined {
  if (tooIntricate(content)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(content.toString());
  } catch {
    return undefined;
  }
  if (!isObject(value) || value.format !== FORMAT || !isObject(value.filesystems)) return undefined;
  const filesystems = Object.entries(value.filesystems);
  return filesystems.every(isEntry) ? new Map(filesystems) : undefined;
}

/** JSON.parse takes a minute and gigabytes for 64 MiB of nothing but brackets. */
function tooIntricate(content: Buffer): boolean {
  let marks = 0;
  // By index: an iterator takes ten times as long.
  for (let at = 0; at < content.length && marks <= MOST_MARKS; at++) {
    const byte = content[at];
    if (byte === 0x22 || byte === 0x5b || byte === 0x7b) marks++;
  }
  return marks > MOST_MARKS;
}

const isEntry = (entry: [string, unknown]): entry is [string, Remembered] =>
  UUID.test(entry[0]) && isRemembered(entry[1]);

function isRemembered(value: unknown): value is Remembered {
  if (!isObject(value) || !isTable(value.files, FILE, MOST_RECORDS)) return false;
  const { cycle } = value;
  if (cycle === undefined) return true;
  return isObject(cycle) && isTable([cycle.started], [TIME], 1) && isTable(cycle.done, DONE, MOST_DONE);
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether something is a flat list of at most `rows` rows of integers in these ranges. */
function isTable(value: unknown, columns: readonly Range[], rows: number): value is readonly number[] {
  const width = columns.length;
  if (!Array.isArray(value) || value.length % width !== 0 || value.length > rows * width) return false;
  const cells: readonly unknown[] = value;
  return columns.every(([least, most], column) => {
    for (let at = column; at < cells.length; at += width) {
      const cell = cells[at];
      if (!(typeof cell === 'number' && Number.isInteger(cell) && cell >= least && cell <= most))
        return false;
    }
    return true;
  });
}

export function packFiles(records: Iterable<FileRecord>): number[] {
  const cells: number[] = [];
  for (const { inode, generation, at, before, after, fruitless } of records) {
    cells.push(inode, generation, at, before, after, fruitless);
  }
  return cells;
}

/** @param now milliseconds since 1970: nothing happened later, whatever the clock said then */
export function unpackFiles(cells: readonly number[], now: number): FileRecord[] {
  return Array.from({ length: cells.length / FILE.length }, (_, row) => {
    const first = row * FILE.length;
    return {
      inode: cells[first],
      generation: cells[first + 1],
      at: Math.min(cells[first + 2], now),
      before: cells[first + 3],
      after: cells[first + 4],
      fruitless: cells[first + 5],
    };
  });
}

/** @param done the generation of each inode */
export function packDone(done: ReadonlyMap<number, number>): number[] {
  const cells: number[] = [];
  for (const [inode, generation] of done) cells.push(inode, generation);
  return cells;
}

export function unpackDone(cells: readonly number[]): Map<number, number> {
  const done = new Map<number, number>();
  for (let at = 0; at < cells.length; at += DONE.length) done.set(cells[at], cells[at + 1]);
  return done;
}
