import { KINDS, noCounts, type BlockRange, type CellCounts, type CellGrid, type Kind } from './cells.ts';

/** Counts what is said of stretches of blocks, cell by cell. */
export class Painter {
  readonly #grid: CellGrid;
  readonly #counts: CellCounts;

  constructor(grid: CellGrid) {
    this.#grid = grid;
    this.#counts = noCounts(grid.count);
  }

  paint(kind: Exclude<Kind, 'other'>, range: BlockRange): void {
    const column = this.#counts[kind];
    this.#grid.spread(range, (cell, blocks) => (column[cell] += blocks));
  }

  /**
   * What was said, and the rest as `other`. What is said of a filesystem in use is not of one moment: where it is more
   * than a cell has, what was free and is used meanwhile, or the other way round, does not count as free.
   */
  finish(): CellCounts {
    const { other } = this.#counts;
    for (let cell = 0; cell < this.#grid.count; cell++) {
      let left = this.#grid.size(cell) - KINDS.reduce((sum, kind) => sum + this.#counts[kind][cell], 0);
      for (const kind of KINDS) {
        const excess = Math.min(this.#counts[kind][cell], Math.max(0, -left));
        this.#counts[kind][cell] -= excess;
        left += excess;
      }
      other[cell] = left;
    }
    return this.#counts;
  }
}
