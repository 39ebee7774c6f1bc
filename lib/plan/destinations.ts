import type { FreeRun } from '../place/freeMap.ts';
import { blocks, type Blocks } from '../layout/units.ts';
import type { Destination } from './planFile.ts';

/** The free runs that plans may name as destinations, each block once. */
export class Destinations {
  /** Shortest first. */
  readonly #runs: FreeRun[];

  constructor(runs: Iterable<FreeRun>) {
    this.#runs = [...runs].sort((a, b) => a.length - b.length);
  }

  /** The beginning of the shortest run of at least so many blocks; undefined when there is none. */
  take(count: Blocks): Destination | undefined {
    const at = this.#firstAtLeast(count);
    if (at === this.#runs.length) return undefined;
    const [{ start, length }] = this.#runs.splice(at, 1);
    const rest = { start: blocks(start + count), length: blocks(length - count) };
    if (rest.length > 0) this.#runs.splice(this.#firstAtLeast(rest.length), 0, rest);
    return { start, length: count };
  }

  #firstAtLeast(length: number): number {
    let [low, high] = [0, this.#runs.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#runs[middle].length < length) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
