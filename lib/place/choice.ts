import { grown } from '../layout/grown.ts';
import { blocks, type Blocks } from '../layout/units.ts';
import { LONGEST_UNWRITTEN } from './donors.ts';
import { piecesOf, type FreeMap, type FreeRun, type Geometry } from './freeMap.ts';

/** In blocks, for every block size: see windowBlocks in exact.ts. */
const WINDOW = 2048;

/** Free blocks that are meant for something. */
export interface Choice extends FreeRun {
  /** They are more than one allocation can get: they go over the border of block groups, or are too many. */
  readonly long: boolean;
}

/**
 * Chooses free blocks for needs, the largest first: the shortest run that holds one whole; where none does, the longest
 * runs in turn. Pure.
 *
 * @param most choices
 * @returns undefined when they would be more, or free space does not hold all
 */
export function choose(needs: readonly Blocks[], free: FreeMap, most: number): Choice[] | undefined {
  const pool = new Pool(free);
  const choices: Choice[] = [];
  for (const need of [...needs].sort((a, b) => b - a)) {
    for (let left = need as number; left > 0;) {
      const choice = pool.take(left);
      if (choice === undefined || choices.length === most) return undefined;
      choices.push(choice);
      left -= choice.length;
    }
  }
  return choices.sort((a, b) => b.length - a.length);
}

class Pool {
  #start: Float64Array;
  #length: Float64Array;
  #count: number;
  readonly #geometry: Geometry;

  constructor({ count, start, length, geometry }: FreeMap) {
    this.#start = start.slice();
    this.#length = length.slice();
    this.#count = count;
    this.#geometry = geometry;
  }

  /** Takes so many blocks, or as many as there are in one run. */
  take(count: number): Choice | undefined {
    let [whole, long, longest] = [-1, -1, -1];
    let [wholeLength, longLength, longestLength] = [Infinity, Infinity, 0];
    let at = 0;
    const [runs, lengths] = [this.#count, this.#length];
    for (let i = 0; i < runs; i++) {
      const length = lengths[i];
      if (length > longestLength) {
        longest = i;
        longestLength = length;
      }
      if (length < count) continue;
      if (length < longLength) {
        long = i;
        longLength = length;
      }
      if (count > LONGEST_UNWRITTEN) continue;
      for (const piece of piecesOf([this.#run(i)], this.#geometry)) {
        if (piece.length >= count && piece.length < wholeLength)
          [whole, wholeLength, at] = [i, piece.length, piece.start];
      }
    }
    if (whole !== -1) return this.#cut(whole, at, count);
    if (long !== -1) return this.#cut(long, this.#beginning(long, count), count);
    return longest === -1 ? undefined : this.#cut(longest, this.#start[longest], longestLength);
  }

  /** Where so many blocks of a run begin: with a window of the allocator if they can, which is easiest to get. */
  #beginning(i: number, count: number): number {
    const { firstDataBlock } = this.#geometry;
    const start = this.#start[i];
    const aligned = firstDataBlock + Math.ceil((start - firstDataBlock) / WINDOW) * WINDOW;
    return aligned + count <= start + this.#length[i] ? aligned : start;
  }

  #run(i: number): FreeRun {
    return { start: blocks(this.#start[i]), length: blocks(this.#length[i]) };
  }

  #cut(i: number, from: number, count: number): Choice {
    const end = this.#start[i] + this.#length[i];
    this.#length[i] = from - this.#start[i];
    this.#add(from + count, end - from - count);
    const run = { start: blocks(from), length: blocks(count) };
    return { ...run, long: count > LONGEST_UNWRITTEN || [...piecesOf([run], this.#geometry)].length > 1 };
  }

  #add(start: number, length: number): void {
    if (this.#count === this.#start.length) {
      this.#start = grown(this.#start, new Float64Array(2 * this.#count));
      this.#length = grown(this.#length, new Float64Array(2 * this.#count));
    }
    this.#start[this.#count] = start;
    this.#length[this.#count++] = length;
  }
}
