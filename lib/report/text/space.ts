import type {
  ClearableWindow,
  LargestFileEvent,
  SpaceEvent,
  SpaceReportEvent,
  SpaceSummary,
} from '../events.ts';
import { formatCount, formatRoundSize, formatSize } from '../format.ts';
import { printable, printableText } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { CommonText, problemLines, row, type TextOptions } from './common.ts';
import { freeSpaceTable } from './sizes.ts';

/** Free space and what it would do, for people. */
export class SpaceText implements Reporter<SpaceReportEvent> {
  readonly #common: CommonText;
  /** Whether there is something on stdout already. */
  #begun = false;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
  }

  lines(event: SpaceReportEvent): readonly Line[] {
    switch (event.type) {
      case 'space':
        return this.#section(this.#space(event));
      case 'largestFile':
        return this.#section(largestFileLines(event));
      case 'windows':
        return this.#section(event.windows.map(windowLine));
      case 'summary':
        return this.#section(summaryLines(event));
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  /** Sections are apart by one empty line. */
  #section(lines: readonly string[]): readonly Line[] {
    if (lines.length === 0) return [];
    const all = this.#begun ? ['', ...lines] : lines;
    this.#begun = true;
    return all.map(out);
  }

  #space(space: SpaceEvent): string[] {
    const { blockSize, spendable, reserve, largestAllocation, heldBack, promised, unreadable } = space;
    const where = `${printableText(space.device)} on ${printable({ path: space.mountPoint })}`;
    return [
      `${where}: ext4, blocks of ${formatRoundSize(blockSize)}`,
      ...freeSpaceTable(space, this.#common.options.style, false),
      '',
      row('May be used', `${formatSize(spendable)}; the reserve of ${formatSize(reserve)} is never entered`),
      row('One allocation', `${formatSize(largestAllocation)} at most, within a block group`),
      row('Held back', heldBackText(heldBack)),
      ...(promised
        ? [row('Promised', `${formatSize(promised)} to what is not written to the disk yet`)]
        : []),
      ...(unreadable === undefined
        ? []
        : [
            row(
              'Not known',
              `the largest file and what could be cleared, since ${printableText(unreadable)}`,
            ),
          ]),
    ];
  }
}

function heldBackText(heldBack: number | undefined): string {
  if (heldBack === undefined) return 'not known: the kernel does not show here what it has set aside';
  return heldBack === 0
    ? 'nothing'
    : `${formatSize(heldBack)}: preallocated, or freed and not committed yet; it will be free`;
}

function largestFileLines(file: LargestFileEvent): string[] {
  const { bytes, pieces, largestPiece, fragments, idealFragments } = file;
  const wouldCome =
    pieces === null
      ? `does not fit beside the reserve; ${formatSize(largestPiece)} of it could lie in one piece`
      : `would come in ${pieces === 1 ? 'one piece' : `${formatCount(pieces)} pieces`}`;
  const layout = `(now ${formatCount(fragments)}, ideal ${formatCount(idealFragments)})`;
  return [`The largest file, ${formatSize(bytes)}, ${wouldCome} ${layout}: ${printable(file)}`];
}

function windowLine({ run, evacuate }: ClearableWindow): string {
  const size = formatRoundSize(run);
  if (evacuate === null) return `No run of ${size} could be cleared by moving files.`;
  return `A run of ${size} could be cleared by moving ${formatSize(evacuate)} of files.`;
}

function summaryLines(summary: SpaceSummary): string[] {
  const stopped = summary.interrupted ? ['Stopped by a signal; the report is incomplete.'] : [];
  return [...problemLines(summary), ...stopped];
}
