import type { FreeRun } from '../place/freeMap.ts';
import { firstIndex } from '../layout/firstIndex.ts';
import { blocks, type Blocks } from '../layout/units.ts';
import type { Destination } from './planFile.ts';

/** The free runs that plans may name as destinations, each block once. */
export class Destinations {
  /** Shortest first. */
  readonly #runs: FreeRun[];

  constructor(runs: Iterable<FreeRun>) {
    this.#runs = [...runs].sort((a, b) => a.length - b.length);
  }

  /**
   * The beginning of the shortest run of at least so many blocks; undefined when there is none.
   *
   * @param align begin at a multiple of so many blocks, where a run is long enough for that
   */
  take(count: Blocks, align = 1): Destination | undefined {
    const first = this.#firstAtLeast(count);
    if (first === this.#runs.length) return undefined;
    const skipped = ({ start }: FreeRun) => (align - (start % align)) % align;
    const aligned = this.#runs.findIndex((run, i) => i >= first && skipped(run) + count <= run.length);
    const [run] = this.#runs.splice(aligned < 0 ? first : aligned, 1);
    const skip = aligned < 0 ? 0 : skipped(run);
    const start = blocks(run.start + skip);
    this.#give({ start: run.start, length: blocks(skip) });
    this.#give({ start: blocks(start + count), length: blocks(run.length - skip - count) });
    return { start, length: count };
  }

  #give(run: FreeRun): void {
    if (run.length > 0) this.#runs.splice(this.#firstAtLeast(run.length), 0, run);
  }

  #firstAtLeast(length: number): number {
    return firstIndex(this.#runs.length, (i) => this.#runs[i].length >= length);
  }
}
