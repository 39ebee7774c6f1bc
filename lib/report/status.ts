import type { Event, Named, PauseEvent, ProgressEvent, ScanningEvent, TargetEvent } from './events.ts';
import { counted, formatCount, formatSeconds, formatSize } from './format.ts';
import { displayWidth, printable, truncatePath } from './names.ts';

/** Rates are those of the last so many seconds: what a run does now, not what it once did. */
const RATE_WINDOW = 5;

/** Cut to less than this, a file's name says nothing. */
const SHORTEST_NAME = 16;

const GAP = '  ';

/** A part of the text. */
interface Part {
  readonly text: string;
  /** Parts are left out for want of room from the greatest on; 0 is never left out. */
  readonly rank: number;
  /** It may be cut at its beginning. */
  readonly isName?: true;
}

/** Where a run is, in one line. */
export class Status {
  #files = 0;
  /** Whether all that is to be moved has been found. */
  #allFound = false;
  #target: TargetEvent | undefined;
  #named: Named | undefined;
  #scanning: ScanningEvent | undefined;
  #scanRate = new Rate();
  #progress: ProgressEvent | undefined;
  #moveRate = new Rate();
  #writeRate = new Rate();
  /** Whether this target's files are being moved: that says more than how far the scan beside it is. */
  #moving = false;
  #pause: PauseEvent | undefined;

  /** Takes note of an event. */
  see(event: Event): void {
    if ('path' in event) this.#named = event;
    switch (event.type) {
      case 'target':
        this.#target = event;
        this.#allFound = event.kind === 'file' || event.method === 'plan';
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
        this.#writeRate.add(event.seconds, event.bytesWritten);
        break;
      case 'pause':
        this.#pause = event.paused ? event : undefined;
        // The time of a pause tells nothing of how fast the work goes.
        this.#moveRate = new Rate();
        this.#writeRate = new Rate();
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

  /** Where the run is, in so many columns at most. */
  text(columns = Infinity): string {
    return layOut(this.#parts, columns);
  }

  get #parts(): Part[] {
    if (this.#pause === undefined && !this.#moving && this.#scanning !== undefined) {
      return this.#scanParts(this.#scanning);
    }
    const name: Part[] =
      this.#named === undefined ? [] : [{ text: printable(this.#named), rank: 5, isName: true }];
    const pause = this.#pause && `paused: others wait for I/O ${this.#pause.percent} % of the time`;
    const now: Part[] = pause === undefined ? this.#rateParts() : [{ text: pause, rank: 0 }];
    return [...this.#doneParts(pause === undefined ? 0 : 1), ...now, ...name];
  }

  /** How much is done. */
  #doneParts(rank: number): Part[] {
    const files = { text: counted(this.#progress?.files ?? this.#files, 'file'), rank };
    if (this.#progress === undefined) return [files];
    const { bytesMoved, bytesPlanned, bytesEvacuated } = this.#progress;
    // Room is made for no file: how much that takes is not known before.
    if (bytesPlanned === 0 && bytesEvacuated > 0)
      return [{ text: `${formatSize(bytesEvacuated)} moved out of the way`, rank }];
    const share = Math.min(100, Math.floor((bytesMoved / Math.max(1, bytesPlanned)) * 100));
    const amount = `${formatSize(bytesMoved)} of ${formatSize(bytesPlanned)}`;
    // A walk finds files as it moves them, so what it has found is nearly always done.
    const walks = this.#target?.method === 'walk' && this.#target.kind !== 'file';
    if (walks) return [files, { text: `${amount} found`, rank: 2 }];
    // Before all is found it is less of it, and takes longer, than what is known.
    const text = this.#allFound ? `${String(share).padStart(3)} %` : `< ${share} %`;
    return [
      { text, rank },
      { text: amount, rank: 3 },
    ];
  }

  #rateParts(): Part[] {
    if (this.#progress === undefined) return [];
    const { bytesMoved, bytesPlanned } = this.#progress;
    const [moved, written] = [this.#moveRate.perSecond, this.#writeRate.perSecond];
    if (moved <= 0) return [];
    const left = timeLeft((bytesPlanned - bytesMoved) / moved);
    return [
      { text: `${formatSize(moved)}/s moved`, rank: 4 },
      ...(written > 0 ? [{ text: `${formatSize(written)}/s written`, rank: 6 }] : []),
      { text: this.#allFound ? left : `> ${left}`, rank: 2 },
    ];
  }

  #scanParts({ inodes, inodesTotal: total, files, fragmentedFiles }: ScanningEvent): Part[] {
    const rate = this.#scanRate.perSecond;
    const percent = Math.floor((inodes / Math.max(1, total)) * 100);
    return [
      { text: `${String(percent).padStart(3)} %`, rank: 0 },
      { text: `${formatCount(inodes)} of ${counted(total, 'inode')}`, rank: 3 },
      { text: `${formatCount(fragmentedFiles)} of ${counted(files, 'file')} fragmented`, rank: 1 },
      ...(rate > 0 && inodes < total ? [{ text: timeLeft((total - inodes) / rate), rank: 2 }] : []),
    ];
  }
}

/** The parts one after the other, without those for which there is no room. */
function layOut(all: readonly Part[], columns: number): string {
  let parts = all;
  // What a part takes at least.
  const least = ({ text, isName }: Part) => {
    const width = displayWidth(text);
    return isName ? Math.min(width, SHORTEST_NAME) : width;
  };
  const total = () => parts.reduce((sum, part) => sum + least(part) + GAP.length, -GAP.length);
  for (let rank = Math.max(...all.map((part) => part.rank)); rank > 0 && total() > columns; rank--) {
    parts = parts.filter((part) => part.rank !== rank);
  }
  const spare = columns - total();
  return parts
    .map((part) => {
      if (part.isName) return truncatePath(part.text, least(part) + spare);
      return spare < 0 ? part.text.slice(0, Math.max(0, columns)) : part.text;
    })
    .join(GAP);
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
