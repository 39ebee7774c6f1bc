import { isSystemFailure } from '../kernel/errors.ts';
import { statFilesystem } from '../kernel/handle.ts';
import type { Blocks, Bytes } from '../layout/units.ts';
import { reserveOf } from '../place/donors.ts';
import { formatSize } from '../report/format.ts';
import type { BatchContext } from './batch.ts';
import { Budget } from './budget.ts';
import type { Outcome } from './candidate.ts';

/** Between two looks at free space, in milliseconds: what is held is to be let go within a second. */
const INTERVAL = 250;

/**
 * Looks after free space while something is held: when others have taken so much of it that the reserve is entered, its
 * signal ends the work as a signal to the process would, and everything that was held is theirs.
 */
export class Watchdog implements Disposable {
  readonly #controller = new AbortController();
  readonly #fd: number;
  /** As it is at first: when free space is nearly gone, statfs does not tell any more what root has reserved. */
  readonly #reserve: Blocks;
  readonly #blockSize: Bytes;
  readonly #timer: NodeJS.Timeout;
  #looking = false;
  #why: string | undefined;

  /** @param fd any open file or directory of the filesystem; it stays open until this is disposed of */
  static async start({
    dirFd,
    reserveShare,
  }: Pick<BatchContext, 'dirFd' | 'reserveShare'>): Promise<Watchdog> {
    const space = await statFilesystem(dirFd);
    return new Watchdog(dirFd, reserveOf(space, reserveShare), space.blockSize);
  }

  private constructor(fd: number, reserve: Blocks, blockSize: Bytes) {
    this.#fd = fd;
    this.#reserve = reserve;
    this.#blockSize = blockSize;
    this.#timer = setInterval(() => void this.#look(), INTERVAL);
    this.#timer.unref();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What it saw when it ended the work, in words. */
  get why(): string | undefined {
    return this.#why;
  }

  /** Adds that to an outcome that came of it. */
  explain(outcome: Outcome): Outcome {
    const why = this.#why;
    if (why === undefined) return outcome;
    if (outcome.kind === 'skip' && outcome.reason === 'no-space') return { ...outcome, why };
    if (outcome.kind === 'defragmented' && outcome.incomplete === 'no-space') return { ...outcome, why };
    return outcome;
  }

  async #look(): Promise<void> {
    if (this.#looking || this.signal.aborted) return;
    this.#looking = true;
    try {
      const { free } = await statFilesystem(this.#fd);
      if (free >= this.#reserve) return;
      const [left, reserve] = [free, this.#reserve].map((count) => formatSize(count * this.#blockSize));
      this.#why = `others have filled the filesystem: ${left} are free, and the reserve is ${reserve}`;
      this.#controller.abort();
    } catch (error) {
      // The work meets the same error, and tells of it.
      if (!isSystemFailure(error)) throw error;
    } finally {
      this.#looking = false;
    }
  }

  /**
   * Passes on what work tells. When it must end while nobody asks for more it is gone on with all the same, until it has
   * let go of what it holds and has nothing more to tell; that is kept for who asks later.
   */
  async *guard<T, R>(work: AsyncGenerator<T, R, void>): AsyncGenerator<T, R, void> {
    const told: IteratorResult<T, R>[] = [];
    let alone: Promise<void> | undefined;
    const goOn = async () => {
      for (let last = false; !last;) {
        const step = await work.next();
        told.push(step);
        last = step.done === true;
      }
    };
    let isAskedFor = true;
    const onAbort = () => {
      if (isAskedFor) return;
      alone ??= goOn();
      // Who asks for the next step meets its error.
      alone.catch(() => undefined);
    };
    this.signal.addEventListener('abort', onAbort);
    try {
      for (;;) {
        if (alone !== undefined && told.length === 0) await alone;
        const step = alone === undefined ? await work.next() : told.shift()!;
        if (step.done) return step.value;
        isAskedFor = false;
        if (this.signal.aborted) onAbort();
        yield step.value;
        isAskedFor = true;
      }
    } finally {
      this.signal.removeEventListener('abort', onAbort);
      await alone?.catch(() => undefined);
      // Where nobody asks for more; at its end this does nothing.
      await work.return(undefined as R);
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** A context in which the work ends also when a watchdog says so. What it ends for is that then. */
export function watched<C extends BatchContext>(context: C, { signal }: Watchdog): C {
  const { budget, ending } = context;
  return {
    ...context,
    budget: new Budget(budget, { signal }),
    ending: () => (signal.aborted && !budget.signal.aborted ? 'no-space' : ending()),
  };
}
