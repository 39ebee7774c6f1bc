import type { Event } from '../report/events.ts';
import { ProgressLine } from '../report/progress.ts';
import type { Line } from '../report/reporter.ts';
import { Status } from '../report/status.ts';
import type { Output } from './output.ts';

/** Both standard streams, and the progress line that shares the terminal with them. */
export class Console {
  readonly out: Output;
  readonly err: Output;
  readonly #status = new Status();
  readonly #progress: ProgressLine | undefined;

  constructor(out: Output, err: Output) {
    this.out = out;
    this.err = err;
    if (!err.isTerminal) return;
    this.#progress = new ProgressLine({
      text: (columns) => this.#status.text(columns),
      write: (text) => void err.write(text),
      // Some terminals do not know their width, and say 0.
      columns: () => err.stream.columns || 80,
      now: () => performance.now(),
    });
  }

  async print(lines: readonly Line[]): Promise<void> {
    if (lines.length > 0) this.#progress?.erase();
    for (const { to, text } of lines) await this[to].write(`${text}\n`);
  }

  /** Shows on the progress line, where there is one, how far the run is. */
  see(event: Event): void {
    this.#status.see(event);
    const lastOfScan = event.type === 'scanning' && event.inodes === event.inodesTotal;
    this.#progress?.show(lastOfScan || event.type === 'pause');
  }

  async warn(text: string): Promise<void> {
    await this.print([{ to: 'err', text: `ext4-defrag: ${text}` }]);
  }

  /** Says how far the run is, terminal or not. */
  async tellStatus(): Promise<void> {
    await this.warn(this.#status.text());
    // During a pause nothing else brings the line back.
    this.#progress?.show();
  }

  async flush(): Promise<void> {
    this.#progress?.erase();
    await Promise.all([this.out.flush(), this.err.flush()]);
  }
}
