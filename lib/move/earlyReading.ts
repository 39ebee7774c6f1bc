import type { SystemError } from '../kernel/errors.ts';
import type { FilePlan } from '../plan/plan.ts';
import { fail, type MovingFile } from './pipeline.ts';
import { ReadAhead, stretchesOf, type ReadAheadContext, type Stretch } from './readAhead.ts';

/** What {@link EarlyReading} is told besides a file. */
type EarlyReadingContext = Omit<ReadAheadContext, 'failed'>;

/**
 * Reading that begins as soon as a file is open, by what the scan found: to ask a file with thousands of extents where
 * they lie now takes as long as reading the first few of them. It goes on when just that is to be moved.
 */
export class EarlyReading {
  readonly #context: EarlyReadingContext;
  #begun:
    { readonly fd: number; readonly stretches: readonly Stretch[]; readonly reading: ReadAhead } | undefined;
  /** What went wrong while nobody had the file. */
  #failures: SystemError[] = [];
  #file: MovingFile | undefined;

  constructor(context: EarlyReadingContext) {
    this.#context = context;
  }

  get hasBegun(): boolean {
    return this.#begun !== undefined;
  }

  /** Begins with a file, of which there is only one. @returns what waits until the device has something to do */
  begin(fd: number, stretches: readonly Stretch[]): Promise<unknown> {
    const failed = (_: number, error: SystemError) => {
      if (this.#file === undefined) this.#failures.push(error);
      else fail(this.#file, error);
    };
    const reading = new ReadAhead([{ fd, stretches }], { ...this.#context, failed });
    this.#begun = { fd, stretches, reading };
    return reading.start();
  }

  /** The reading that has begun, where it is of just this file and what is to be moved of it; it is the caller's then. */
  async of(files: readonly (MovingFile & { readonly plan: FilePlan })[]): Promise<ReadAhead | undefined> {
    const begun = this.#begun;
    if (begun === undefined) return undefined;
    const file = files.find(({ fd }) => fd === begun.fd);
    const holds = file !== undefined && files.length === 1 && this.#isAllOf(begun.stretches, file.plan);
    if (holds) this.#begun = undefined;
    else await this.end();
    if (file === undefined) return undefined;
    this.#file = file;
    for (const error of this.#failures) fail(file, error);
    return holds ? begun.reading : undefined;
  }

  #isAllOf(begun: readonly Stretch[], plan: FilePlan): boolean {
    const now = [...stretchesOf(plan, this.#context.blockSize)];
    const same = ({ offset, length }: Stretch, i: number) =>
      begun[i].offset === offset && begun[i].length === length;
    return now.length === begun.length && now.every(same);
  }

  /** Ends what has begun, before its file is closed. The cache is what it was, as far as others leave it. */
  async end(): Promise<void> {
    const begun = this.#begun;
    this.#begun = undefined;
    await begun?.reading.abandon();
  }
}
