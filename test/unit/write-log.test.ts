import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readLog } from '../powercut/writeLog.ts';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'ext4-defrag-log-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const SECTOR = 512;

/** A log as drivers/md/dm-log-writes.c lays it out. */
function logFile(
  entries: readonly { sector: number; sectors: number; flags?: number }[],
  changes: (log: Buffer) => Buffer = (log) => log,
): string {
  const header = Buffer.alloc(SECTOR);
  header.writeBigUInt64LE(0x6a736677736872n, 0);
  header.writeBigUInt64LE(1n, 8);
  header.writeBigUInt64LE(BigInt(entries.length), 16);
  header.writeUInt32LE(SECTOR, 24);
  const parts = entries.flatMap(({ sector, sectors, flags = 0 }) => {
    const entry = Buffer.alloc(SECTOR);
    entry.writeBigUInt64LE(BigInt(sector), 0);
    entry.writeBigUInt64LE(BigInt(sectors), 8);
    entry.writeBigUInt64LE(BigInt(flags), 16);
    return [entry, Buffer.alloc(flags & 4 ? 0 : sectors * SECTOR)];
  });
  const path = join(folder, 'log');
  writeFileSync(path, changes(Buffer.concat([header, ...parts])));
  return path;
}

const ENTRIES = [
  { sector: 8, sectors: 8 },
  { sector: 0, sectors: 0, flags: 1 },
  { sector: 100, sectors: 50, flags: 4 },
  { sector: 16, sectors: 1, flags: 2 },
];

describe('a log of writes', () => {
  test('is read in order: writes, flushes, and what is discarded, of which there is no data', () => {
    expect(readLog(logFile(ENTRIES))).toEqual([
      { flush: false, discard: false, position: 4096, length: 4096, dataAt: 2 * SECTOR },
      { flush: true, discard: false, position: 0, length: 0, dataAt: 11 * SECTOR },
      { flush: false, discard: true, position: 51_200, length: 25_600, dataAt: 12 * SECTOR },
      { flush: false, discard: false, position: 8192, length: 512, dataAt: 13 * SECTOR },
    ]);
  });

  test('ends with what is in it whole', () => {
    expect(readLog(logFile(ENTRIES, (log) => log.subarray(0, -1)))).toHaveLength(3);
  });

  test('is refused when it is none', () => {
    expect(() => readLog(logFile(ENTRIES, (log) => log.fill(0, 0, 8)))).toThrow(/no log of writes/);
  });
});
