import { closeSync, openSync, readSync } from 'node:fs';

// The log of dm-log-writes (drivers/md/dm-log-writes.c, struct log_write_super and struct log_write_entry), which
// QEMU's block driver blklogwrites writes as well. All numbers are little endian; everything is counted in sectors of
// the size that the superblock tells:
//
//   superblock   one sector: magic u64, version u64, entries u64, sector size u32
//   entry        one sector: sector u64, sectors u64, flags u64, bytes of a mark u64
//   its data     so many sectors, unless it is a discard; a mark has one sector
const MAGIC = 0x6a736677736872n;
const VERSION = 1n;
const SUPERBLOCK = 28;
const ENTRY = 32;
const FLAG = { FLUSH: 1n, FUA: 2n, DISCARD: 4n, MARK: 8n };

/** What the device was told, in the order in which it was done. */
export interface LogEntry {
  /** Everything written before is durable. */
  readonly flush: boolean;
  /** What this entry writes is durable. */
  readonly fua: boolean;
  /** In bytes. */
  readonly offset: number;
  readonly length: number;
  /** Where its data is in the log, in bytes; none for a discard, which leaves zeros. */
  readonly data: number | undefined;
}

/**
 * Reads the entries of a log. One that was not ended properly, because QEMU was killed, goes on behind the number of
 * entries in its superblock: it ends at the first sector that is no entry.
 *
 * @throws Error when it is not such a log
 */
export class WriteLog {
  readonly #fd: number;
  readonly entries: readonly LogEntry[];

  constructor(path: string, deviceSize: number) {
    this.#fd = openSync(path, 'r');
    try {
      this.entries = [...this.#read(deviceSize)];
    } catch (error) {
      this.close();
      throw error;
    }
  }

  *#read(deviceSize: number): Generator<LogEntry, void, void> {
    const superblock = this.#bytes(0, SUPERBLOCK);
    if (superblock === undefined || superblock.readBigUInt64LE(0) !== MAGIC)
      throw new Error('this is no log of dm-log-writes');
    if (superblock.readBigUInt64LE(8) !== VERSION) throw new Error('the log has an unknown version');
    const promised = Number(superblock.readBigUInt64LE(16));
    const sector = superblock.readUInt32LE(24);
    let at = sector;
    let count = 0;
    for (let raw = this.#bytes(at, ENTRY); raw !== undefined; raw = this.#bytes(at, ENTRY)) {
      const [start, sectors, flags] = [0, 8, 16].map((offset) => raw?.readBigUInt64LE(offset) ?? 0n);
      const [offset, length] = [Number(start) * sector, Number(sectors) * sector];
      if (flags === 0n && sectors === 0n) break;
      if (flags > 31n || offset + length > deviceSize) throw new Error(`entry ${count} of the log is broken`);
      at += sector;
      const data = flags & FLAG.DISCARD ? undefined : at;
      count++;
      if (flags & FLAG.MARK) {
        at += sector;
        continue;
      }
      if (data !== undefined) at += length;
      yield {
        flush: (flags & FLAG.FLUSH) !== 0n,
        fua: (flags & FLAG.FUA) !== 0n,
        offset,
        length,
        data,
      };
    }
    if (count < promised) throw new Error(`the log has ${count} of ${promised} entries`);
  }

  #bytes(offset: number, length: number): Buffer | undefined {
    const buffer = Buffer.alloc(length);
    return readSync(this.#fd, buffer, 0, length, offset) === length ? buffer : undefined;
  }

  /** What an entry writes. */
  data(entry: LogEntry): Buffer {
    if (entry.data === undefined) return Buffer.alloc(entry.length);
    const found = this.#bytes(entry.data, entry.length);
    if (found === undefined) throw new Error('the log ends within an entry');
    return found;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/**
 * The entries that a power cut after `end` entries leaves: all before the last flush, those that went through the
 * device's cache on their own, and of the others what chance has written already.
 */
export function survivors(
  entries: readonly LogEntry[],
  end: number,
  from: number,
  survives: () => boolean,
): LogEntry[] {
  const cut = entries.slice(from, end);
  const flushed = cut.findLastIndex(({ flush }) => flush);
  return cut.filter((entry, i) => i <= flushed || entry.fua || survives());
}
