/** Runs of blocks of a class: how many, and their bytes together. */
export interface RunSums {
  /** How many runs. */
  readonly count: number;
  /** Bytes of all of them. */
  readonly bytes: number;
}

/** Runs of at least `atLeast` bytes, and less than twice that. */
export interface SizeClass extends RunSums {
  /** Bytes of the shortest run that belongs here. */
  readonly atLeast: number;
}

/** Runs of blocks counted by their length, in classes of powers of two. */
export class SizeClasses {
  readonly #count = new Float64Array(64);
  readonly #bytes = new Float64Array(64);

  /** @param size bytes, at least 1 */
  add(size: number, count = 1): void {
    const power = Math.floor(Math.log2(size));
    this.#count[power] += count;
    this.#bytes[power] += size * count;
  }

  /** The classes that have any, the shortest first. */
  get classes(): SizeClass[] {
    return Array.from(this.#count, (count, power) => ({
      atLeast: 2 ** power,
      count,
      bytes: this.#bytes[power],
    })).filter(({ count }) => count > 0);
  }
}

/** Runs at least `from` bytes long and shorter than `to`. */
export interface SizeRange extends RunSums {
  readonly from: number;
  readonly to: number;
}

/**
 * Classes joined into fewer: from each bound to the next, and what lies below the first and from the last on.
 *
 * @param bounds powers of two, the smallest first
 * @returns the ranges that have any, the shortest first
 */
export function joinClasses(classes: Iterable<SizeClass>, bounds: readonly number[]): SizeRange[] {
  const ranges = [0, ...bounds].map((from, i) => ({ from, to: bounds[i] ?? Infinity, count: 0, bytes: 0 }));
  for (const { atLeast, count, bytes } of classes) {
    const range = ranges.find(({ to }) => atLeast < to)!;
    range.count += count;
    range.bytes += bytes;
  }
  return ranges.filter(({ count }) => count > 0);
}
