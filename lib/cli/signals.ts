const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** In milliseconds: longer than what is in hand takes on any device that answers. */
const LATE = 5000;

/**
 * Makes the signals that ask a program to end abort a run instead, so that it can finish what it has in hand. More
 * signals change nothing: there is nothing faster that is safe.
 */
export class StopSignals implements Disposable {
  readonly #controller = new AbortController();
  readonly #stop: () => void;
  #late: NodeJS.Timeout | undefined;

  /**
   * @param onFirst told once, when the first signal comes
   * @param onLate told when the run has not ended some seconds later
   */
  constructor(onFirst: () => void, onLate: () => void = () => undefined) {
    this.#stop = () => {
      if (this.signal.aborted) return;
      this.#controller.abort();
      onFirst();
      this.#late = setTimeout(onLate, LATE);
    };
    for (const name of SIGNALS) process.on(name, this.#stop);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#late);
    for (const name of SIGNALS) process.off(name, this.#stop);
  }
}

/**
 * Makes SIGUSR1 ask how far a run is.
 *
 * @returns what ends that
 */
export function onStatusSignal(tell: () => void): () => void {
  process.on('SIGUSR1', tell);
  return () => void process.off('SIGUSR1', tell);
}
