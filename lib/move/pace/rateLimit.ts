const SECOND = 1000;
/** Milliseconds of idle time that may be made up for, and the longest that one piece should take. */
const BURST = SECOND / 4;
const LEAST_AT_ONCE = 64 * 1024;

/** A token bucket, kept as the time up to which everything taken is paid for. */
export class RateLimit {
  readonly #bytesPerSecond: number;
  readonly #now: () => number;
  #paidUntil: number;

  /** `now` answers milliseconds. Nothing is in the bucket at first. */
  constructor(bytesPerSecond: number, now: () => number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#now = now;
    this.#paidUntil = now();
  }

  /** Bytes that are best taken at once: more would come as bursts with long waits between. */
  get mostAtOnce(): number {
    return Math.max(LEAST_AT_ONCE, Math.floor((this.#bytesPerSecond * BURST) / SECOND));
  }

  /** Takes bytes, more than there are if need be, and answers how many milliseconds to wait before going on. */
  delayFor(bytes: number): number {
    const now = this.#now();
    const cost = (bytes / this.#bytesPerSecond) * SECOND;
    this.#paidUntil = Math.max(this.#paidUntil, now - BURST) + cost;
    return Math.max(0, this.#paidUntil - now);
  }
}
