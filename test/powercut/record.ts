import { crc32 } from 'node:zlib';

// What test/support/records.c writes, which has the same description:
//
//   record   1024 bytes: "RECO", file u32, slot u32, sequence number u32, filling, CRC-32 of all before u32
//   mark     512 bytes: "ACKD", file u32, state u32, pairs u32, and that many times slot u32, sequence number u32
export const RECORD = 1024;
export const MARK = 512;
const RECORD_MAGIC = 0x4f434552;
const MARK_MAGIC = 0x444b4341;
const HEADER = 16;

/** A file whose records are to be found after a crash, and one that may be on its way out. */
export const STATE = { THERE: 1, GONE: 2 };

export interface Record {
  readonly file: number;
  readonly slot: number;
  readonly sequence: number;
}

/** A record that is written before anything happens. */
export function encodeRecord({ file, slot, sequence }: Record): Buffer {
  const buffer = Buffer.alloc(RECORD, file & 0xff);
  for (const [i, word] of [RECORD_MAGIC, file, slot, sequence].entries()) buffer.writeUInt32LE(word, i * 4);
  buffer.writeUInt32LE(crc32(buffer.subarray(0, RECORD - 4)), RECORD - 4);
  return buffer;
}

/** @returns undefined for what is not whole */
export function decodeRecord(buffer: Buffer): Record | undefined {
  if (buffer.length !== RECORD || buffer.readUInt32LE(0) !== RECORD_MAGIC) return undefined;
  if (crc32(buffer.subarray(0, RECORD - 4)) !== buffer.readUInt32LE(RECORD - 4)) return undefined;
  return { file: buffer.readUInt32LE(4), slot: buffer.readUInt32LE(8), sequence: buffer.readUInt32LE(12) };
}

export interface Mark {
  readonly file: number;
  readonly state: number;
  readonly acknowledged: readonly { readonly slot: number; readonly sequence: number }[];
}

export function decodeMark(buffer: Buffer): Mark | undefined {
  if (buffer.readUInt32LE(0) !== MARK_MAGIC) return undefined;
  const count = buffer.readUInt32LE(12);
  const acknowledged = Array.from({ length: count }, (_, i) => ({
    slot: buffer.readUInt32LE(HEADER + i * 8),
    sequence: buffer.readUInt32LE(HEADER + i * 8 + 4),
  }));
  return { file: buffer.readUInt32LE(4), state: buffer.readUInt32LE(8), acknowledged };
}

/** What applications have been told is durable: of each file the newest sequence number of each slot. */
export class Acknowledged {
  readonly files = new Map<number, Map<number, number>>();
  /** Acknowledgements so far. */
  count = 0;

  take({ file, state, acknowledged }: Mark): void {
    if (state === STATE.GONE) {
      this.files.delete(file);
      return;
    }
    const slots = this.files.get(file) ?? new Map<number, number>();
    this.files.set(file, slots);
    for (const { slot, sequence } of acknowledged) slots.set(slot, sequence);
    this.count += acknowledged.length;
  }
}

export type Loss = 'missing' | 'foreign' | 'lost' | 'broken';

/**
 * Compares a file's content with what was acknowledged.
 *
 * @param strict also what was not acknowledged must be the file's own, or zeros
 */
export function inspect(
  content: Buffer,
  file: number,
  slots: ReadonlyMap<number, number>,
  strict: boolean,
): { readonly loss: Loss; readonly slot: number }[] {
  const losses: { loss: Loss; slot: number }[] = [];
  const count = Math.floor(content.length / RECORD);
  for (let slot = 0; slot < count; slot++) {
    const acknowledged = slots.get(slot);
    if (acknowledged === undefined && !strict) continue;
    const raw = content.subarray(slot * RECORD, (slot + 1) * RECORD);
    const record = decodeRecord(raw);
    if (record === undefined) {
      if (acknowledged !== undefined || raw.some((byte) => byte !== 0)) losses.push({ loss: 'broken', slot });
    } else if (record.file !== file || record.slot !== slot) losses.push({ loss: 'foreign', slot });
    else if (record.sequence < (acknowledged ?? 0)) losses.push({ loss: 'lost', slot });
  }
  for (const slot of slots.keys()) if (slot >= count) losses.push({ loss: 'missing', slot });
  return losses;
}
