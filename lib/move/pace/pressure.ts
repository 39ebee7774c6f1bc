import { setTimeout } from 'node:timers/promises';
import type { Beginning } from './beginning.ts';
import {
  findPressureFile,
  readDeviceTraffic,
  readNow,
  readOwnTraffic,
  readPressure,
  type ReadText,
  type Traffic,
} from './counters.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

// All times are in milliseconds.
const SAMPLE_EVERY = 250;
/** How far back traffic is compared. */
const TRAFFIC_SPAN = 1000;
/** What we started gets time to drain, then it is measured who still waits. */
const LOOK = { drain: 100, measure: 300 };
const LOOK_COST = LOOK.drain + LOOK.measure;
/** Until the next look when nothing hints at others; doubled each time that it was only us. */
const LOOK_INTERVAL = { least: 10_000, most: 60_000 };
/** Looks at a mere hint come at once, but all in all take no more than this share of the time. */
const LOOK_CREDIT = { share: 0.04, most: 2 * LOOK_COST };
/** A pause ends when this much of the threshold was not exceeded for so long. */
const CALM = { share: 0.6, span: 2000 };
/** Traffic, in bytes a second, that cannot be ours. The journal, which the kernel writes for us, is a part of ours. */
const FOREIGN = { reads: 64 * KiB, writes: 1 * MiB, writesToOwn: 1.5 };

/** Percent of the time in which others wait that nobody would call pressure. */
const QUIET = 1;

/** What the gate needs of the system. */
export interface PressureOptions {
  /** The pressure before this program did anything, where it was noted. */
  readonly beginning?: Beginning | undefined;
  readonly read: ReadText;
  /** Milliseconds. */
  readonly now: () => number;
  /** Resolves at the end of the time, in milliseconds, or when aborted. */
  readonly sleep: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

/** Learns that a pause which others make necessary begins or ends, and in how much of the time somebody waited. */
export type TellPause = (paused: boolean, percent: number) => void;

interface Sample extends Beginning {
  readonly device: Traffic | undefined;
  readonly own: Traffic | undefined;
}

/**
 * Stops a run while others are kept waiting for I/O. The kernel's pressure counts our own waiting too, and a busy run
 * on an idle machine makes nearly all there can be. So when there is pressure, and reason to suspect others, the run
 * stops for a moment: what is left then is not ours.
 */
export class PressureGate {
  readonly #percent: number;
  readonly #sample: () => Sample;
  readonly #system: PressureOptions;
  /** Whether others may be waiting as the run begins. */
  #doubtful: boolean;
  /** The newest last, and the oldest as old as is looked back. Never empty. */
  #samples: Sample[];
  #lookedAt: number;
  #interval = LOOK_INTERVAL.least;
  #credit = LOOK_CREDIT.most;

  private constructor(percent: number, avg10: number, sample: () => Sample, system: PressureOptions) {
    const first = sample();
    const { beginning } = system;
    this.#percent = percent;
    this.#sample = sample;
    this.#system = system;
    this.#samples = [first];
    this.#lookedAt = first.time;
    // The average's ten seconds may be over by now: what others wait for still shows in a look.
    this.#doubtful = beginning === undefined ? avg10 > QUIET : percentBetween(beginning, first) > percent;
  }

  /**
   * To be opened before the run does anything. `percent` is how much of the time others may be kept waiting; from 100 on
   * there is never a pause. `deviceId` is "major:minor". undefined where the kernel does not tell the pressure.
   */
  static open(percent: number, deviceId: string, options: Partial<PressureOptions> = {}) {
    const system: PressureOptions = { read: readNow, now: () => performance.now(), sleep, ...options };
    const { read, now } = system;
    const file = findPressureFile(read);
    if (file === undefined) return undefined;
    let stalled = 0;
    const sample = () => {
      // A file that has gone shows no pressure, and so holds nobody up.
      stalled = readPressure(read, file)?.stalled ?? stalled;
      return { time: now(), stalled, device: readDeviceTraffic(read, deviceId), own: readOwnTraffic(read) };
    };
    return new PressureGate(percent, readPressure(read, file)?.avg10 ?? 0, sample, system);
  }

  /**
   * To be awaited before the first chunk and between chunks: resolves at once unless it takes a look or others are kept
   * waiting. Resolves soon after the signal is aborted.
   *
   * @param drained resolves when what we have asked the device for has come; needed for a look only
   */
  async giveWay(
    signal: AbortSignal | undefined,
    tell: TellPause,
    drained: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    if (this.#percent >= 100 || signal?.aborted) return;
    const doubtful = this.#doubtful;
    this.#doubtful = false;
    const isDue = () => this.#system.now() - this.#latest.time >= SAMPLE_EVERY && this.#isSuspicious();
    if (!doubtful && !isDue()) return;
    await drained();
    const alone = await this.#look(signal);
    if (alone > this.#percent && !signal?.aborted) await this.#pause(alone, signal, tell);
  }

  get #latest(): Sample {
    return this.#samples[this.#samples.length - 1];
  }

  /** Takes a sample, and forgets those that are not needed to look back for `span` ms. Answers the new one. */
  #add(span: number): Sample {
    const sample = this.#sample();
    while (this.#samples.length > 1 && sample.time - this.#samples[1].time >= span) this.#samples.shift();
    this.#samples.push(sample);
    return sample;
  }

  #isSuspicious(): boolean {
    const previous = this.#latest;
    const latest = this.#add(TRAFFIC_SPAN);
    this.#credit += (latest.time - previous.time) * LOOK_CREDIT.share;
    this.#credit = Math.min(this.#credit, LOOK_CREDIT.most);
    if (percentBetween(previous, latest) <= this.#percent) return false;
    if (latest.time - this.#lookedAt >= this.#interval) return true;
    // Our own traffic reaches the device a little later than it is counted: one part of the time alone could be that.
    const earlier = this.#samples.slice(0, -1);
    return this.#credit >= LOOK_COST && earlier.every((sample) => mayBeForeign(sample, latest));
  }

  /** Percent of the time in which others wait for the device while we do nothing. */
  async #look(signal: AbortSignal | undefined): Promise<number> {
    await this.#system.sleep(LOOK.drain, signal);
    this.#samples = [this.#sample()];
    await this.#system.sleep(LOOK.measure, signal);
    const alone = othersBetween(this.#latest, this.#add(LOOK.measure));
    this.#credit -= LOOK_COST;
    this.#interval = Math.min(this.#interval * 2, LOOK_INTERVAL.most);
    this.#lookedAt = this.#latest.time;
    return alone;
  }

  async #pause(percent: number, signal: AbortSignal | undefined, tell: TellPause): Promise<void> {
    tell(true, percent);
    let share: number;
    this.#samples = [this.#sample()];
    do {
      await this.#system.sleep(SAMPLE_EVERY, signal);
      const latest = this.#add(CALM.span);
      share = othersBetween(this.#samples[0], latest);
    } while (!signal?.aborted && !this.#isCalm(share));
    this.#samples = [this.#latest];
    this.#lookedAt = this.#latest.time;
    this.#interval = LOOK_INTERVAL.least;
    this.#credit = LOOK_CREDIT.most;
    tell(false, share);
  }

  #isCalm(share: number): boolean {
    const span = this.#latest.time - this.#samples[0].time;
    return span >= CALM.span && share <= this.#percent * CALM.share;
  }
}

function percentBetween(from: Beginning, to: Beginning): number {
  const time = to.time - from.time;
  return time > 0 ? Math.min(100, (100 * (to.stalled - from.stalled)) / time) : 0;
}

/** Percent of a time in which we did nothing, or 0 when nobody used the device: they wait for another one. */
function othersBetween(from: Sample, to: Sample): number {
  if (from.device && to.device) {
    const { read, written } = difference(from.device, to.device);
    if (((read + written) * 1000) / Math.max(1, to.time - from.time) < FOREIGN.reads) return 0;
  }
  return percentBetween(from, to);
}

/** Whether others seem to use the device. Where that is not told, they may. */
function mayBeForeign(from: Sample, to: Sample): boolean {
  if (!from.device || !from.own || !to.device || !to.own) return true;
  const seconds = (to.time - from.time) / 1000;
  const own = difference(from.own, to.own);
  const device = difference(from.device, to.device);
  return (
    device.read - own.read > FOREIGN.reads * seconds ||
    device.written > FOREIGN.writesToOwn * own.written + FOREIGN.writes * seconds
  );
}

const difference = (from: Traffic, to: Traffic): Traffic => ({
  read: to.read - from.read,
  written: to.written - from.written,
});

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  // Only the signal makes it reject.
  await setTimeout(ms, undefined, { signal }).catch(() => undefined);
}
