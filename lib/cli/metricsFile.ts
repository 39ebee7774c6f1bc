import { constants } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode, isSystemFailure } from '../kernel/errors.ts';
import type { Event } from '../report/events.ts';
import { failureText } from '../report/failure.ts';
import { HEAD, Metrics } from '../report/metrics.ts';
import { printable } from '../report/names.ts';
import { check, type CheckOptions } from '../scan/check.ts';
import { ForeignFile } from '../state/file.ts';
import { readRegularFile, replaceFile } from '../state/regularFile.ts';
import { EXIT } from './exitCode.ts';
import type { Invocation } from './options.ts';
import { UsageError } from './usageError.ts';

/** What we write is far smaller. */
const MOST_BYTES = 2 ** 20;

/** The file that `--metrics` names: what a run came to, for whoever collects that. */
export class MetricsFile {
  readonly #path: string;
  readonly #metrics: Metrics;
  readonly #options: CheckOptions;
  readonly #began = performance.now();
  /** What the run worked on, by the names in its events. */
  readonly #targets = new Map<string, string | Buffer>();
  #checked: boolean;

  /**
   * Looks whether the file can be had, before anything else is done.
   *
   * @throws UsageError
   */
  static async open(path: string, { command, targets, engine }: Invocation): Promise<MetricsFile> {
    try {
      await checkReplaceable(path);
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      throw new UsageError(`--metrics ${path}: ${reasonOf(error)}; name another file`);
    }
    // A plan file is not what is worked on, unless it is all that is told.
    const about = command === 'apply' && targets.length > 1 ? targets.slice(1) : targets;
    return new MetricsFile(path, new Metrics(command, about), command === 'check', engine);
  }

  private constructor(path: string, metrics: Metrics, checked: boolean, options: CheckOptions) {
    this.#path = path;
    this.#metrics = metrics;
    this.#checked = checked;
    this.#options = options;
  }

  see(event: Event): void {
    if (event.type === 'target') this.#targets.set(printable(event), event.pathBytes ?? event.path);
    this.#metrics.see(event);
  }

  /**
   * Writes the file. Unless the run was stopped, its targets are looked at first: what is watched is how things are.
   *
   * @returns why it could not be written
   */
  async write(exitCode: number, signal?: AbortSignal): Promise<string | undefined> {
    const seconds = (performance.now() - this.#began) / 1000;
    const time = Date.now() / 1000;
    try {
      if (exitCode !== EXIT.INTERRUPTED) await this.#survey(signal);
      await checkReplaceable(this.#path);
      await replaceFile(this.#path, this.#metrics.text({ exitCode, time, seconds }), 0o644);
      return undefined;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return `${printable({ path: this.#path })}: the metrics cannot be written: ${reasonOf(error)}`;
    }
  }

  async #survey(signal: AbortSignal | undefined): Promise<void> {
    if (this.#checked || this.#targets.size === 0) return;
    this.#checked = true;
    const { exclude, minSize, maxSize, deviceProfile } = this.#options;
    const options = { exclude, minSize, maxSize, deviceProfile, signal, top: 0 };
    for await (const event of check([...this.#targets.values()], options)) {
      // Sums of a part would look like those of all.
      if (signal?.aborted) return;
      this.#metrics.see(event);
    }
  }
}

/**
 * The folder must be there, and what a new file would replace must be one of ours: no link, no device, nothing that was
 * named by mistake.
 *
 * @throws a system error
 */
async function checkReplaceable(path: string): Promise<void> {
  await lstat(dirname(path));
  try {
    const content = await readRegularFile(path, MOST_BYTES, constants.O_NOFOLLOW);
    if (content?.length === 0 || content?.toString('latin1', 0, HEAD.length) === HEAD) return;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  throw new ForeignFile('it is not a file that this program wrote: it stays as it is');
}

function reasonOf(error: NodeJS.ErrnoException): string {
  const code = error.code ?? '';
  if (code === 'ELOOP') return 'it is a symbolic link, which is not followed';
  if (code === 'EINVAL') return 'it is no regular file';
  return failureText({ code, message: error.message });
}
