import type { Event, Named, ProgressEvent, ScanningEvent } from './events.ts';
import { counted, formatCount, formatSeconds, formatSize } from './format.ts';
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
  /** Whether all that is to be moved has been found. */
  #allFound = false;
  #scanning: ScanningEvent | undefined;
  #scanRate = new Rate();
  #progress: ProgressEvent | undefined;
  readonly #moveRate = new Rate();
  /** Whether this target's files are being moved: that says more than how far the scan beside it is. */
  #moving = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** Takes note of an event, and now and then shows where things are. */
  see(event: Event): void {
    this.#note(event);
    const named = 'path' in event ? event : undefined;
    const scan = this.#scan;
    if (scan === undefined && named === undefined) return;
    const now = this.#options.now();
    // After the scan's last step nothing may come for a while, so that one is always shown.
    const lastStep = event.type === 'scanning' && event.inodes === event.inodesTotal;
    if (now - this.#last < INTERVAL && !lastStep) return;
    this.#last = now;
    this.#show(scan === undefined ? named : undefined);
  }

  /** Clears the line, so that something else can be written. */
  erase(): void {
    if (this.#shown === 0) return;
    this.#options.write(`\r${' '.repeat(this.#shown)}\r`);
    this.#shown = 0;
    // What comes next may be shown at once, below what is written now.
    this.#last = -Infinity;
  }

  #note(event: Event): void {
    switch (event.type) {
      case 'target':
        this.#allFound = event.kind === 'file';
        this.#moving = false;
        this.#scanning = undefined;
        this.#scanRate = new Rate();
        break;
      case 'scanning':
        this.#allFound = event.inodes === event.inodesTotal;
        this.#files = event.files;
        this.#scanning = event;
        this.#scanRate.add(event.seconds, event.inodes);
        break;
      case 'progress':
        this.#moving = true;
        this.#progress = event;
        this.#moveRate.add(event.seconds, event.bytesMoved);
        break;
      case 'file':
      case 'skip':
      case 'plan':
        // The scan has counted these already.
        if (this.#scanning === undefined) this.#files++;
        break;
      default:
    }
  }

  /** The scan of inode tables, while the line is about that. */
  get #scan(): ScanningEvent | undefined {
    return this.#moving ? undefined : this.#scanning;
  }

  #show(named: Named | undefined): void {
    // One column less: a full line makes some terminals wrap.
    const columns = this.#options.columns() - 1;
    const parts = this.#parts(columns).join('  ');
    const room = columns - parts.length - 2;
    const name =
      named === undefined || room < SHORTEST_NAME ? '' : `  ${truncatePath(printable(named), room)}`;
    const line = parts.slice(0, Math.max(0, columns)) + name;
    const width = displayWidth(line);
    this.#options.write(`\r${line}${' '.repeat(Math.max(0, this.#shown - width))}`);
    this.#shown = Math.max(width, this.#shown);
  }

  #parts(columns: number): string[] {
    const scan = this.#scan;
    if (scan !== undefined) return this.#scanParts(scan, columns);
    const progress = this.#progress;
    if (progress === undefined) return [counted(this.#files, 'file')];
    const { files, bytesMoved, bytesPlanned } = progress;
    const rate = this.#moveRate.perSecond;
    // Before all is found it takes longer than what is known.
    const atLeast = this.#allFound ? '' : '> ';
    return [
      counted(files, 'file'),
      `${formatSize(bytesMoved)} of ${formatSize(bytesPlanned)}`,
      ...(rate > 0
        ? [`${formatSize(rate)}/s`, `${atLeast}${timeLeft((bytesPlanned - bytesMoved) / rate)}`]
        : []),
    ];
  }

  #scanParts(scanning: ScanningEvent, columns: number): string[] {
    const { inodes, inodesTotal: total, files, fragmentedFiles } = scanning;
    const rate = this.#scanRate.perSecond;
    const percent = `${String(Math.floor((inodes / Math.max(1, total)) * 100)).padStart(3)} %`;
    const parts = [
      percent,
      `${formatCount(fragmentedFiles)} of ${counted(files, 'file')} fragmented`,
      ...(rate > 0 && inodes < total ? [timeLeft((total - inodes) / rate)] : []),
    ];
    const all = [percent, `${formatCount(inodes)} of ${counted(total, 'inode')}`, ...parts.slice(1)];
    return all.join('  ').length <= columns ? all : parts;
  }
}

/** How fast a number grew lately. */
class Rate {
  readonly #samples: { readonly seconds: number; readonly amount: number }[] = [];

  add(seconds: number, amount: number): void {
    this.#samples.push({ seconds, amount });
    while (this.#samples.length > 2 && seconds - this.#samples[0].seconds > RATE_WINDOW)
      this.#samples.shift();
  }

  /** 0 while it is unknown. */
  get perSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (last === undefined || last.seconds <= first.seconds) return 0;
    return (last.amount - first.amount) / (last.seconds - first.seconds);
  }
}

function timeLeft(seconds: number): string {
  return `${seconds < 59.5 ? `${Math.round(Math.max(0, seconds))} s` : formatSeconds(seconds)} left`;
}
