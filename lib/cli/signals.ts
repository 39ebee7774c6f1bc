const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Makes the signals that ask a program to end abort a run instead, so that it can finish what it has in hand. More
 * signals change nothing: there is nothing faster that is safe.
 */
export class StopSignals implements Disposable {
  readonly #controller = new AbortController();
  readonly #stop: () => void;

  /** @param onFirst told once, when the first signal comes */
  constructor(onFirst: () => void) {
    this.#stop = () => {
      if (this.signal.aborted) return;
      this.#controller.abort();
      onFirst();
    };
    for (const name of SIGNALS) process.on(name, this.#stop);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
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
