/** What a run, or its work on one target, may use up. */
export interface Limits {
  /** Milliseconds. */
  readonly time?: number | undefined;
  /** To be moved. */
  readonly bytes?: number | undefined;
  /** What ends it without any limit reached. */
  readonly signal?: AbortSignal | undefined;
}

export type BudgetLimit = 'time' | 'bytes';

/**
 * A limit on what may be done. Reaching it stops the work as an aborted signal does: after what is in hand. What is
 * within a wider limit, or stopped by a signal from outside, ends with that too.
 */
export class Budget implements Disposable {
  readonly signal: AbortSignal;
  readonly #wider: Budget | undefined;
  readonly #exhausted = new AbortController();
  readonly #timer: NodeJS.Timeout | undefined;
  #left: number;
  #reached: BudgetLimit | undefined;

  constructor(wider: Budget | AbortSignal | undefined, { time, bytes = Infinity, signal }: Limits) {
    this.#wider = wider instanceof Budget ? wider : undefined;
    const outer = wider instanceof Budget ? wider.signal : wider;
    this.signal = AbortSignal.any([outer, signal, this.#exhausted.signal].filter((one) => one !== undefined));
    this.#left = bytes;
    if (time === undefined) return;
    // A longer delay than setTimeout bears is longer than anybody waits.
    this.#timer = setTimeout(() => this.#end('time'), Math.min(time, 2 ** 31 - 1));
    this.#timer.unref();
  }

  /** Which limit has been reached first. */
  get reached(): BudgetLimit | undefined {
    return this.#reached ?? this.#wider?.reached;
  }

  /** How many bytes may still be moved. */
  get bytesLeft(): number {
    return Math.max(0, Math.min(this.#left, this.#wider?.bytesLeft ?? Infinity));
  }

  spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left <= 0) this.#end('bytes');
    this.#wider?.spend(bytes);
  }

  /** What is left is not enough for anything. */
  giveUp(): void {
    this.#end('bytes');
  }

  #end(limit: BudgetLimit): void {
    this.#reached ??= limit;
    this.#exhausted.abort();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
