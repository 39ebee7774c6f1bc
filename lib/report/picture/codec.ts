import { ByteReader, ByteWriter, Malformed } from './bytes.ts';
import { KINDS, noCounts, type BlockRange, type CellCounts, type CellGrid } from './cells.ts';

/** Set in the first byte of a cell that has more than one kind; the kinds are the bits below. */
const MIXED = 0x80;

/**
 * Cells as text: for a stretch of cells that have one kind each, the kind and how many they are; for a cell of several,
 * which, and how many blocks of each but the last, which has the rest.
 */
export function encodeCells(grid: CellGrid, counts: CellCounts): string {
  const writer = new ByteWriter();
  const columns = KINDS.map((kind) => counts[kind]);
  const kindsOf = (cell: number) =>
    columns.reduce((bits, column, i) => bits | (column[cell] > 0 ? 1 << i : 0), 0);
  for (let cell = 0; cell < grid.count;) {
    const kinds = kindsOf(cell);
    if (isPowerOfTwo(kinds)) {
      const from = cell;
      while (cell < grid.count && kindsOf(cell) === kinds) cell++;
      writer.byte(Math.log2(kinds));
      writer.number(cell - from);
      continue;
    }
    const present = columns.filter((column) => column[cell] > 0);
    writer.byte(MIXED | kinds);
    for (const column of present.slice(0, -1)) writer.number(column[cell]);
    cell++;
  }
  return writer.toBase64();
}

const isPowerOfTwo = (bits: number): boolean => (bits & (bits - 1)) === 0;

/** @throws Malformed */
export function decodeCells(grid: CellGrid, text: string): CellCounts {
  const reader = new ByteReader(text);
  const counts = noCounts(grid.count);
  const columns = KINDS.map((kind) => counts[kind]);
  for (let cell = 0; cell < grid.count;) {
    const head = reader.byte();
    if (head & MIXED) {
      readMixed(head, grid.size(cell), columns, cell++, reader);
      continue;
    }
    const end = cell + reader.number();
    if (head >= KINDS.length || end === cell || end > grid.count)
      throw new Malformed('its cells do not add up');
    for (; cell < end; cell++) columns[head][cell] = grid.size(cell);
  }
  if (!reader.atEnd) throw new Malformed('it has more than its cells');
  return counts;
}

/** Of a million cells most may be mixed: nothing is made for each. */
function readMixed(
  head: number,
  size: number,
  columns: readonly Float64Array[],
  cell: number,
  reader: ByteReader,
): void {
  const kinds = head & ~MIXED;
  let left = size;
  let last = 0;
  for (let kind = 0; kinds >> kind > 0; kind++) {
    if ((kinds & (1 << kind)) === 0) continue;
    last = kind;
    if (kinds >> (kind + 1) === 0) break;
    const blocks = reader.number();
    columns[kind][cell] = blocks;
    left -= blocks;
  }
  if (isPowerOfTwo(kinds) || kinds >= 2 ** KINDS.length || left <= 0) {
    throw new Malformed('a cell does not hold together');
  }
  columns[last][cell] = left;
}

/** Stretches of blocks as text, in whatever order they come. */
export function encodeRanges(ranges: Iterable<BlockRange>): string {
  const writer = new ByteWriter();
  let last = 0;
  for (const { start, end } of ranges) {
    writer.signed(start - last);
    writer.number(end - start);
    last = end;
  }
  return writer.toBase64();
}

/**
 * @param blocks of the device, behind which nothing may lie
 * @throws Malformed
 */
export function decodeRanges(text: string, blocks: number): BlockRange[] {
  const reader = new ByteReader(text);
  const ranges: BlockRange[] = [];
  let last = 0;
  while (!reader.atEnd) {
    const start = last + reader.signed();
    const end = start + reader.number();
    if (start < 0 || end <= start || end > blocks) throw new Malformed('an extent lies outside the device');
    ranges.push({ start, end });
    last = end;
  }
  return ranges;
}
