import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { errorCode } from '../kernel/errors.ts';

/** Codes that mean that nobody reads any more: a closed pipe, a terminal that went away. */
const READER_GONE = new Set(['EPIPE', 'EIO', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END']);

/** One of the standard streams: writing waits for a slow reader, and ends quietly when there is none any more. */
export class Output {
  readonly stream: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  #error: Error | undefined;

  constructor(stream: Output['stream']) {
    this.stream = stream;
    stream.on('error', (error) => (this.#error ??= error));
  }

  get isTerminal(): boolean {
    return this.stream.isTTY === true;
  }

  /** Whether writing has become pointless. */
  get closed(): boolean {
    return this.#error !== undefined;
  }

  /** What went wrong, unless it is only that the reader has seen enough. */
  get failure(): Error | undefined {
    return READER_GONE.has(errorCode(this.#error) ?? '') ? undefined : this.#error;
  }

  async write(text: string): Promise<void> {
    if (this.closed) return;
    if (this.stream.write(text)) return;
    // An error is recorded by the listener above; here it only ends the waiting.
    await Promise.race([once(this.stream, 'drain'), once(this.stream, 'close')]).catch(() => undefined);
  }

  /** Waits until everything is written or cannot be. */
  async flush(): Promise<void> {
    if (this.closed) return;
    await new Promise<void>((resolve) => this.stream.write('', () => resolve()));
  }
}
