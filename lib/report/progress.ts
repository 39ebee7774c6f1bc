import type { Event, Named, ProgressEvent } from './events.ts';
import { counted, formatSeconds, formatSize } from './format.ts';
import { displayWidth, printable, truncatePath } from './names.ts';

/** How often the line may change, in milliseconds. */
const INTERVAL = 100;

/** The rate is that of the last so many seconds: what a run does now, not what it once did. */
const RATE_WINDOW = 5;

/** Narrower than this, a file's name says nothing. */
const SHORTEST_NAME = 12;

export interface ProgressOptions {
  /** Writes to the terminal. */
  readonly write: (text: string) => void;
  readonly columns: () => number;
  /** Milliseconds. */
  readonly now: () => number;
}

/** One line on a terminal that says where a run is. It needs no escape sequences: it is overwritten. */
export class ProgressLine {
  readonly #options: ProgressOptions;
  #shown = 0;
  #last = -Infinity;
  #files = 0;
  #whole = false;
  #samples: ProgressEvent[] = [];

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** Takes note of an event, and now and then shows where things are. */
  see(event: Event): void {
    if (event.type === 'target') this.#whole = event.kind === 'file';
    if (event.type === 'file' || event.type === 'skip' || event.type === 'plan') this.#files++;
    if (event.type === 'progress') this.#sample(event);
    if (!('path' in event)) return;
    const now = this.#options.now();
    if (now - this.#last < INTERVAL) return;
    this.#last = now;
    this.#show(event);
  }

  /** Clears the line, so that something else can be written. */
  erase(): void {
    if (this.#shown === 0) return;
    this.#options.write(`\r${' '.repeat(this.#shown)}\r`);
    this.#shown = 0;
    // What comes next may be shown at once, below what is written now.
    this.#last = -Infinity;
  }

  #sample(event: ProgressEvent): void {
    this.#samples.push(event);
    while (this.#samples.length > 2 && event.seconds - this.#samples[0].seconds > RATE_WINDOW)
      this.#samples.shift();
  }

  #show(event: Named): void {
    // One column less: a full line makes some terminals wrap.
    const columns = this.#options.columns() - 1;
    const parts = this.#parts().join('  ');
    const room = columns - parts.length - 2;
    const name = room < SHORTEST_NAME ? '' : `  ${truncatePath(printable(event), room)}`;
    const line = parts.slice(0, Math.max(0, columns)) + name;
    const width = displayWidth(line);
    this.#options.write(`\r${line}${' '.repeat(Math.max(0, this.#shown - width))}`);
    this.#shown = Math.max(width, this.#shown);
  }

  #parts(): string[] {
    const progress = this.#samples.at(-1);
    if (progress === undefined) return [counted(this.#files, 'file')];
    const { files, bytesMoved, bytesPlanned } = progress;
    const rate = this.#rate();
    return [
      counted(files, 'file'),
      `${formatSize(bytesMoved)} of ${formatSize(bytesPlanned)}`,
      ...(rate > 0 ? [`${formatSize(rate)}/s`, this.#timeLeft((bytesPlanned - bytesMoved) / rate)] : []),
    ];
  }

  /** Bytes per second; 0 while it is unknown. */
  #rate(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)!];
    const seconds = last.seconds - first.seconds;
    return seconds > 0 ? (last.bytesMoved - first.bytesMoved) / seconds : 0;
  }

  /** Of a tree only what was found so far is known. */
  #timeLeft(seconds: number): string {
    const text = seconds < 59.5 ? `${Math.round(Math.max(0, seconds))} s` : formatSeconds(seconds);
    return `${this.#whole ? '' : '> '}${text} left`;
  }
}
