import type { Event } from '../report/events.ts';
import { ProgressLine } from '../report/progress.ts';
import type { Line } from '../report/reporter.ts';
import type { Output } from './output.ts';

/** Both standard streams, and the progress line that shares the terminal with them. */
export class Console {
  readonly out: Output;
  readonly err: Output;
  readonly #progress: ProgressLine | undefined;

  constructor(out: Output, err: Output) {
    this.out = out;
    this.err = err;
    if (!err.isTerminal) return;
    this.#progress = new ProgressLine({
      write: (text) => void err.write(text),
      columns: () => err.stream.columns ?? 80,
      now: () => performance.now(),
    });
  }

  async print(lines: readonly Line[]): Promise<void> {
    if (lines.length > 0) this.#progress?.erase();
    for (const { to, text } of lines) await this[to].write(`${text}\n`);
  }

  /** Shows on the progress line, where there is one, how far the run is. */
  see(event: Event): void {
    this.#progress?.see(event);
  }

  async warn(text: string): Promise<void> {
    await this.print([{ to: 'err', text: `ext4-defrag: ${text}` }]);
  }

  async flush(): Promise<void> {
    this.#progress?.erase();
    await Promise.all([this.out.flush(), this.err.flush()]);
  }
}
