import type { BudgetLimit } from './budget.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import { bytes, type Bytes } from '../layout/units.ts';
import {
  named,
  type ArrangedEvent,
  type DefragmentedEvent,
  type DefragSummary,
  type ProgressEvent,
} from '../report/events.ts';
import type { Reason } from '../scan/reasons.ts';
import type { ScannedFile } from '../scan/scan.ts';
import type { Tally } from '../scan/session.ts';
import type { Arranged } from './arrange.ts';
import type { Gain } from './candidate.ts';
import { bytesWritten } from './pace/counters.ts';

/** What a run has done, and what it leaves undone. */
export class Account {
  readonly #tally: Tally;
  readonly #writtenBefore = bytesWritten();
  readonly #sum = {
    defragmented: 0,
    fragmentsBefore: 0,
    fragmentsAfter: 0,
    bytesMoved: 0,
    bytesEvacuated: 0,
  };
  readonly #gained = {
    fragmentsBefore: 0,
    fragmentsAfter: 0,
    extentsBefore: 0,
    extentsAfter: 0,
    readSecondsBefore: 0,
    readSecondsAfter: 0,
  };
  readonly #arranged = { groups: 0, groupsMoved: 0, files: 0, jumpsBefore: 0, jumpsAfter: 0 };
  readonly #measured = { files: 0, bytes: 0, secondsBefore: 0, secondsAfter: 0 };
  readonly #left = { files: 0, bytes: 0 };
  /** Whether everything that is left is known. */
  leftComplete = true;
  bytesPlanned = 0;
  /** The run goes on where an earlier one stopped. */
  continued = false;

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  get defragmentedFiles(): number {
    return this.#sum.defragmented;
  }

  /** A file's fragments, which may have become fewer. */
  count(before: number, after = before): void {
    this.#sum.fragmentsBefore += before;
    this.#sum.fragmentsAfter += after;
  }

  moved(size: Bytes): void {
    this.#sum.bytesMoved += size;
  }

  /** Other files went out of the way. */
  evacuated(size: Bytes): void {
    this.#sum.bytesEvacuated += size;
  }

  /** What became of files that were to lie one behind the other. @returns what is to be told of it, if anything */
  arranged(outcome: Arranged, bytesMoved: Bytes): ArrangedEvent | undefined {
    const { group, files, jumpsBefore, jumpsAfter, reason, why } = outcome;
    this.#arranged.groups++;
    if (files > 0) this.#arranged.groupsMoved++;
    this.#arranged.files += files;
    this.#arranged.jumpsBefore += jumpsBefore;
    this.#arranged.jumpsAfter += jumpsAfter;
    if (files === 0 && reason === undefined) return undefined;
    return {
      type: 'arranged',
      ...named(group.path),
      files,
      bytesMoved,
      jumpsBefore,
      jumpsAfter,
      ...(reason !== undefined && { incomplete: reason }),
      ...(why !== undefined && { detail: why }),
    };
  }

  get arrangedSums(): NonNullable<DefragSummary['arranged']> {
    return { ...this.#arranged };
  }

  /** A file is left for another run, and what moving it would have moved. */
  leave(size: number): void {
    this.#left.files++;
    this.#left.bytes += Math.max(0, size);
  }

  defragmented(
    file: ScannedFile,
    gain: Gain,
    size: Bytes,
    bytesMoved: Bytes,
    incomplete: Reason | undefined,
    why: string | undefined,
    device: DeviceProfile,
  ): DefragmentedEvent {
    const { fragmentsBefore, fragmentsAfter, extentsBefore, extentsAfter, measured } = gain;
    const numbers = {
      fragmentsBefore,
      fragmentsAfter,
      extentsBefore,
      extentsAfter,
      readSecondsBefore: readSeconds(size, fragmentsBefore, device),
      readSecondsAfter: readSeconds(size, fragmentsAfter, device),
    };
    this.#sum.defragmented++;
    this.count(fragmentsBefore, fragmentsAfter);
    for (const key of Object.keys(numbers) as (keyof typeof numbers)[]) this.#gained[key] += numbers[key];
    if (measured !== undefined) {
      this.#measured.files++;
      this.#measured.bytes += size;
      this.#measured.secondsBefore += measured.secondsBefore;
      this.#measured.secondsAfter += measured.secondsAfter;
    }
    return {
      type: 'defragmented',
      ...named(file.path),
      inode: file.inode,
      ...numbers,
      bytesMoved,
      ...(measured && {
        measuredSecondsBefore: measured.secondsBefore,
        measuredSecondsAfter: measured.secondsAfter,
      }),
      ...(incomplete && { incomplete }),
      ...(why !== undefined && { detail: why }),
    };
  }

  /** @param found bytes of plans that are still being found */
  progress(path: Buffer, found: number): ProgressEvent {
    return {
      type: 'progress',
      ...named(path),
      files: this.#tally.files,
      bytesMoved: bytes(this.#sum.bytesMoved),
      bytesPlanned: this.bytesPlanned + found,
      bytesEvacuated: this.#sum.bytesEvacuated,
      bytesWritten: bytesWritten() - this.#writtenBefore,
      seconds: this.#tally.seconds,
    };
  }

  /** @param reached the limit that the run came to */
  summary(reached: BudgetLimit | undefined, interrupted: boolean): DefragSummary {
    const { files, skipped, failed, unsupported, seconds } = this.#tally;
    const { files: filesLeft, bytes: bytesLeft } = this.#left;
    // What ended just when nothing was left has not ended early.
    const endedEarly = reached !== undefined && (filesLeft > 0 || !this.leftComplete);
    return {
      type: 'summary',
      command: 'defrag',
      files,
      defragmented: this.#sum.defragmented,
      skipped,
      failed,
      unsupported,
      fragmentsBefore: this.#sum.fragmentsBefore,
      fragmentsAfter: this.#sum.fragmentsAfter,
      bytesMoved: this.#sum.bytesMoved,
      bytesEvacuated: this.#sum.bytesEvacuated,
      bytesWritten: bytesWritten() - this.#writtenBefore,
      gained: this.#gained,
      ...(this.#measured.files > 0 && { measured: this.#measured }),
      continued: this.continued,
      ...(endedEarly && { budget: { reached, filesLeft, bytesLeft, complete: this.leftComplete } }),
      interrupted,
      seconds,
    };
  }
}
