/** A file of one filesystem. An inode that is used anew has another generation. */
export interface FileId {
  readonly inode: number;
  readonly generation: number;
}

/** What a move did to a file. */
export interface Outcome extends FileId {
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
}

/** A file's last move. */
export interface FileRecord extends FileId {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Fragments. */
  readonly before: number;
  readonly after: number;
  /** How many moves in a row, up to the one before this, did not last. */
  readonly fruitless: number;
}

/** What a file's last moves say about another one. */
export interface Judgement {
  /** How many moves in a row, the last among them, did not last. */
  readonly fruitless: number;
  /** Fragments regained in a day, where that is known. */
  readonly perDay: number | undefined;
  /** Another move would not last either. */
  readonly leaveAlone: boolean;
}

const HOUR = 3600 * 1000;
const DAY = 24 * HOUR;
/** A file that regains half of its fragments in less was moved for nothing. */
const SOON = 30 * DAY;
/** A file that is left alone is tried again after this time. */
const FORGIVEN = 90 * DAY;
/** So many fruitless moves in a row are enough. */
const ENOUGH = 3;

export const MOST_RECORDS = 100_000;
/** More are not counted. */
export const MOST_FRUITLESS = 255;

const UNKNOWN: Judgement = { fruitless: 0, perDay: undefined, leaveAlone: false };

/** The last move of each file, of {@link MOST_RECORDS} files at most: those moved longest ago are forgotten. */
export class History implements Iterable<FileRecord> {
  /** By inode, in the order of `at`. */
  readonly #records = new Map<number, FileRecord>();
  // One iterator for good: a new one would have to step over all that has been deleted at the front.
  readonly #oldest = this.#records.keys();
  #newest = 0;

  constructor(records: Iterable<FileRecord> = []) {
    for (const record of Array.from(records).sort((a, b) => a.at - b.at)) this.#set(record);
  }

  get size(): number {
    return this.#records.size;
  }

  /** The one moved longest ago first. */
  [Symbol.iterator](): Iterator<FileRecord> {
    return this.#records.values();
  }

  /** The last move of a file, where it is known. */
  find({ inode, generation }: FileId): FileRecord | undefined {
    const record = this.#records.get(inode);
    return record?.generation === generation ? record : undefined;
  }

  /** @param now milliseconds since 1970 */
  judge({ fragments, ...file }: FileId & { readonly fragments: number }, now: number): Judgement {
    const record = this.find(file);
    if (record === undefined) return UNKNOWN;
    const { at, before, after } = record;
    // Negative where the clock was set back since: no time has passed then.
    const age = now - at;
    const regained = Math.max(0, fragments - after);
    // A file that is left alone is not moved, and so nothing tells how soon it came apart: its past has to do.
    const patience = record.fruitless + 1 < ENOUGH ? SOON : FORGIVEN;
    const lost = before > after && regained >= (before - after) / 2 && age < patience;
    const fruitless = lost ? Math.min(record.fruitless + 1, MOST_FRUITLESS) : 0;
    return {
      fruitless,
      // What happens within an hour says nothing about a day.
      perDay: age >= HOUR ? (regained * DAY) / age : undefined,
      leaveAlone: fruitless >= ENOUGH,
    };
  }

  /** @param now milliseconds since 1970 */
  moved({ inode, generation, fragmentsBefore, fragmentsAfter }: Outcome, now: number): void {
    const { fruitless } = this.judge({ inode, generation, fragments: fragmentsBefore }, now);
    // Never before the move that came before it, whatever the clock says: the records stay in order.
    const at = Math.max(this.#newest, Math.round(now));
    this.#set({ inode, generation, at, before: fragmentsBefore, after: fragmentsAfter, fruitless });
  }

  #set(record: FileRecord): void {
    this.#records.delete(record.inode);
    this.#records.set(record.inode, record);
    this.#newest = record.at;
    if (this.#records.size <= MOST_RECORDS) return;
    const oldest = this.#oldest.next();
    if (!oldest.done) this.#records.delete(oldest.value);
  }
}
