/** How many of the worst files a report lists unless told. */
export const DEFAULT_TOP = 10;
/** The same of a page, where there is more room. */
export const PAGE_TOP = 100;

/** The few greatest of many; what is pushed out is forgotten. */
export class Greatest<T> {
  readonly #limit: number;
  readonly #rank: (item: T) => number;
  #items: T[] = [];

  constructor(limit: number, rank: (item: T) => number) {
    this.#limit = limit;
    this.#rank = rank;
  }

  add(item: T): void {
    this.#items.push(item);
    // Seldom enough that sorting costs little for each item, whatever the limit.
    if (this.#items.length > 2 * this.#limit + 100) this.#forget();
  }

  /** The greatest first; of equals, the one that came first. */
  get items(): readonly T[] {
    this.#forget();
    return this.#items;
  }

  #forget(): void {
    this.#items.sort((a, b) => this.#rank(b) - this.#rank(a));
    this.#items = this.#items.slice(0, this.#limit);
  }
}
