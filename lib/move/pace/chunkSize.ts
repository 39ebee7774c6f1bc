const KiB = 1024;

/** Bytes a millisecond, before anything is known: what has been read takes a slow machine not much longer. */
const FIRST_RATE = 64 * KiB;
/** By how much it grows once the limit was met. */
const STEP = 512 * KiB;

export interface ChunkLimits {
  /** Bytes. */
  readonly least: number;
  readonly most: number;
  /** Milliseconds that a call may take; Infinity for chunks that are always as large as may be. */
  readonly limit: number;
}

/**
 * How much one EXT4_IOC_MOVE_EXT may take, so that it does not hold the file's locks for longer than a limit: additive
 * increase, multiplicative decrease, as TCP finds its window.
 */
export class ChunkSize {
  readonly #limits: ChunkLimits;
  #size: number;
  /** Bytes a millisecond, of late. */
  #rate = Infinity;
  #slowStart = true;

  constructor(limits: ChunkLimits) {
    this.#limits = limits;
    this.#size = this.#clamp(FIRST_RATE * limits.limit);
  }

  /** What the next call may take, between least and most. Not rounded to blocks. */
  get bytes(): number {
    return Math.floor(this.#size);
  }

  /** A call for so many bytes took so many milliseconds. */
  took(bytes: number, ms: number): void {
    const { limit } = this.#limits;
    const over = ms > limit;
    // Most of a short call is what every call costs: within the limit it says nothing of a whole chunk.
    if (bytes <= 0 || (!over && bytes * 2 < this.#size)) return;
    this.#measure(bytes / Math.max(ms, 0.001));
    if (over) this.#slowStart = false;
    const doubles = this.#slowStart && ms * 2 <= limit;
    const wanted = over ? this.#size / 2 : this.#size + (doubles ? this.#size : STEP);
    this.#size = this.#clamp(Math.min(wanted, this.#rate * limit));
  }

  /** A device that has become slow is believed at once, one that has become fast by and by. */
  #measure(rate: number): void {
    this.#rate = rate < this.#rate ? rate : this.#rate + (rate - this.#rate) / 4;
  }

  #clamp(size: number): number {
    return Math.max(this.#limits.least, Math.min(size, this.#limits.most));
  }
}
