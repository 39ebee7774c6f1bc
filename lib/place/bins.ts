import { firstIndex } from '../layout/firstIndex.ts';
import { firstEndingBehind, type FreeRuns } from './freeMap.ts';

/** Things that go into one free run together, by their numbers. */
export type Bin = readonly number[];

/** What was packed, and what fits nowhere. */
export interface Packing {
  readonly bins: readonly Bin[];
  readonly unplaced: readonly number[];
}

/** Free runs that things are packed into, shortest first. */
export class Shelves {
  readonly #free: FreeRuns;
  readonly #byLength: Uint32Array;
  readonly #lengths: Float64Array;

  constructor(free: FreeRuns) {
    this.#free = free;
    this.#byLength = Uint32Array.from({ length: free.count }, (_, i) => i).sort(
      (a, b) => free.length[a] - free.length[b],
    );
    this.#lengths = Float64Array.from(this.#byLength, (i) => free.length[i]);
  }

  /**
   * Packs things into the runs, none of them cut: the longest first, each into the shortest room that holds it
   * (best-fit decreasing, which needs few bins more than the best packing: Johnson, 1973).
   *
   * @param lengths of the things, in blocks
   * @param from of runs that touch blocks `from` to `to` only the part outside is used
   */
  pack(lengths: readonly number[], from: number, to: number): Packing {
    const { count, start, length } = this.#free;
    const order = [...lengths.keys()].sort((a, b) => lengths[b] - lengths[a]);
    const rest = new Rest();
    const used = new Set<number>();
    for (let run = firstEndingBehind(this.#free, from); run < count && start[run] < to; run++) {
      used.add(run);
      // Both its ends are outside only where all of the stretch is free. Of what lies behind it the allocator, which begins
      // with a run's first block, may give less: that shows when it is asked.
      rest.give(run, Math.max(0, from - start[run], start[run] + length[run] - to));
    }
    const bins = new Map<number, number[]>();
    const unplaced: number[] = [];
    for (const thing of order) {
      const size = lengths[thing];
      // The first whole run that will do, and what is left of one that was begun.
      let at = firstAtLeast(this.#lengths, size);
      while (at < this.#lengths.length && used.has(this.#byLength[at])) at++;
      const whole = at < this.#lengths.length ? this.#lengths[at] : Infinity;
      let run: number;
      let room: number;
      const begun = rest.take(size, whole);
      if (begun !== undefined) [run, room] = begun;
      else if (whole < Infinity) {
        [run, room] = [this.#byLength[at], whole];
        used.add(run);
      } else {
        unplaced.push(thing);
        continue;
      }
      rest.give(run, room - size);
      const bin = bins.get(run);
      if (bin === undefined) bins.set(run, [thing]);
      else bin.push(thing);
    }
    return { bins: [...bins.values()], unplaced };
  }
}

/** Runs that are in use in part, by what is left of them. */
class Rest {
  readonly #room: number[] = [];
  readonly #run: number[] = [];

  /** Takes the one with the least room that is at least `least` and no more than `most`. @returns it and its room */
  take(least: number, most: number): [run: number, room: number] | undefined {
    const at = firstAtLeast(this.#room, least);
    if (at === this.#room.length || this.#room[at] > most) return undefined;
    return [this.#run.splice(at, 1)[0], this.#room.splice(at, 1)[0]];
  }

  give(run: number, room: number): void {
    if (room === 0) return;
    const at = firstAtLeast(this.#room, room);
    this.#room.splice(at, 0, room);
    this.#run.splice(at, 0, run);
  }
}

/** The index of the first of sorted numbers that is at least so much. */
const firstAtLeast = (sorted: ArrayLike<number>, least: number): number =>
  firstIndex(sorted.length, (i) => sorted[i] >= least);
