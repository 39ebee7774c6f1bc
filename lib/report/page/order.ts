import { hilbertIndex, hilbertPlace } from '../picture/hilbert.ts';

export type Order = 'hilbert' | 'linear';

export interface Place {
  readonly x: number;
  readonly y: number;
}

/** Consecutive cells. */
export interface CellRange {
  readonly from: number;
  readonly to: number;
}

const hilbertTables = new Map<number, Uint32Array>();

/** The place on the curve of each square of a grid, row by row: looked up a million times for each drawing. */
function hilbertTable(side: number): Uint32Array {
  let table = hilbertTables.get(side);
  if (table === undefined) {
    table = new Uint32Array(side * side);
    for (let i = 0; i < table.length; i++) table[hilbertSpot(side, i)] = i;
    hilbertTables.set(side, table);
  }
  return table;
}

function hilbertSpot(side: number, index: number): number {
  const { x, y } = hilbertPlace(side, index);
  return y * side + x;
}

/**
 * Calls `visit` for the stretches of cells in a square of the map.
 *
 * @param side cells along the map's side
 * @param scale cells along the square's side, a power of two; the square's place is counted in squares
 */
export function eachRange(
  order: Order,
  side: number,
  scale: number,
  { x, y }: Place,
  visit: (from: number, to: number) => void,
): void {
  if (order === 'hilbert') {
    const squares = side / scale;
    const index = hilbertTable(squares)[y * squares + x];
    visit(index * scale * scale, (index + 1) * scale * scale);
    return;
  }
  for (let row = y * scale; row < (y + 1) * scale; row++) {
    visit(row * side + x * scale, row * side + (x + 1) * scale);
  }
}

/** The stretches of {@link eachRange}, in the order of the device. */
export function rangesOf(order: Order, side: number, scale: number, place: Place): CellRange[] {
  const ranges: CellRange[] = [];
  eachRange(order, side, scale, place, (from, to) => ranges.push({ from, to }));
  return ranges;
}

/** Where a cell is on the map, in cells. */
export const placeOf = (order: Order, side: number, cell: number): Place =>
  order === 'hilbert' ? hilbertPlace(side, cell) : { x: cell % side, y: Math.floor(cell / side) };

/** Which cell is at a place. */
export const cellAt = (order: Order, side: number, { x, y }: Place): number =>
  order === 'hilbert' ? hilbertIndex(side, x, y) : y * side + x;
