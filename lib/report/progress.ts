import { displayWidth } from './names.ts';

/** How often the line may change, in milliseconds. */
const INTERVAL = 100;

export interface ProgressOptions {
  /** What the line says, in so many columns at most. */
  readonly text: (columns: number) => string;
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

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /**
   * Shows now and then where things are.
   *
   * @param atOnce whether it is to be shown however short ago it was, since nothing may come for a while
   */
  show(atOnce = false): void {
    const now = this.#options.now();
    if (now - this.#last < INTERVAL && !atOnce) return;
    this.#last = now;
    const line = this.#options.text(this.#room);
    const width = displayWidth(line);
    this.#options.write(`\r${line}${' '.repeat(Math.max(0, this.#covered - width))}`);
    this.#shown = width;
  }

  /** One column less: a full line makes some terminals wrap. */
  get #room(): number {
    return Math.max(0, this.#options.columns() - 1);
  }

  /** Columns with something in them; the terminal may have become narrower. */
  get #covered(): number {
    return Math.min(this.#shown, this.#room);
  }

  /** Clears the line, so that something else can be written. */
  erase(): void {
    if (this.#shown === 0) return;
    this.#options.write(`\r${' '.repeat(this.#covered)}\r`);
    this.#shown = 0;
    // What comes next may be shown at once, below what is written now.
    this.#last = -Infinity;
  }
}
