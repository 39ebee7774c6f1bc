/** A file that is worth moving. */
export interface Worthwhile {
  readonly inode: number;
  readonly generation: number;
  /** What its plan moves. */
  readonly bytes: number;
  readonly fragments: number;
}

/** Files by what moving them gains for each byte written, the best first: a binary heap. */
export class WorstFirst {
  #gain: number[] = [];
  #files: Worthwhile[] = [];

  get size(): number {
    return this.#files.length;
  }

  /** @param gain fragments less, for each block moved */
  push(file: Worthwhile, gain: number): void {
    let at = this.#files.length;
    for (let parent = (at - 1) >> 1; at > 0 && this.#gain[parent] < gain; parent = (at - 1) >> 1) {
      this.#set(at, this.#files[parent], this.#gain[parent]);
      at = parent;
    }
    this.#set(at, file, gain);
  }

  /** Removes and answers the best. */
  pop(): Worthwhile | undefined {
    const best = this.#files.at(0);
    const [last, gain] = [this.#files.pop(), this.#gain.pop()];
    if (last === undefined || gain === undefined || this.#files.length === 0) return best;
    let at = 0;
    for (let child = 1; child < this.#files.length; child = 2 * at + 1) {
      if (child + 1 < this.#files.length && this.#gain[child + 1] > this.#gain[child]) child++;
      if (this.#gain[child] <= gain) break;
      this.#set(at, this.#files[child], this.#gain[child]);
      at = child;
    }
    this.#set(at, last, gain);
    return best;
  }

  /** Fragments of all that are waiting. */
  get fragments(): number {
    return this.#files.reduce((sum, { fragments }) => sum + fragments, 0);
  }

  /** Removes and answers the best ones that come to no more than `bytes`, at least one and at most `files`. */
  popBatch(bytes: number, files: number): Worthwhile[] {
    const batch: Worthwhile[] = [];
    for (let left = bytes; batch.length < files;) {
      const next = this.#files.at(0);
      if (next === undefined || (batch.length > 0 && next.bytes > left)) break;
      left -= next.bytes;
      batch.push(next);
      this.pop();
    }
    return batch;
  }

  #set(at: number, file: Worthwhile, gain: number): void {
    this.#files[at] = file;
    this.#gain[at] = gain;
  }
}
