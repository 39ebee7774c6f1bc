/** A file that is worth moving. */
export interface Worthwhile {
  readonly inode: number;
  readonly generation: number;
  /** What its plan moves. */
  readonly bytes: number;
  readonly fragments: number;
  /** How many fragments less it will have. */
  readonly saved: number;
}

/** Up to this size, in bytes moved, files of a directory are moved together. */
const SMALL = 1024 * 1024;

/** What is moved at once: a large file, or small ones of a directory. */
interface Bundle {
  readonly files: readonly Worthwhile[];
  readonly bytes: number;
  /** Fragments less, for each byte moved. */
  readonly gain: number;
}

/** How much is moved at once. */
export interface BatchLimits {
  readonly bytes: number;
  readonly files: number;
}

/**
 * Files by what moving them gains for each byte written, the best first. Small files wait until it is known which
 * directories they are in: those of one directory are moved together, so that they come to lie side by side.
 */
export class WorstFirst {
  readonly #limits: BatchLimits;
  /** A binary heap. */
  #bundles: Bundle[] = [];
  #small: Worthwhile[] = [];
  #size = 0;

  constructor(limits: BatchLimits) {
    this.#limits = limits;
  }

  /** How many files are waiting. */
  get size(): number {
    return this.#size;
  }

  push(file: Worthwhile): void {
    this.#size++;
    if (file.bytes <= SMALL) this.#small.push(file);
    else this.#add(bundleOf([file]));
  }

  /** Lets the small files that have come so far take part. */
  group(directoryOf: (inode: number) => number | undefined): void {
    const directories = new Map<number | undefined, Worthwhile[]>();
    for (const file of this.#small) {
      const directory = directoryOf(file.inode);
      const files = directories.get(directory);
      if (files === undefined) directories.set(directory, [file]);
      else files.push(file);
    }
    this.#small = [];
    for (const files of directories.values()) {
      for (const bundle of this.#bundlesOf(files)) this.#add(bundle);
    }
  }

  /** Removes and answers the best ones that come to no more than the limits, or one that does alone. */
  popBatch(): Worthwhile[] {
    const batch: Worthwhile[] = [];
    let { bytes, files } = this.#limits;
    for (;;) {
      const next = this.#bundles.at(0);
      if (next === undefined) break;
      if (batch.length > 0 && (next.bytes > bytes || next.files.length > files)) break;
      bytes -= next.bytes;
      files -= next.files.length;
      batch.push(...next.files);
      this.#pop();
    }
    this.#size -= batch.length;
    return batch;
  }

  /** All that are waiting, in no order. */
  *[Symbol.iterator](): Iterator<Worthwhile> {
    for (const { files } of this.#bundles) yield* files;
    yield* this.#small;
  }

  *#bundlesOf(files: readonly Worthwhile[]): Iterable<Bundle> {
    let first = 0;
    let bytes = 0;
    for (let i = 0; i < files.length; i++) {
      const isFull = i - first === this.#limits.files || bytes + files[i].bytes > this.#limits.bytes;
      if (i > first && isFull) {
        yield bundleOf(files.slice(first, i));
        [first, bytes] = [i, 0];
      }
      bytes += files[i].bytes;
    }
    yield bundleOf(files.slice(first));
  }

  #add(bundle: Bundle): void {
    const bundles = this.#bundles;
    let at = bundles.length;
    for (let parent = (at - 1) >> 1; at > 0 && bundles[parent].gain < bundle.gain; parent = (at - 1) >> 1) {
      bundles[at] = bundles[parent];
      at = parent;
    }
    bundles[at] = bundle;
  }

  #pop(): void {
    const bundles = this.#bundles;
    const last = bundles.pop();
    if (last === undefined || bundles.length === 0) return;
    let at = 0;
    for (let child = 1; child < bundles.length; child = 2 * at + 1) {
      if (child + 1 < bundles.length && bundles[child + 1].gain > bundles[child].gain) child++;
      if (bundles[child].gain <= last.gain) break;
      bundles[at] = bundles[child];
      at = child;
    }
    bundles[at] = last;
  }
}

function bundleOf(files: readonly Worthwhile[]): Bundle {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const saved = files.reduce((sum, file) => sum + file.saved, 0);
  return { files, bytes, gain: saved / bytes };
}
