// A running guest, watched from its first message to its end.
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { execa } from 'execa';
import { LineSplitter, parseControl, type ControlMessage } from './channel.ts';
import { VmFailure, type FailureKind } from './failure.ts';
import { channels, firstChannel, qemuArguments, qemuCommand, type Channel, type Machine } from './qemu.ts';
import { LogWatch } from './watch.ts';

export interface GuestOptions {
  /** In seconds, from the start of QEMU. */
  readonly timeout: number;
  /** Lines of the kernel log that are expected and end nothing. */
  readonly allowLog?: readonly RegExp[];
  /** Where the command's own output goes, as it comes; the streams are not ended. */
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  readonly signal?: AbortSignal;
}

export interface GuestResult {
  readonly exitCode: number;
  readonly kernelRelease: string;
  readonly kernelLog: string;
  /** From the start of QEMU to the start of the command, and to the end of the run. */
  readonly bootSeconds: number;
  readonly seconds: number;
}

/** How long the rest of a trace may take after its first line. */
const traceMilliseconds = 700;

/** Runs the machine until its job is done. `opened` is called once QEMU has all its files open. */
export async function runGuest(
  machine: Machine,
  opened: () => Promise<void>,
  options: GuestOptions,
): Promise<GuestResult> {
  const guest = new Guest(options);
  const qemu = execa(...qemuCommand(qemuArguments(machine)), {
    stdio: ['ignore', 'ignore', 'pipe', ...channels.map(() => 'pipe' as const)],
    buffer: false,
    reject: false,
  });
  const stopWatching = guest.watch();
  let opening: Promise<void> | undefined;
  const take = async (channel: Channel, chunk: Buffer) => {
    if (channel === 'log') await (opening ??= opened()); // a machine that prints is complete
    await guest.receive(channel, chunk);
  };
  const complaints: string[] = [];
  const reading = Promise.all([
    eachChunk(qemu.stderr, (chunk) => complaints.push(chunk.toString())),
    ...channels.map((channel, index) =>
      eachChunk(qemu.stdio[firstChannel + index] as Readable, (chunk) => take(channel, chunk)),
    ),
  ]).catch((error: unknown) => guest.fail('aborted', `the output cannot be passed on: ${String(error)}`));
  void Promise.all([qemu, reading]).then(([{ exitCode, signal }]) => {
    const how = [`QEMU: ${signal ?? `exit status ${exitCode}`}`, ...complaints].join(', ').trim();
    guest.fail('lost', `the guest ended before it said "done" (${how})`);
  });
  await guest.ended;
  stopWatching();
  qemu.kill('SIGKILL');
  await Promise.all([qemu, reading]);
  return guest.result();
}

async function eachChunk(stream: Readable, take: (chunk: Buffer) => unknown): Promise<void> {
  for await (const chunk of stream) await take(chunk as Buffer);
}

/** What is known about a guest so far. */
class Guest {
  readonly ended: Promise<void>;
  readonly #options: GuestOptions;
  readonly #startTime = performance.now();
  readonly #received: Record<Channel, number> = { log: 0, control: 0, stdout: 0, stderr: 0, dmesg: 0 };
  readonly #lines = { log: new LineSplitter(), control: new LineSplitter(), dmesg: new LineSplitter() };
  readonly #watches: Record<'log' | 'dmesg', LogWatch>;
  readonly #log: string[] = [];
  #end: () => void = () => undefined;
  #failure: VmFailure | undefined;
  #told: { [M in ControlMessage as M['type']]?: M } = {};
  #bootSeconds = 0;
  #finished: Omit<GuestResult, 'kernelLog'> | undefined;

  constructor(options: GuestOptions) {
    this.#options = options;
    const allowed = options.allowLog ?? [];
    this.#watches = { log: new LogWatch(allowed), dmesg: new LogWatch(allowed) };
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Minds the clock and the caller's signal; the answer stops that. */
  watch(): () => void {
    const { timeout, signal } = this.#options;
    const late = () => this.fail('timeout', `the guest was not done after ${timeout} s`);
    const timer = setTimeout(late, timeout * 1000);
    const abort = () => this.fail('aborted', 'the run was stopped');
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
    return () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
  }

  /** The first failure counts; after a complete run there is none. */
  fail(kind: FailureKind, message: string, afterMilliseconds = 0): void {
    if (this.#failure || this.#finished) return;
    this.#failure = new VmFailure(kind, message);
    setTimeout(this.#end, afterMilliseconds);
  }

  async receive(channel: Channel, chunk: Buffer): Promise<void> {
    this.#received[channel] += chunk.length;
    if (channel === 'stdout' || channel === 'stderr') {
      const sink = this.#options[channel];
      if (sink && !sink.write(chunk)) await once(sink, 'drain');
    } else {
      for (const line of this.#lines[channel].push(chunk)) this.#take(channel, line);
    }
    this.#finishIfComplete();
  }

  result(): GuestResult {
    for (const line of this.#lines.log.end()) this.#log.push(line);
    const kernelLog = `${this.#log.join('\n')}\n`;
    if (this.#finished) return { ...this.#finished, kernelLog };
    const failure = this.#failure ?? new VmFailure('lost', 'the guest has no result');
    failure.kernelLog = kernelLog;
    throw failure;
  }

  #take(channel: 'log' | 'control' | 'dmesg', line: string): void {
    if (channel === 'control') {
      this.#heed(line);
      return;
    }
    if (channel === 'log') this.#log.push(line);
    const meaning = this.#watches[channel].judge(line);
    if (meaning !== undefined) this.fail('log', `${meaning}: ${line.trim()}`, traceMilliseconds);
  }

  #heed(line: string): void {
    const message = parseControl(line);
    if (message === undefined) {
      this.fail('guest', `the guest sent a control line that makes no sense: ${JSON.stringify(line)}`);
      return;
    }
    if (message.type === 'started') this.#bootSeconds = this.#seconds();
    this.#told = { ...this.#told, [message.type]: message };
  }

  /** The ports are independent of each other: "done" may arrive before the last of the output. */
  #finishIfComplete(): void {
    const { started, exited, sent, done } = this.#told;
    if (!started || !exited || !sent || !done || this.#failure || this.#finished) return;
    const streams = ['stdout', 'stderr', 'dmesg'] as const;
    if (streams.some((stream) => this.#received[stream] < sent[stream])) return;
    this.#finished = {
      exitCode: exited.status,
      kernelRelease: started.release,
      bootSeconds: this.#bootSeconds,
      seconds: this.#seconds(),
    };
    this.#end();
  }

  #seconds(): number {
    return (performance.now() - this.#startTime) / 1000;
  }
}
