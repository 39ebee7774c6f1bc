import type { FreeRuns } from './window.ts';

/** Things that go into one free run together, by their numbers. */
export type Bin = readonly number[];

/** What was packed, and what fits nowhere. */
export interface Packing {
  readonly bins: readonly Bin[];
  readonly unplaced: readonly number[];
}

/**
 * Packs things into free runs, none of them cut: the longest first, each into the shortest room that holds it
 * (best-fit decreasing, which needs few bins more than the best packing: Johnson, 1973).
 *
 * @param lengths of the things, in blocks
 * @param from free runs that touch blocks `from` to `to` are not used
 */
export function pack(lengths: readonly number[], free: FreeRuns, from: number, to: number): Packing {
  const order = [...lengths.keys()].sort((a, b) => lengths[b] - lengths[a]);
  const room = new Rooms(free, from, to);
  const bins = new Map<number, number[]>();
  const unplaced: number[] = [];
  for (const thing of order) {
    const run = room.take(lengths[thing]);
    if (run === undefined) unplaced.push(thing);
    else {
      const bin = bins.get(run);
      if (bin === undefined) bins.set(run, [thing]);
      else bin.push(thing);
    }
  }
  return { bins: [...bins.values()], unplaced };
}

/** How much room is left in each run, shortest first; runs of the same room in no order. */
class Rooms {
  readonly #room: number[] = [];
  readonly #run: number[] = [];

  constructor(free: FreeRuns, from: number, to: number) {
    const runs = Array.from({ length: free.count }, (_, i) => i)
      .filter((i) => free.start[i] >= to || free.start[i] + free.length[i] <= from)
      .sort((a, b) => free.length[a] - free.length[b]);
    this.#run = runs;
    this.#room = runs.map((i) => free.length[i]);
  }

  /** Takes so many blocks of the shortest room that has them. @returns the number of its run */
  take(length: number): number | undefined {
    const at = this.#firstAtLeast(length);
    if (at === this.#room.length) return undefined;
    const [room] = this.#room.splice(at, 1);
    const [run] = this.#run.splice(at, 1);
    if (room > length) {
      const to = this.#firstAtLeast(room - length);
      this.#room.splice(to, 0, room - length);
      this.#run.splice(to, 0, run);
    }
    return run;
  }

  #firstAtLeast(length: number): number {
    let [low, high] = [0, this.#room.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#room[middle] < length) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
