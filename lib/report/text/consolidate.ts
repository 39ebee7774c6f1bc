import type { ConsolidatedEvent, ConsolidateEvent, ConsolidateSummary, FreeSpaceNow } from '../events.ts';
import { counted, formatCount, formatRoundSize, formatSeconds, formatSize } from '../format.ts';
import { printable, printableText } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import type { Style } from '../style.ts';
import { problemLines, type TextOptions } from './common.ts';
import { DefragText } from './defrag.ts';
import { freeSpaceTable } from './sizes.ts';

/** What `space --consolidate` did, for people. */
export class ConsolidateText implements Reporter<ConsolidateEvent> {
  readonly #style: Style;
  readonly #moving: DefragText;
  /** Whether there is something on stdout already. */
  #begun = false;

  constructor(options: TextOptions) {
    this.#style = options.style;
    this.#moving = new DefragText(options);
  }

  lines(event: ConsolidateEvent): readonly Line[] {
    switch (event.type) {
      case 'consolidated':
        return this.#section(consolidatedLines(event, this.#style));
      case 'summary':
        return this.#section(summaryLines(event));
      default:
        return this.#moving.lines(event);
    }
  }

  /** Sections are apart by one empty line. */
  #section(lines: readonly string[]): readonly Line[] {
    if (lines.length === 0) return [];
    const all = this.#begun ? ['', ...lines] : lines;
    this.#begun = true;
    return all.map(out);
  }
}

function consolidatedLines(event: ConsolidatedEvent, style: Style): string[] {
  const { windows, bytesEvacuated, before, after, longRun } = event;
  const where = `${printableText(event.device)} on ${printable({ path: event.mountPoint })}`;
  const done =
    windows === 0
      ? 'Nothing was cleared.'
      : `${counted(windows, 'window')} cleared: ${formatSize(bytesEvacuated)} of files moved out of the way.`;
  const inLongRuns = `in runs of ${formatRoundSize(longRun)} and more`;
  const rows: [label: string, of: (space: FreeSpaceNow) => string][] = [
    ['free', ({ bytes }) => formatSize(bytes)],
    ['runs', ({ runs }) => formatCount(runs)],
    ['longest run', ({ largestRun }) => formatSize(largestRun)],
    [inLongRuns, (space) => formatSize(space.inLongRuns)],
  ];
  return [
    `${where}: ${verdict(event, style)}`,
    done,
    row('', 'before', 'after'),
    ...rows.map(([label, of]) => row(label, of(before), of(after))),
    '',
    ...freeSpaceTable({ ...after, path: event.path }, style, false),
  ];
}

function verdict({ goal, reached, detail, windows, longRun }: ConsolidatedEvent, style: Style): string {
  const size = formatSize(goal.bytes);
  const wanted =
    goal.kind === 'run'
      ? `a free run of ${size}`
      : `${size} more in free runs of at least ${formatRoundSize(longRun)}`;
  if (!reached) return `${style.warning(`${wanted} could not be made`)}: ${printableText(detail ?? '')}`;
  return style.good(`${wanted}${windows === 0 ? ' was there already' : ''}`);
}

const row = (label: string, before: string, after: string): string =>
  `  ${label.padEnd(26)}  ${before.padStart(12)}  ${after.padStart(12)}`;

function summaryLines(summary: ConsolidateSummary): string[] {
  const { bytesEvacuated, bytesWritten, seconds, interrupted, budget } = summary;
  // The kernel need not tell what was written.
  const written = bytesWritten > 0 ? `, ${formatSize(bytesWritten)} written` : '';
  const moved =
    bytesEvacuated === 0
      ? []
      : [`${formatSize(bytesEvacuated)} moved${written}, in ${formatSeconds(seconds)}.`];
  const limit = budget?.reached === 'time' ? 'time limit' : 'limit of bytes to move';
  return [
    ...moved,
    ...problemLines(summary),
    ...(interrupted ? ['Stopped by a signal; all that was moved is committed.'] : []),
    ...(budget === undefined ? [] : [`Stopped at its ${limit}: run it again to go on.`]),
  ];
}
