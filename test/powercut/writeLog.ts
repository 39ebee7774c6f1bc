// The log of a disk's writes, as dm-log-writes keeps it (drivers/md/dm-log-writes.c; QEMU's block/blklogwrites.c writes the
// same): a superblock of one sector (magic u64, version u64, entries u64, sector size u32), then entries of one sector
// (sector u64, sectors u64, flags u64, length u64), each followed by its data. Sectors of entries have 512 bytes.
import { openSync, readSync, closeSync, fstatSync } from 'node:fs';

const MAGIC = 0x6a73_6677_7368_72n;
const FLAG = { FLUSH: 1n, DISCARD: 4n } as const;
const SECTOR = 512;
/** A write longer than any that a guest asks for at once. */
const LONGEST = 256 * 1024 * 1024;

/** What the guest asked the disk for. */
export interface LogEntry {
  /** Everything before it is on the disk when it has been answered. */
  readonly flush: boolean;
  readonly discard: boolean;
  /** Of the disk, in bytes. A flush has no length. */
  readonly position: number;
  readonly length: number;
  /** Where in the log the data is; nothing is there for what is discarded. */
  readonly dataAt: number;
}

/** @throws Error when the file is no such log */
export function readLog(path: string): LogEntry[] {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const header = Buffer.alloc(SECTOR);
    readSync(fd, header, 0, SECTOR, 0);
    if (header.readBigUInt64LE(0) !== MAGIC || header.readBigUInt64LE(8) !== 1n)
      throw new Error(`${path} is no log of writes`);
    const count = Number(header.readBigUInt64LE(16));
    const sectorSize = header.readUInt32LE(24);
    const entries: LogEntry[] = [];
    for (let at = sectorSize; entries.length < count && at + sectorSize <= size;) {
      readSync(fd, header, 0, SECTOR, at);
      const flags = header.readBigUInt64LE(16);
      const [position, length] = [0, 8].map((offset) => Number(header.readBigUInt64LE(offset)) * sectorSize);
      const discard = (flags & FLAG.DISCARD) !== 0n;
      const stored = discard ? 0 : length;
      // The entry that was being written when QEMU was killed.
      if (stored > LONGEST || at + sectorSize + stored > size) break;
      const flush = (flags & FLAG.FLUSH) !== 0n;
      entries.push({ flush, discard, position, length, dataAt: at + sectorSize });
      at += sectorSize + stored;
    }
    return entries;
  } finally {
    closeSync(fd);
  }
}
