/**
 * Counts mapped blocks and fragments of extents that are handed over in logical order, without keeping them. Merging
 * is not needed first: what merges also continues, so the count is that of `countFragments(mergeExtents(…))`.
 */
export class RunCounter {
  blocks = 0;
  fragments = 0;
  #logical = 0;
  #physical = 0;
  #length = 0;

  reset(): void {
    this.blocks = 0;
    this.fragments = 0;
  }

  /** The next extent. Its place on the device counts, so it must have one. */
  add(logical: number, physical: number, length: number): void {
    if (!this.#continues(logical, physical)) this.fragments++;
    this.blocks += length;
    this.#last(logical, physical, length);
  }

  /** A stretch of extents that was counted on its own: its first and last one, and its sums. */
  addCounted(run: CountedRun): void {
    const joined = this.#continues(run.firstLogical, run.firstPhysical) ? 1 : 0;
    this.fragments += run.fragments - joined;
    this.blocks += run.blocks;
    this.#last(run.lastLogical, run.lastPhysical, run.lastLength);
  }

  /** The rule of `continues` in fragments.ts. */
  #continues(logical: number, physical: number): boolean {
    if (this.fragments === 0) return false;
    return (
      physical === this.#physical + this.#length || physical === this.#physical + logical - this.#logical
    );
  }

  #last(logical: number, physical: number, length: number): void {
    this.#logical = logical;
    this.#physical = physical;
    this.#length = length;
  }
}

export interface CountedRun {
  readonly firstLogical: number;
  readonly firstPhysical: number;
  readonly lastLogical: number;
  readonly lastPhysical: number;
  readonly lastLength: number;
  readonly blocks: number;
  readonly fragments: number;
}
