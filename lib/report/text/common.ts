import { REASONS, type Reason } from '../../scan/reasons.ts';
import type {
  Event,
  FailedEvent,
  NoticeEvent,
  SkipEvent,
  UnsupportedEvent,
  WrittenEvent,
} from '../events.ts';
import { counted, formatCount, formatSize } from '../format.ts';
import { failureText } from '../failure.ts';
import type { MapStyle } from '../map.ts';
import { byFrequency, ENDED_BEFORE, FINE_AS_IT_IS, isWorthTelling, type Skipped } from '../leftAlone.ts';
import { printable, printableText } from '../names.ts';
import { err, out, type Line } from '../reporter.ts';
import type { Style } from '../style.ts';

export interface TextOptions {
  readonly verbose: boolean;
  /** For stdout. */
  readonly style: Style;
  /** For stderr. */
  readonly errorStyle: Style;
  /** How many of the worst files `check` and `map` list. */
  readonly top?: number;
  /** How the terminal shows a map. */
  readonly map?: MapStyle;
}

/** What every text report says alike: problems, and files left alone. */
export class CommonText {
  readonly options: TextOptions;
  targets = 0;
  targetIsFile = false;

  constructor(options: TextOptions) {
    this.options = options;
  }

  /** The lines of an event that all commands have, or undefined for the commands' own. */
  lines(event: Event): readonly Line[] | undefined {
    switch (event.type) {
      case 'target':
        this.targets++;
        this.targetIsFile = event.kind === 'file';
        return [];
      case 'failed':
        return [this.#problem(event, failureText(event))];
      case 'unsupported':
        this.targets++;
        return [this.#problem(event, `not supported: ${printableText(event.message)}`)];
      case 'skip':
        return this.#skip(event);
      case 'notice':
        return this.#notice(event);
      case 'written':
        return [out(writtenText(event))];
      default:
        return undefined;
    }
  }

  #problem(event: FailedEvent | UnsupportedEvent, what: string): Line {
    return err(`ext4-defrag: ${printable(event)}: ${this.options.errorStyle.bad(what)}`);
  }

  #notice({ about, message }: NoticeEvent): readonly Line[] {
    // Who did not ask for pauses does not miss them.
    if (about === 'pressure' && !this.options.verbose) return [];
    return [err(`ext4-defrag: note: ${printableText(message)}`)];
  }

  #skip(event: SkipEvent): readonly Line[] {
    const { verbose, style } = this.options;
    if (!isWorthTelling(event, { verbose, targetIsFile: this.targetIsFile })) return [];
    // A stopped run leaves a whole batch behind; the summary's count says it better than so many lines.
    if (ENDED_BEFORE.has(event.reason) && !verbose && !this.targetIsFile) return [];
    const paint = FINE_AS_IT_IS.has(event.reason) ? (text: string) => text : style.warning;
    const why = `${reasonText(event.reason, event.detail)}${howOften(event)}`;
    return [out(`${printable(event)}: ${paint('left alone')}: ${why}`)];
  }
}

/** How fast a file comes apart, where that is known. */
export function howOften({ fragmentsPerDay: perDay }: Pick<SkipEvent, 'fragmentsPerDay'>): string {
  // Two digits: it is a guess from a few runs.
  return perDay === undefined ? '' : ` (about ${counted(Number(perDay.toPrecision(2)), 'fragment')} a day)`;
}

const writtenText = (written: WrittenEvent): string =>
  `${written.what === 'page' ? 'Page' : 'Scan'} written to ${printable(written)} (${formatSize(written.bytes)})`;

/** A reason, and more of it where that is known. */
export const reasonText = (reason: Reason, detail: string | undefined): string =>
  detail === undefined ? REASONS[reason] : `${REASONS[reason]}: ${printableText(detail)}`;

/** A fact on a line of its own. */
export const row = (label: string, value: string): string => `${label.padEnd(18)}${value}`;

/** A headed list of reasons with counts, or nothing when there are none. */
export function reasonLines(heading: string, skipped: Skipped, keep = (_: Reason) => true): string[] {
  const rows = byFrequency(skipped).filter(([reason]) => keep(reason));
  if (rows.length === 0) return [];
  return [heading, ...rows.map(([reason, count]) => `${formatCount(count).padStart(9)}  ${REASONS[reason]}`)];
}

/** How many failed and how many targets are not supported, when any. */
export function problemLines({ failed, unsupported }: { failed: number; unsupported: number }): string[] {
  const lines: string[] = [];
  if (failed > 0) lines.push(`Failed: ${formatCount(failed)} (named on standard error).`);
  if (unsupported > 0) {
    lines.push(`Targets not supported: ${formatCount(unsupported)} (named on standard error).`);
  }
  return lines;
}
