import type { Blocks, Bytes } from './units.ts';
import { blocks } from './units.ts';

/** FIEMAP_EXTENT_* of linux/fiemap.h that ext4 sets. */
export const EXTENT_FLAG = {
  /** The last one of the file. */
  LAST: 0x0001,
  /** Its place is not known. */
  UNKNOWN: 0x0002,
  /** Its place is not chosen yet: the data are in the page cache only. */
  DELALLOC: 0x0004,
  /** What lies there cannot be read as it is: it is encrypted. */
  ENCODED: 0x0008,
  /** It does not begin or end at a block's bounds. */
  NOT_ALIGNED: 0x0100,
  /** The data lie inside the inode. */
  INLINE: 0x0200,
  /** Allocated and not written: it reads as zeroes. */
  UNWRITTEN: 0x0800,
  /** Put together from what the filesystem does not keep as extents. */
  MERGED: 0x1000,
} as const;

/** One mapping: `length` blocks from `logical` in the file lie from `physical` on the device. */
export interface Extent {
  /** The first block in the file. */
  readonly logical: Blocks;
  /** The first block on the device. */
  readonly physical: Blocks;
  /** How many blocks. */
  readonly length: Blocks;
  /** FIEMAP_EXTENT_*. */
  readonly flags: number;
}

/**
 * A file's extents in logical order, in blocks, as columns: an object per extent would cost a file of a million
 * extents more memory than its mapping is worth.
 */
export class ExtentTable implements Iterable<Extent> {
  /** How many extents there are. */
  readonly count: number;
  /** The first block of each in the file. */
  readonly logical: Float64Array;
  /** The first block of each on the device. */
  readonly physical: Float64Array;
  /** How many blocks each has. */
  readonly length: Float64Array;
  /** FIEMAP_EXTENT_* of each: {@link EXTENT_FLAG}. */
  readonly flags: Uint32Array;

  /** All zeroes, for {@link set}. */
  constructor(count: number) {
    this.count = count;
    this.logical = new Float64Array(count);
    this.physical = new Float64Array(count);
    this.length = new Float64Array(count);
    this.flags = new Uint32Array(count);
  }

  /** From the addon's words: logical, physical and length in bytes, then flags, for each extent. */
  static decode(words: BigUint64Array, blockSize: Bytes): ExtentTable {
    // Halves of 32 bits divide exactly, and cost a tenth of a BigInt each.
    const halves = new Uint32Array(words.buffer, words.byteOffset, words.length * 2);
    return ExtentTable.decodeHalves(halves, 0, words.length / 4, blockSize);
  }

  /** The same of `count` extents from extent `first` on, the words as two halves each, the low one first. */
  static decodeHalves(halves: Uint32Array, first: number, count: number, blockSize: Bytes): ExtentTable {
    const table = new ExtentTable(count);
    const { logical, physical, length, flags } = table;
    const highBlocks = 2 ** 32 / blockSize;
    for (let i = 0, at = first * 8; i < count; i++, at += 8) {
      logical[i] = halves[at + 1] * highBlocks + Math.floor(halves[at] / blockSize);
      physical[i] = halves[at + 3] * highBlocks + Math.floor(halves[at + 2] / blockSize);
      const blocks = halves[at + 5] * highBlocks + Math.floor(halves[at + 4] / blockSize);
      // Only inline data is shorter than a block; it counts as one.
      length[i] = blocks < 1 ? 1 : blocks;
      flags[i] = halves[at + 6];
    }
    return table;
  }

  /** Of extents one by one, in their order. */
  static from(extents: Iterable<{ logical: number; physical: number; length: number; flags?: number }>) {
    const all = [...extents];
    const table = new ExtentTable(all.length);
    all.forEach((extent, i) =>
      table.set(i, extent.logical, extent.physical, extent.length, extent.flags ?? 0),
    );
    return table;
  }

  /** Sets one extent, in blocks. */
  set(i: number, logical: number, physical: number, length: number, flags: number): void {
    this.logical[i] = logical;
    this.physical[i] = physical;
    this.length[i] = length;
    this.flags[i] = flags;
  }

  /** One extent. */
  at(i: number): Extent {
    return {
      logical: blocks(this.logical[i]),
      physical: blocks(this.physical[i]),
      length: blocks(this.length[i]),
      flags: this.flags[i],
    };
  }

  /** One after the other. */
  *[Symbol.iterator](): Iterator<Extent> {
    for (let i = 0; i < this.count; i++) yield this.at(i);
  }

  /** Whether another has the same extents. */
  equals(other: ExtentTable): boolean {
    const { count, logical, physical, length, flags } = this;
    if (count !== other.count) return false;
    for (let i = 0; i < count; i++) {
      if (
        logical[i] !== other.logical[i] ||
        physical[i] !== other.physical[i] ||
        length[i] !== other.length[i] ||
        flags[i] !== other.flags[i]
      )
        return false;
    }
    return true;
  }

  /** The logical block after the last mapped one. */
  get end(): Blocks {
    return blocks(this.count === 0 ? 0 : this.logical[this.count - 1] + this.length[this.count - 1]);
  }

  /** Blocks mapped, holes not counted. */
  get blocks(): Blocks {
    let sum = 0;
    for (let i = 0; i < this.count; i++) sum += this.length[i];
    return blocks(sum);
  }
}

const PLACELESS = EXTENT_FLAG.DELALLOC | EXTENT_FLAG.INLINE;

/**
 * Extents that lie end to end made one, and those without a place on the device (delayed allocation, inline
 * data) left out. What FIEMAP reports depends on the kernel's extent-status cache, so nothing is counted
 * before this. A written and an unwritten extent stay two. A table that is merged already is answered itself.
 */
export function mergeExtents(extents: ExtentTable): ExtentTable {
  const { count, logical, physical, length, flags } = extents;
  // Most are merged already.
  let first = 0;
  while (first < count && !(flags[first] & PLACELESS) && !(first > 0 && joins(extents, first))) first++;
  if (first === count) return extents;
  const merged = new ExtentTable(count);
  let end = 0;
  for (let i = 0; i < count; i++) {
    if (flags[i] & PLACELESS) continue;
    end = appendMerged(merged, end, logical[i], physical[i], length[i], flags[i]);
  }
  return shorten(merged, end);
}

/**
 * Sets extent `count` of a merged table that is being made, or makes the one before it longer where both lie end to end.
 *
 * @returns how many there are now
 */
export function appendMerged(
  table: ExtentTable,
  count: number,
  logical: number,
  physical: number,
  length: number,
  flags: number,
): number {
  table.set(count, logical, physical, length, flags);
  if (count === 0 || !joins(table, count)) return count + 1;
  table.length[count - 1] += length;
  table.flags[count - 1] |= flags;
  return count;
}

/** Whether extent `i` begins where the one before it ends. */
function joins({ logical, physical, length, flags }: ExtentTable, i: number): boolean {
  return (
    logical[i - 1] + length[i - 1] === logical[i] &&
    physical[i - 1] + length[i - 1] === physical[i] &&
    ((flags[i - 1] ^ flags[i]) & EXTENT_FLAG.UNWRITTEN) === 0
  );
}

/** The first `count` extents of a table. */
export function shorten(table: ExtentTable, count: number): ExtentTable {
  if (count === table.count) return table;
  const short = new ExtentTable(count);
  for (const column of ['logical', 'physical', 'length', 'flags'] as const) {
    short[column].set(table[column].subarray(0, count));
  }
  return short;
}
