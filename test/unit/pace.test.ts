import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Budget } from '../../lib/move/budget.ts';
import { ChunkSize } from '../../lib/move/pace/chunkSize.ts';
import { Pace } from '../../lib/move/pace/pace.ts';
import { PressureGate, type PressureOptions } from '../../lib/move/pace/pressure.ts';
import { RateLimit } from '../../lib/move/pace/rateLimit.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

test('a call that takes more than half of what it may is followed by a smaller one', () => {
  const chunkAfter = (ms: number) => {
    const pace = new Pace({ maxLatency: 100 }, '7:0');
    const first = pace.chunkBytes;
    pace.took(first, ms);
    return pace.chunkBytes / first;
  };
  expect(chunkAfter(40)).toBeGreaterThan(1);
  expect(chunkAfter(60)).toBeLessThan(1);
});

describe('ChunkSize', () => {
  const limits = { least: 64 * KiB, most: 16 * MiB, limit: 20 };

  /** Milliseconds of calls that take what they may, on a device with a cost per call and a rate in bytes a ms. */
  const callsOn = (chunk: ChunkSize, count: number, cost: number, rate: number) =>
    Array.from({ length: count }, () => {
      const bytes = chunk.bytes;
      const ms = cost + bytes / rate;
      chunk.took(bytes, ms);
      return { bytes, ms };
    });

  test('without a limit it is always the most', () => {
    const chunk = new ChunkSize({ ...limits, limit: Infinity });
    expect(callsOn(chunk, 5, 1000, 1).map(({ bytes }) => bytes)).toEqual(Array(5).fill(16 * MiB));
  });

  test('stays within its bounds, whatever the calls take', () => {
    const call = fc.record({
      bytes: fc.integer({ min: 0, max: 64 * MiB }),
      ms: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 100_000, noNaN: true })),
    });
    const bounds = fc.record({
      least: fc.integer({ min: 1, max: 4 * MiB }),
      more: fc.integer({ min: 0, max: 64 * MiB }),
      limit: fc.oneof(fc.constant(Infinity), fc.double({ min: 0.01, max: 10_000, noNaN: true })),
    });
    fc.assert(
      fc.property(bounds, fc.array(call, { maxLength: 60 }), ({ least, more, limit }, calls) => {
        const chunk = new ChunkSize({ least, most: least + more, limit });
        for (const { bytes, ms } of [{ bytes: 0, ms: 0 }, ...calls]) {
          chunk.took(bytes, ms);
          expect(chunk.bytes).toBeGreaterThanOrEqual(least);
          expect(chunk.bytes).toBeLessThanOrEqual(least + more);
          expect(Number.isInteger(chunk.bytes)).toBe(true);
        }
      }),
    );
  });

  test('on a device of constant rate, calls come to take what the limit allows and no longer', () => {
    fc.assert(
      fc.property(fc.double({ min: 1, max: 8 * MiB, noNaN: true }), (rate) => {
        const chunk = new ChunkSize(limits);
        const late = callsOn(chunk, 100, 0, rate).slice(40);
        const ideal = Math.max(limits.least, Math.min(limits.most, rate * limits.limit));
        for (const { bytes, ms } of late) {
          if (bytes > limits.least) expect(ms).toBeLessThanOrEqual(limits.limit);
          expect(bytes).toBeGreaterThanOrEqual(Math.floor(ideal) - 1);
        }
      }),
    );
  });

  test('only the first calls on a slow device take longer than the limit', () => {
    const calls = callsOn(new ChunkSize(limits), 200, 2, 20 * KiB);
    const over = calls.map(({ ms }) => ms > limits.limit);
    // The second is cut as if calls cost nothing but their bytes.
    expect(over).toEqual(over.map((_, i) => i < 2));
    expect(calls[1].ms).toBeLessThan(22);
    // 18 of the 20 ms are left for the bytes.
    expect(calls.at(-1)?.bytes).toBeGreaterThan(0.9 * 18 * 20 * KiB);
  });

  test('doubles while calls are quick, and after the first that is not grows by steps', () => {
    const chunk = new ChunkSize(limits);
    const sizes = callsOn(chunk, 4, 0, 4 * MiB).map(({ bytes }) => bytes / MiB);
    // 64 KiB for each millisecond of the limit at first.
    expect(sizes).toEqual([1.25, 2.5, 5, 10]);
    chunk.took(16 * MiB, 21);
    expect(chunk.bytes).toBe(8 * MiB);
    chunk.took(8 * MiB, 1);
    expect(chunk.bytes).toBe(8.5 * MiB);
    chunk.took(8 * MiB, 160);
    expect(chunk.bytes).toBe(1 * MiB);
  });

  test('short calls do not make it grow, but cut it when they take too long', () => {
    const chunk = new ChunkSize(limits);
    for (let i = 0; i < 100; i++) chunk.took(4 * KiB, 0.01);
    expect(chunk.bytes).toBe(1.25 * MiB);
    chunk.took(256 * KiB, 40);
    expect(chunk.bytes).toBe(128 * KiB);
  });

  test('what a device was slow at is not tried again at once, and a slow moment is forgotten', () => {
    const chunk = new ChunkSize(limits);
    callsOn(chunk, 10, 0, 4 * MiB);
    chunk.took(16 * MiB, 2000);
    const calls = callsOn(chunk, 60, 0, 4 * MiB).map(({ bytes }) => bytes);
    expect(calls[0]).toBeLessThan(200 * KiB);
    expect(calls[1]).toBeLessThan(1 * MiB);
    expect(calls.at(-1)).toBe(16 * MiB);

    const wary = new ChunkSize(limits);
    wary.took(1 * MiB, 40);
    wary.took(512 * KiB, 10);
    // A quarter of the way from 512 KiB in 20 ms to 1 MiB in 20 ms.
    expect(wary.bytes).toBe(640 * KiB);
  });
});

describe('RateLimit', () => {
  test('over any sequence no more than rate × time and one burst', () => {
    const step = fc.record({
      bytes: fc.integer({ min: 0, max: 4 * MiB }),
      idle: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 5000, noNaN: true })),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1000, max: 100 * MiB }), fc.array(step), (rate, steps) => {
        let now = 5;
        const limit = new RateLimit(rate, () => now);
        // When each piece was over, and all bytes so far: what is between any two must not be too much.
        const done = [{ at: now, bytes: 0 }];
        for (const { bytes, idle } of steps) {
          now += idle;
          now += limit.delayFor(bytes);
          done.push({ at: now, bytes: done[done.length - 1].bytes + bytes });
        }
        for (const [i, to] of done.entries()) {
          for (const from of done.slice(0, i)) {
            const most = (rate * (to.at - from.at)) / 1000 + rate / 4;
            expect(to.bytes - from.bytes).toBeLessThanOrEqual(most * (1 + 1e-9) + 1);
          }
        }
      }),
    );
  });

  test('a steady stream gets the whole rate', () => {
    let now = 0;
    const limit = new RateLimit(10 * MiB, () => now);
    expect(limit.mostAtOnce).toBe(2.5 * MiB);
    for (let i = 0; i < 40; i++) {
      // Work takes time too, which the wait is shorter by.
      now += 10;
      now += limit.delayFor(1 * MiB);
    }
    expect(now).toBeCloseTo(4000);
  });

  test('idle time is credited for a quarter of a second only, debt is kept', () => {
    let now = 0;
    const limit = new RateLimit(1 * MiB, () => now);
    expect(limit.mostAtOnce).toBe(256 * KiB);
    now = 60_000;
    expect(limit.delayFor(256 * KiB)).toBe(0);
    expect(limit.delayFor(4 * MiB)).toBe(4000);
    now += 1000;
    expect(limit.delayFor(0)).toBe(3000);
    expect(new RateLimit(1000, () => now).mostAtOnce).toBe(64 * KiB);
  });
});

describe('Budget', () => {
  test('without limits it is never exhausted', () => {
    using budget = new Budget(undefined, {});
    budget.spend(1e15);
    expect(budget).toMatchObject({ bytesLeft: Infinity, reached: undefined });
    expect(budget.signal.aborted).toBe(false);
  });

  test('ends with its time or its bytes, whichever comes first', () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    using budget = new Budget(undefined, { time: 50, bytes: 10 });
    budget.spend(9);
    vi.advanceTimersByTime(49);
    expect(budget).toMatchObject({ bytesLeft: 1, reached: undefined });
    budget.spend(5);
    expect(budget).toMatchObject({ bytesLeft: 0, reached: 'bytes' });
    vi.advanceTimersByTime(1);
    expect(budget.reached).toBe('bytes');
    expect(budget.signal.aborted).toBe(true);
    // Longer than a timer of Node's can be.
    using long = new Budget(undefined, { time: 1e12 });
    vi.advanceTimersByTime(1000);
    expect(long.signal.aborted).toBe(false);
  });

  test('what is within a wider one ends with it, and spends of it', () => {
    const stop = new AbortController();
    using wide = new Budget(stop.signal, { bytes: 10 });
    using narrow = new Budget(wide, { bytes: 8 });
    using other = new Budget(wide, { bytes: 8 });
    narrow.spend(5);
    expect([narrow.bytesLeft, other.bytesLeft, wide.bytesLeft]).toEqual([3, 5, 5]);
    narrow.spend(3);
    expect(narrow.reached).toBe('bytes');
    expect(wide.signal.aborted || other.signal.aborted).toBe(false);
    other.spend(2);
    expect([wide.reached, other.reached]).toEqual(['bytes', 'bytes']);
    expect(other.signal.aborted).toBe(true);
    using third = new Budget(new Budget(stop.signal, {}), {});
    stop.abort();
    expect(third.signal.aborted).toBe(true);
    expect(third.reached).toBeUndefined();
  });
});

/** A machine with one device, on which we and others work. Times are in milliseconds, rates in bytes a second. */
class Machine {
  now = 1000;
  readonly files = new Map<string, string>();
  /** The share of the time that others wait for I/O while we rest, 0 to 1, and the bytes that they read and write. */
  others = (_now: number) => ({ waiting: 0, reads: 0, writes: 0 });
  /** The same of us while we work. */
  we = { waiting: 1, reads: 50 * MiB, writes: 50 * MiB };
  /** How long what we started goes on after we have stopped. */
  drain = 80;
  avg10 = 0;
  worked = 0;
  looks = 0;
  readonly pauses: { paused: boolean; percent: number; at: number }[] = [];
  #stalled = 0;
  #busyUntil = 0;
  #own = { reads: 0, writes: 0 };
  #device = { reads: 0, writes: 0 };

  constructor(hidden: readonly string[] = []) {
    this.#write();
    for (const path of hidden) this.#hidden.add(path);
  }
  readonly #hidden = new Set<string>();

  #write() {
    const sectors = (bytes: number) => Math.floor(bytes / 512);
    const { reads, writes } = this.#device;
    this.files.set(
      '/proc/pressure/io',
      `some avg10=${this.avg10.toFixed(2)} avg60=90.00 avg300=90.00 total=${Math.floor(this.#stalled * 1000)}\n` +
        'full avg10=99.00 avg60=99.00 avg300=99.00 total=1\n',
    );
    this.files.set('/sys/dev/block/8:1/stat', `  1 2 ${sectors(reads)} 4 5 6 ${sectors(writes)} 8 0 10 11\n`);
    this.files.set(
      '/proc/self/io',
      `rchar: 1\nread_bytes: ${this.#own.reads}\nwrite_bytes: ${this.#own.writes}\ncancelled_write_bytes: 9\n`,
    );
  }

  read = (path: string): string | undefined => {
    this.#write();
    return this.#hidden.has(path) ? undefined : this.files.get(path);
  };

  #advance(ms: number, working: boolean) {
    for (let left = ms; left > 0; left -= 10, this.now += 10) {
      const others = this.others(this.now);
      if (working) this.#busyUntil = this.now + this.drain;
      const waiting = this.now < this.#busyUntil ? Math.max(this.we.waiting, others.waiting) : others.waiting;
      this.#stalled += 10 * waiting;
      const own = working ? this.we : { reads: 0, writes: 0 };
      for (const kind of ['reads', 'writes'] as const) {
        this.#own[kind] += own[kind] / 100;
        this.#device[kind] += (own[kind] + others[kind]) / 100;
      }
    }
  }

  sleep = (ms: number, signal: AbortSignal | undefined): Promise<void> => {
    if (!signal?.aborted) this.#advance(ms, false);
    if (this.now > 1e6) throw new Error('paused for ever');
    return Promise.resolve();
  };

  open(percent: number, options: Partial<PressureOptions> = {}) {
    const { read, sleep } = this;
    return PressureGate.open(percent, '8:1', { read, sleep, now: () => this.now, ...options });
  }

  /** Works in chunks until a time, between which it gives way. */
  async run(percent: number, until: number, signal?: AbortSignal, chunk = 30) {
    const gate = this.open(percent);
    const started = this.now;
    while (this.now < until && !signal?.aborted) {
      const before = this.now;
      const told = this.pauses.length;
      await gate?.giveWay(signal, (paused, share) =>
        this.pauses.push({ paused, percent: share, at: this.now }),
      );
      if (this.now > before && this.pauses.length === told) this.looks++;
      if (this.now >= until || signal?.aborted) break;
      this.#advance(chunk, true);
      this.worked += chunk;
    }
    return this.worked / (this.now - started);
  }
}

const between = (from: number, to: number, others: ReturnType<Machine['others']>) => (now: number) =>
  now >= from && now < to ? others : { waiting: 0, reads: 0, writes: 0 };

describe('PressureGate', () => {
  const scan = { waiting: 0.6, reads: 20 * MiB, writes: 0 };

  test('our own pressure causes looks, ever fewer, but no pause', async () => {
    const machine = new Machine();
    const working = await machine.run(20, 301_000);
    expect(machine.pauses).toEqual([]);
    // After 10, 30, 70, 130, 190 and 250 s.
    expect(machine.looks).toBe(6);
    expect(working).toBeGreaterThan(0.98);
  });

  test('no looks without pressure', async () => {
    const machine = new Machine();
    machine.we.waiting = 0.1;
    machine.others = () => ({ waiting: 0.1, reads: 20 * MiB, writes: 0 });
    await machine.run(20, 100_000);
    expect(machine).toMatchObject({ pauses: [], looks: 0 });
  });

  test('others that use the device without waiting cost little time', async () => {
    for (const others of [
      { waiting: 0.05, reads: 1 * MiB, writes: 0 },
      { waiting: 0.05, reads: 0, writes: 40 * MiB },
    ]) {
      const machine = new Machine();
      machine.others = () => others;
      const working = await machine.run(20, 121_000);
      expect(machine.pauses).toEqual([]);
      expect(machine.looks).toBeGreaterThan(8);
      expect(working).toBeGreaterThan(0.95);
    }
  });

  test('our own writes that reach the device late are not taken for those of others', async () => {
    const machine = new Machine();
    // Half of each second nothing arrives, and twice as much in the other half.
    machine.we.writes = 50 * MiB;
    machine.others = (now) => ({ waiting: 0, reads: 0, writes: now % 1000 < 500 ? -50 * MiB : 50 * MiB });
    await machine.run(20, 10_000);
    expect(machine).toMatchObject({ pauses: [], looks: 0 });
  });

  test.each([
    ['reads', scan],
    ['writes', { waiting: 0.6, reads: 0, writes: 200 * MiB }],
  ])('others that wait and whose %s are seen pause the run within a second', async (_, others) => {
    for (const from of [1000, 5000, 5130, 12_000, 65_000]) {
      const machine = new Machine();
      machine.we.waiting = 0.5;
      machine.others = between(from, from + 20_000, others);
      await machine.run(20, from + 30_000);
      expect(machine.pauses).toHaveLength(2);
      const [begin, end] = machine.pauses;
      expect(begin).toMatchObject({ paused: true });
      expect(begin.percent).toBeCloseTo(60);
      expect(begin.at - from).toBeLessThanOrEqual(1000);
      expect(end.paused).toBe(false);
      expect(end.percent).toBeLessThanOrEqual(12);
      // The mean of two seconds is low enough when the last 400 ms of 60 % are in it.
      expect(end.at - (from + 20_000)).toBeGreaterThanOrEqual(1500);
      expect(end.at - (from + 20_000)).toBeLessThanOrEqual(2000);
    }
  });

  test('others whose traffic is not seen are found by the regular look', async () => {
    const machine = new Machine();
    machine.others = between(5000, 20_000, { waiting: 0.9, reads: 0, writes: 1 * MiB });
    await machine.run(20, 25_000);
    expect(machine.pauses.map(({ paused }) => paused)).toEqual([true, false]);
    expect(machine.pauses[0].at).toBeGreaterThan(11_000);
    expect(machine.pauses[0].at).toBeLessThanOrEqual(11_700);
  });

  test('after a pause the looks are frequent again', async () => {
    const machine = new Machine();
    const seen = between(100_000, 110_000, scan);
    const unseen = between(115_000, 130_000, { ...scan, reads: 0, writes: MiB });
    machine.others = (now) => (now < 115_000 ? seen : unseen)(now);
    await machine.run(20, 140_000);
    expect(machine.pauses.map(({ paused }) => paused)).toEqual([true, false, true, false]);
    expect(machine.pauses[2].at).toBeLessThan(123_500);
  });

  test('a pause goes on while the pressure is above 60 % of the threshold', async () => {
    const machine = new Machine();
    machine.others = (now) => ({ ...scan, waiting: now < 10_000 ? 0.6 : now < 20_000 ? 0.15 : 0.1 });
    await machine.run(20, 25_000);
    const [begin, end] = machine.pauses;
    expect(begin.at).toBeLessThan(2000);
    expect(end.at).toBeGreaterThan(20_000);
    expect(end.at).toBeLessThanOrEqual(22_250);
    // Below the threshold, they are left waiting all the same: what they read costs a look now and then.
    expect(machine.pauses).toHaveLength(2);
  });

  test('one pause after the other is found within a second', async () => {
    const machine = new Machine();
    machine.others = (now) => (now % 5000 < 2000 ? scan : { waiting: 0, reads: 0, writes: 0 });
    await machine.run(20, 61_000);
    const begins = machine.pauses.filter(({ paused }) => paused).map(({ at }) => at % 5000);
    expect(begins.length).toBeGreaterThanOrEqual(12);
    expect(Math.max(...begins.slice(1))).toBeLessThanOrEqual(1000);
  });

  test('a pause is not ended by a quiet moment', async () => {
    const machine = new Machine();
    machine.others = (now) => ({ ...scan, waiting: now < 31_000 && now % 1000 < 500 ? 1 : 0 });
    await machine.run(20, 40_000);
    expect(machine.pauses.map(({ paused }) => paused)).toEqual([true, false]);
    expect(machine.pauses[1].at).toBeGreaterThan(31_500);
  });

  test('a pause ends when the pressure cannot be read any more', async () => {
    const machine = new Machine();
    machine.others = () => scan;
    const { read } = machine;
    machine.read = (path) => (path === '/proc/pressure/io' && machine.now > 9000 ? undefined : read(path));
    await machine.run(20, 40_000);
    expect(machine.pauses.map(({ paused }) => paused)).toEqual([true, false]);
    expect(machine.pauses[1].at).toBeLessThan(11_500);
  });

  test.each([
    { avg10: 2, beginning: undefined },
    { avg10: 0, beginning: { time: 900, stalled: -30 } },
  ])('who waits as the run begins is others: $avg10, $beginning', async ({ avg10, beginning }) => {
    const machine = new Machine();
    machine.avg10 = avg10;
    machine.others = between(0, 4000, { waiting: 0.3, reads: MiB, writes: 0 });
    const gate = machine.open(20, { beginning });
    const told: [boolean, number][] = [];
    const tell = (paused: boolean, percent: number) => told.push([paused, percent]);
    await gate?.giveWay(undefined, tell);
    expect(machine.worked).toBe(0);
    expect(told).toEqual([
      [true, expect.closeTo(30) as number],
      [false, expect.any(Number) as number],
    ]);
    expect(told[1][1]).toBeLessThan(12.1);
    const before = machine.now;
    await gate?.giveWay(undefined, tell);
    expect([told.length, machine.now]).toEqual([2, before]);
  });

  test.each([
    // Nobody has waited of late.
    { avg10: 0.5, beginning: undefined, looks: false },
    // What was waited for is over.
    { avg10: 60, beginning: undefined, looks: true },
    { avg10: 60, beginning: { time: 900, stalled: 0 }, looks: false },
  ])('what is over holds nobody up: $avg10, $beginning', async ({ avg10, beginning, looks }) => {
    const machine = new Machine();
    machine.avg10 = avg10;
    const before = machine.now;
    await machine.open(20, { beginning })?.giveWay(undefined, () => expect.fail());
    expect(machine.now - before).toBe(looks ? 400 : 0);
  });

  test('a pause ends when the device is left alone, whatever others wait for', async () => {
    const machine = new Machine();
    machine.others = (now) => ({ waiting: 0.9, reads: now > 3000 && now < 6000 ? MiB : 0, writes: 0 });
    await machine.run(20, 20_000);
    expect(machine.pauses.map(({ paused }) => paused)).toEqual([true, false]);
    expect(machine.pauses[1].at).toBeLessThan(8500);
  });

  test('who waits for another device holds nobody up', async () => {
    const machine = new Machine();
    machine.others = () => ({ waiting: 0.9, reads: 0, writes: 0 });
    expect(await machine.run(20, 60_000)).toBeGreaterThan(0.95);
    expect(machine.looks).toBeGreaterThan(0);
    expect(machine.pauses).toEqual([]);
  });

  test('from 100 percent on there is never a pause', async () => {
    const machine = new Machine();
    machine.avg10 = 100;
    machine.others = () => ({ waiting: 1, reads: 20 * MiB, writes: 0 });
    expect(await machine.run(100, 60_000)).toBe(1);
    expect(machine.pauses).toEqual([]);
  });

  test('an abort ends a look and a pause at once', async () => {
    const machine = new Machine();
    machine.others = () => scan;
    for (const sleeps of [1, 2, 3, 10]) {
      const controller = new AbortController();
      const { sleep } = machine;
      let left = sleeps;
      machine.sleep = async (ms, signal) => {
        await sleep(--left === 0 ? 50 : ms, signal);
        if (left === 0) controller.abort();
      };
      machine.pauses.length = 0;
      await machine.run(20, machine.now + 60_000, controller.signal);
      machine.sleep = sleep;
      // Of those asked for after the abort, at most the second half of a look.
      expect(left).toBeGreaterThanOrEqual(-1);
      expect(machine.pauses.map(({ paused }) => paused)).toEqual(sleeps < 3 ? [] : [true, false]);
    }
    const gate = machine.open(0);
    const before = machine.now;
    await gate?.giveWay(AbortSignal.abort(), () => expect.unreachable());
    expect(machine.now).toBe(before);
  });

  test('a real pause ends when the signal is aborted', async () => {
    const controller = new AbortController();
    // Somebody waits half of the time.
    const read = (path: string) =>
      path === '/proc/pressure/io'
        ? `some avg10=50.00 avg60=0.00 avg300=0.00 total=${Math.floor(performance.now() * 500)}\n`
        : undefined;
    const gate = PressureGate.open(20, '8:1', { read });
    const told: boolean[] = [];
    let slept = false;
    let timer: NodeJS.Timeout | undefined;
    await gate?.giveWay(controller.signal, (paused) => {
      told.push(paused);
      timer ??= setTimeout(() => (slept = true), 200);
      setImmediate(() => controller.abort());
    });
    clearTimeout(timer);
    expect(told).toEqual([true, false]);
    expect(slept).toBe(false);
  });

  test.each(['/sys/dev/block/8:1/stat', '/proc/self/io'])(
    'without %s it goes by pressure alone',
    async (path) => {
      const quiet = new Machine([path]);
      const working = await quiet.run(20, 301_000);
      expect(quiet.pauses).toEqual([]);
      expect(quiet.looks).toBeGreaterThan(6);
      expect(working).toBeGreaterThan(0.95);

      const busy = new Machine([path]);
      busy.we.waiting = 0.1;
      busy.others = between(3000, 20_000, { waiting: 0.6, reads: MiB, writes: 0 });
      await busy.run(20, 15_000);
      expect(busy.pauses[0].at).toBeLessThan(4000);
    },
  );

  test('the whole disk counts where the device is a partition', async () => {
    const machine = new Machine();
    machine.files.set('/sys/dev/block/8:1/../stat', '1 2 3 4 5 6 7 8 9 10 11');
    machine.others = () => scan;
    // Nothing but our own there, as it stands still: not before the regular look.
    await machine.run(20, 10_000);
    expect(machine.pauses).toEqual([]);
  });

  test('pressure is told by the cgroup where the machine does not tell it, or not at all', () => {
    const open = (files: Record<string, string>) =>
      PressureGate.open(20, '8:1', { read: (path) => (path in files ? files[path] : undefined) });
    const pressure = 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n';
    const cgroup = { '/proc/self/cgroup': '3:cpu:/other\n0::/user.slice/run\n' };
    expect(open({})).toBeUndefined();
    expect(open(cgroup)).toBeUndefined();
    expect(open({ ...cgroup, '/proc/pressure/io': '' })).toBeUndefined();
    expect(open({ '/proc/pressure/io': pressure })).toBeDefined();
    for (const mount of ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']) {
      expect(open({ ...cgroup, [`${mount}/user.slice/run/io.pressure`]: pressure })).toBeDefined();
      expect(open({ '/proc/self/cgroup': '0::/\n', [`${mount}/io.pressure`]: pressure })).toBeDefined();
    }
    expect(open({ ...cgroup, '/sys/fs/cgroup/other/io.pressure': pressure })).toBeUndefined();
  });
});
