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
  get classes(): { readonly atLeast: number; readonly count: number; readonly bytes: number }[] {
    return Array.from(this.#count, (count, power) => ({
      atLeast: 2 ** power,
      count,
      bytes: this.#bytes[power],
    })).filter(({ count }) => count > 0);
  }
}
