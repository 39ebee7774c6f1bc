/** Every {@link Kind}. */
export const KINDS = ['free', 'contiguous', 'fragmented', 'metadata', 'other'] as const;
/**
 * What blocks are used for: nobody's; of files in as few pieces as can be; of files in more; of superblocks, descriptors,
 * bitmaps and inode tables; or of anything else, such as directories, the journal and what is set aside.
 */
export type Kind = (typeof KINDS)[number];

/** More cells than that, no picture has: each side of a square has 1024. */
const MOST_CELLS = 2 ** 20;

/** Blocks from `start` to `end`, which is not among them. */
export interface BlockRange {
  readonly start: number;
  readonly end: number;
}

/**
 * A device cut into cells of as many blocks each, give or take one. Their number is a power of four, so that they fill
 * a square in any order.
 */
export class CellGrid {
  readonly blocks: number;
  readonly count: number;
  /** Cells along each side of the square. */
  readonly side: number;
  readonly blocksPerCell: number;

  /** @param most cells, a power of four */
  constructor(blocks: number, most = MOST_CELLS) {
    this.blocks = blocks;
    let side = 1;
    while (4 * side * side <= Math.min(blocks, most)) side *= 2;
    this.side = side;
    this.count = side * side;
    this.blocksPerCell = blocks / this.count;
  }

  /** The first block of a cell; of the one behind the last, the end of the device. */
  start(cell: number): number {
    return Math.floor(cell * this.blocksPerCell);
  }

  size(cell: number): number {
    return this.start(cell + 1) - this.start(cell);
  }

  cellOf(block: number): number {
    let cell = Math.min(this.count - 1, Math.floor(block / this.blocksPerCell));
    // Floor and division do not quite undo each other.
    while (cell > 0 && this.start(cell) > block) cell--;
    while (cell < this.count - 1 && this.start(cell + 1) <= block) cell++;
    return cell;
  }

  /** Calls `visit` for every cell that a stretch of blocks touches, with how many of its blocks lie in the cell. */
  spread({ start, end }: BlockRange, visit: (cell: number, blocks: number) => void): void {
    const stop = Math.min(end, this.blocks);
    let from = start;
    for (let cell = this.cellOf(start); from < stop; cell++) {
      const to = Math.min(stop, this.start(cell + 1));
      visit(cell, to - from);
      from = to;
    }
  }
}

/** How many blocks of each kind there are in each cell. */
export type CellCounts = Readonly<Record<Kind, Float64Array>>;

export const noCounts = (count: number): CellCounts => ({
  free: new Float64Array(count),
  contiguous: new Float64Array(count),
  fragmented: new Float64Array(count),
  metadata: new Float64Array(count),
  other: new Float64Array(count),
});

/** The counts of a coarser grid of the same device. */
export function coarser(counts: CellCounts, count: number): CellCounts {
  const result = noCounts(count);
  for (const kind of KINDS) {
    const column = counts[kind];
    for (let cell = 0; cell < column.length; cell++) {
      result[kind][Math.floor((cell * count) / column.length)] += column[cell];
    }
  }
  return result;
}

/** Blocks of each kind in all cells. */
export function totalsOf(counts: CellCounts): Record<Kind, number> {
  const sum = (kind: Kind) => counts[kind].reduce((all, blocks) => all + blocks, 0);
  return {
    free: sum('free'),
    contiguous: sum('contiguous'),
    fragmented: sum('fragmented'),
    metadata: sum('metadata'),
    other: sum('other'),
  };
}
