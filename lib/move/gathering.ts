import { filesAtOnce } from '../kernel/openFiles.ts';
import type { Candidate } from './candidate.ts';

const MiB = 1024 * 1024;

/** Files that share donors and a barrier: enough that the commit is not felt, few enough to hold open. */
export const BATCH = { bytes: 64 * MiB, files: filesAtOnce(128) };

/** Gathers files, as they are met, into batches that are moved together. */
export class Gathering {
  #files: Candidate[] = [];
  #bytes = 0;

  /** @returns the batches that are complete with it */
  add(candidate: Candidate): Candidate[][] {
    // A program is open for as short a time as possible: it cannot be executed meanwhile.
    if (candidate.file.executable) return [[candidate]];
    const complete: Candidate[][] = [];
    // A large file does not make small ones wait for it, nor them for its barrier.
    if (this.#bytes + candidate.planned > BATCH.bytes) complete.push(this.take());
    this.#files.push(candidate);
    this.#bytes += candidate.planned;
    if (this.#files.length >= BATCH.files) complete.push(this.take());
    return complete;
  }

  /** What has been gathered since the last batch. */
  take(): Candidate[] {
    const files = this.#files;
    this.#files = [];
    this.#bytes = 0;
    return files;
  }
}
