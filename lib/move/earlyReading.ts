import type { SystemError } from '../kernel/errors.ts';
import type { FilePlan } from '../plan/plan.ts';
import { fail, type MovingFile } from './pipeline.ts';
import { ReadAhead, type ReadAheadContext } from './readAhead.ts';

/**
 * Reading that begins as soon as a file is open, by the plan that the scan made: to ask a file with thousands of extents
 * where they lie now takes as long as reading the first few of them. It goes on when the plan turns out to hold.
 */
export class EarlyReading {
  readonly #context: Omit<ReadAheadContext, 'failed'>;
  #begun: { readonly fd: number; readonly plan: FilePlan; readonly reading: ReadAhead } | undefined;
  /** What went wrong while nobody had the file. */
  #failures: SystemError[] = [];
  #file: MovingFile | undefined;

  constructor(context: Omit<ReadAheadContext, 'failed'>) {
    this.#context = context;
  }

  /** Begins with a file, of which there is only one. */
  begin(fd: number, plan: FilePlan): void {
    const failed = (_: number, error: SystemError) => {
      if (this.#file === undefined) this.#failures.push(error);
      else fail(this.#file, error);
    };
    const reading = new ReadAhead([{ fd, plan }], { ...this.#context, failed });
    this.#begun = { fd, plan, reading };
    reading.start();
  }

  /** The reading that has begun, where it is of just this file and what is to be moved of it; it is the caller's then. */
  async of(files: readonly (MovingFile & { readonly plan: FilePlan })[]): Promise<ReadAhead | undefined> {
    const begun = this.#begun;
    if (begun === undefined) return undefined;
    const file = files.find(({ fd }) => fd === begun.fd);
    const holds = file?.plan === begun.plan && files.length === 1;
    if (holds) this.#begun = undefined;
    else await this.end();
    if (file === undefined) return undefined;
    this.#file = file;
    for (const error of this.#failures) fail(file, error);
    return holds ? begun.reading : undefined;
  }

  /** Ends what has begun, before its file is closed. The cache is what it was, as far as others leave it. */
  async end(): Promise<void> {
    const begun = this.#begun;
    this.#begun = undefined;
    await begun?.reading.abandon();
  }
}
