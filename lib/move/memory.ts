import { isSystemFailure } from '../kernel/errors.ts';
import type { Reason } from '../scan/reasons.ts';
import type { FileId } from '../state/history.ts';
import { RunState } from '../state/runState.ts';

/** Between two saves while a run goes on, in milliseconds: what a killed run forgets. */
const SAVE_EVERY = 30_000;

/** Reasons that another run will not find changed: what it continues need not try these files again. */
const SETTLED: ReadonlySet<Reason> = new Set<Reason>([
  'no-better-place',
  'not-improved',
  'already-contiguous',
]);

export interface MemoryOptions {
  /** Move files that fragment again all the same. */
  readonly ignoreHistory: boolean;
  /** The file itself was asked for: that an earlier run has dealt with it is no reason. */
  readonly asked: boolean;
}

/** What earlier runs on a filesystem learned, and what this one adds. */
export class Memory {
  readonly #state: RunState;
  readonly #options: MemoryOptions;
  #saved = performance.now();
  #failure: Error | undefined;

  private constructor(state: RunState, options: MemoryOptions) {
    this.#state = state;
    this.#options = options;
  }

  static async open(path: string, uuid: string, options: MemoryOptions): Promise<Memory> {
    return new Memory(await RunState.open(path, uuid, Date.now()), options);
  }

  /** Why nothing was remembered although there is a file. */
  get ignored(): string | undefined {
    return this.#state.ignored;
  }

  /** Whether this run goes on where an earlier one stopped. */
  get continues(): boolean {
    return this.#state.continues;
  }

  /** Why a file is not worth trying, as far as earlier runs can tell. */
  refuses(file: FileId & { readonly fragments: number }): Reason | undefined {
    if (!this.#options.asked && this.#state.isDone(file)) return 'done-earlier';
    const { leaveAlone } = this.#state.history.judge(file, Date.now());
    return leaveAlone && !this.#options.ignoreHistory ? 'fragments-again' : undefined;
  }

  /** How many fragments a file regains in a day, where that is known. */
  fragmentsPerDay(file: FileId & { readonly fragments: number }): number | undefined {
    return this.#state.history.judge(file, Date.now()).perDay;
  }

  moved(file: FileId, fragmentsBefore: number, fragmentsAfter: number): void {
    this.#state.history.moved({ ...file, fragmentsBefore, fragmentsAfter }, Date.now());
    this.#state.done(file);
  }

  leftAlone(file: FileId, reason: Reason): void {
    if (SETTLED.has(reason)) this.#state.done(file);
  }

  /** Saves if that was long ago. */
  async saveNowAndThen(): Promise<void> {
    if (performance.now() - this.#saved >= SAVE_EVERY) await this.save(false);
  }

  /**
   * Saves. That it fails is no reason not to work.
   *
   * @param finished all of the target has been gone over
   */
  async save(finished: boolean): Promise<void> {
    this.#saved = performance.now();
    try {
      await this.#state.save(finished, Date.now());
      this.#failure = undefined;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      this.#failure = error;
    }
  }

  /** Why the last save failed. */
  get failure(): Error | undefined {
    return this.#failure;
  }
}
