import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const COMMAND = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** What of an event matters here. */
interface SeenEvent {
  readonly type: string;
  readonly step?: string;
  readonly command?: string;
}

/** The command at work, and what it tells. */
export class CommandRun {
  /** Its first event. */
  readonly begun: Promise<void>;
  /** It is gone, and everything that it told has been read. */
  readonly over: Promise<void>;
  /** Milliseconds from its start to its first event. */
  startup: number | undefined;
  /** Milliseconds from its first event to its end. */
  duration = 0;
  /** What should not happen. */
  readonly troubles: string[] = [];
  readonly #child: ChildProcess;
  readonly #started = performance.now();
  #last: SeenEvent | undefined;

  constructor(args: readonly string[]) {
    const child = spawn(process.execPath, [COMMAND, '--json', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    const lines = createInterface({ input: child.stdout });
    this.begun = once(lines, 'line').then(() => {
      this.startup = performance.now() - this.#started;
    });
    lines.on('line', (line) => this.#see(line));
    const complaint = text(child.stderr);
    this.over = Promise.all([once(child, 'close'), complaint, once(lines, 'close')]).then(([, said]) => {
      this.duration = performance.now() - this.#started - (this.startup ?? 0);
      if (said !== '') this.troubles.push(said);
      const { exitCode, signalCode } = child;
      if (exitCode !== 0 && signalCode !== 'SIGKILL')
        this.troubles.push(`ended with ${exitCode ?? signalCode}`);
    });
  }

  #see(line: string): void {
    try {
      this.#last = JSON.parse(line) as SeenEvent;
    } catch {
      // It was killed while it wrote that.
      return;
    }
    if (this.#last.type === 'failed' || this.#last.type === 'unsupported') this.troubles.push(line);
  }

  /** It came to its end by itself. */
  get ended(): boolean {
    return this.#last?.type === 'summary';
  }

  /** What it told last, in a word or two. */
  get stage(): string {
    const { type = 'nothing yet', step } = this.#last ?? {};
    return step === undefined ? type : `${type} ${step}`;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
