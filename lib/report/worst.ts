/** The few greatest of many, kept in order; what is pushed out is forgotten. */
export class Greatest<T> {
  readonly #limit: number;
  readonly #rank: (item: T) => number;
  readonly #items: T[] = [];

  constructor(limit: number, rank: (item: T) => number) {
    this.#limit = limit;
    this.#rank = rank;
  }

  add(item: T): void {
    const rank = this.#rank(item);
    const last = this.#items.at(-1);
    if (this.#items.length === this.#limit && last !== undefined && rank <= this.#rank(last)) return;
    let at = this.#items.length;
    while (at > 0 && this.#rank(this.#items[at - 1]) < rank) at--;
    this.#items.splice(at, 0, item);
    this.#items.length = Math.min(this.#items.length, this.#limit);
  }

  /** The greatest first; of equals, the one that came first. */
  get items(): readonly T[] {
    return this.#items;
  }
}
