import {
  E4defragMoves,
  e4defragReason,
  E4defragStatistics,
  isOkAsItIs,
  refusedTarget,
  type E4defragOptions,
} from '../../report/e4defrag.ts';
import { failureText } from '../../report/failure.ts';
import type { Event, FailedEvent, FileEvent, Named, SkipEvent, TargetEvent } from '../../report/events.ts';
import type { Line } from '../../report/reporter.ts';
import { factsOf, lookAt, pathOf, rawExtents } from './facts.ts';
import { countNames } from './names.ts';

export interface TargetReportOptions extends Pick<E4defragOptions, 'verbose' | 'root'> {
  readonly statistics: boolean;
}

/** Reports the run on one target in e4defrag's words, and looks up what the engine's events do not tell. */
export class TargetReport {
  readonly #options: TargetReportOptions;
  #target: TargetEvent | undefined;
  #moves: E4defragMoves | undefined;
  #statistics: E4defragStatistics | undefined;
  /** Other names of files: how those lie shows only when the files were moved. */
  readonly #hardLinks: SkipEvent[] = [];

  constructor(options: TargetReportOptions) {
    this.#options = options;
  }

  get succeeded(): boolean {
    return (this.#moves ?? this.#statistics)?.succeeded ? true : this.#silentTree;
  }

  async lines(event: Event): Promise<readonly Line[]> {
    switch (event.type) {
      case 'target':
        return this.#begin(event);
      case 'unsupported':
        return refusedTarget(event, event.message);
      case 'failed':
        return this.#failed(event);
      case 'summary':
        return this.#end();
      case 'defragmented':
        return this.#moves!.ok(this.#named(event), event.fragmentsBefore, event.fragmentsAfter);
      case 'skip':
        return this.#skipped(event);
      case 'file':
        return this.#silentTree ? [] : this.#checked(event);
      default:
        return [];
    }
  }

  /** A file that the user named is called as it was named, whatever its real path. */
  #named(event: Named): Named {
    return this.#target?.kind === 'file' ? this.#target : event;
  }

  /** For anybody but root e4defrag -c says of a tree that it is done, and nothing else. */
  get #silentTree(): boolean {
    const { statistics, root, verbose } = this.#options;
    return statistics && !root && !verbose && this.#target !== undefined && this.#target.kind !== 'file';
  }

  async #begin(target: TargetEvent): Promise<Line[]> {
    this.#target = target;
    const { statistics, ...options } = this.#options;
    const path = target.kind === 'device' ? target.mountPoint : pathOf(target);
    const { names, regularFiles } =
      target.kind === 'file' ? { names: 1, regularFiles: 1 } : await countNames(Buffer.from(path));
    const forTarget = { ...options, target, names, regularFiles };
    if (statistics) {
      this.#statistics = new E4defragStatistics(forTarget);
      return this.#statistics.heading();
    }
    this.#moves = new E4defragMoves(forTarget);
    return E4defragMoves.heading(target);
  }

  #failed(event: FailedEvent): Line[] {
    const report = this.#moves ?? this.#statistics;
    if (report === undefined)
      return refusedTarget(event, `Failed to get file information: ${failureText(event)}`);
    return report.notGood(this.#named(event), failureText(event));
  }

  async #skipped(event: SkipEvent): Promise<Line[]> {
    const { blockSize } = this.#target!;
    if (this.#statistics !== undefined) {
      const facts = event.reason === 'hard-link' ? await lookAt(event, blockSize) : undefined;
      if (facts === undefined)
        return this.#statistics.notGood(this.#named(event), e4defragReason(event.reason));
      return this.#statistics.file(this.#named(event), facts);
    }
    const moves = this.#moves!;
    if (!isOkAsItIs(event.reason)) return moves.notGood(this.#named(event), e4defragReason(event.reason));
    // Only -v prints the number.
    if (!this.#options.verbose) return moves.ok(this.#named(event), 1, 1);
    if (event.reason === 'hard-link') {
      this.#hardLinks.push(event);
      return [];
    }
    return this.#unmoved(event);
  }

  async #unmoved(event: SkipEvent): Promise<Line[]> {
    const now = (await lookAt(event, this.#target!.blockSize))?.now ?? 1;
    return this.#moves!.ok(this.#named(event), now, now);
  }

  async #end(): Promise<Line[]> {
    const lines: Line[] = [];
    for (const event of this.#hardLinks) lines.push(...(await this.#unmoved(event)));
    return [...lines, ...((this.#moves ?? this.#statistics)?.summary() ?? [])];
  }

  async #checked(file: FileEvent): Promise<Line[]> {
    const { kind, blockSize } = this.#target!;
    const facts = await factsOf(file, blockSize);
    const listed = kind === 'file' && this.#options.verbose;
    return this.#statistics!.file(this.#named(file), facts, listed ? await rawExtents(file, blockSize) : []);
  }
}
