import { setTimeout as sleep } from 'node:timers/promises';
import { takeBeginning } from './beginning.ts';
import { ChunkSize } from './chunkSize.ts';
import { PressureGate } from './pressure.ts';
import { RateLimit } from './rateLimit.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** One call's worth: below 8 MiB the calls cost, above 16 the locks are held for long and nothing is gained. */
const CHUNK = { least: 64 * KiB, most: 16 * MiB };
const DEFAULT_LATENCY = 100;
/**
 * The share of `maxLatency` that a call is meant to take. Where others have the file open the journal is committed
 * under its lock, and how long the device takes to flush cannot be foreseen: now and then it is twice as long as before.
 */
const AIM = 0.5;

/** How a run gives way to whoever else works there. */
export interface PaceOptions {
  /** Bytes a second to move at most. */
  readonly maxRate?: number | undefined;
  /** How long one call may hold a file's locks, in milliseconds (100). */
  readonly maxLatency?: number | undefined;
  /**
   * Pause while others wait for I/O for more than this much of the time, in percent. 100, and the default, is never.
   */
  readonly pressure?: number | undefined;
}

/** A pause that others make necessary begins or ends. */
export interface Pause {
  readonly paused: boolean;
  /** Percent of the time in which others waited for I/O. */
  readonly percent: number;
}

/** How much is moved at a time, and when. */
export class Pace {
  readonly #chunk: ChunkSize;
  readonly #rate: RateLimit | undefined;
  readonly #gate: PressureGate | undefined;
  /** Whether pressure was asked for and the kernel does not tell it. */
  readonly blind: boolean;

  /** To be made before the run does anything. @param deviceId "major:minor" */
  constructor({ maxRate, maxLatency = DEFAULT_LATENCY, pressure = 100 }: PaceOptions, deviceId: string) {
    this.#chunk = new ChunkSize({ ...CHUNK, limit: maxLatency * AIM });
    this.#rate = maxRate === undefined ? undefined : new RateLimit(maxRate, () => performance.now());
    this.#gate =
      pressure < 100 ? PressureGate.open(pressure, deviceId, { beginning: takeBeginning() }) : undefined;
    this.blind = pressure < 100 && this.#gate === undefined;
  }

  /** Bytes that the next call may take. */
  get chunkBytes(): number {
    return Math.min(this.#chunk.bytes, this.mostAtOnce);
  }

  /** Bytes that may be moved between two waits. */
  get mostAtOnce(): number {
    return this.#rate?.mostAtOnce ?? Infinity;
  }

  /** Whether {@link wait} ever waits. */
  get mayWait(): boolean {
    return this.#gate !== undefined || this.#rate !== undefined;
  }

  /** A call for so many bytes took so many milliseconds. */
  took(bytes: number, milliseconds: number): void {
    this.#chunk.took(bytes, milliseconds);
  }

  /**
   * Waits until so many bytes may be moved, telling of pauses as they begin and end. Ends at once when the signal is
   * aborted.
   *
   * @param drained resolves when what we have asked the device for has come
   */
  async *wait(
    bytes: number,
    signal: AbortSignal,
    drained?: () => Promise<void>,
  ): AsyncGenerator<Pause, void, void> {
    if (this.#gate !== undefined) yield* pausesOf(this.#gate, signal, drained);
    const delay = this.#rate?.delayFor(bytes) ?? 0;
    if (delay >= 1) await sleep(delay, undefined, { signal }).catch(() => undefined);
  }
}

/** What the gate tells, as it tells it. */
async function* pausesOf(
  gate: PressureGate,
  signal: AbortSignal,
  drained?: () => Promise<void>,
): AsyncGenerator<Pause, void, void> {
  const told: Pause[] = [];
  let wake: () => void = () => undefined;
  let over = false;
  // Who asks for no more steps does not wait either.
  const left = new AbortController();
  const tell = (paused: boolean, percent: number) => {
    told.push({ paused, percent });
    wake();
  };
  const waiting = gate.giveWay(AbortSignal.any([signal, left.signal]), tell, drained).finally(() => {
    over = true;
    wake();
  });
  try {
    while (!over) {
      yield* told.splice(0);
      if (!over) await Promise.race([waiting, new Promise<void>((resolve) => (wake = resolve))]);
    }
  } finally {
    left.abort();
    await waiting;
  }
  yield* told;
}
