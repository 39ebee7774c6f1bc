import { verdict } from '../../layout/score.ts';
import { REASONS } from '../../scan/reasons.ts';
import type { ExplainedMove, ExplainEvent, ExplainingEvent, Obstacle } from '../events.ts';
import { counted, formatCount, formatSeconds, formatSize } from '../format.ts';
import { printable, printableText } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { CommonText, howOften, row, type TextOptions } from './common.ts';

/** Extents that are listed without --verbose: a screen of them. */
const MOST_EXTENTS = 16;

/** All that decides about a file, for people. */
export class ExplainText implements Reporter<ExplainingEvent> {
  readonly #common: CommonText;
  #begun = false;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
  }

  lines(event: ExplainingEvent): readonly Line[] {
    switch (event.type) {
      case 'explain': {
        const lines = this.#file(event);
        const all = this.#begun ? ['', ...lines] : lines;
        this.#begun = true;
        return all.map(out);
      }
      case 'summary':
        return event.interrupted ? [out('Stopped by a signal.')] : [];
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  #file(event: ExplainEvent): string[] {
    const { style } = this.#common.options;
    const { fragments, idealFragments: ideal, extents, score } = event;
    return [
      style.strong(`${printable(event)}:`),
      row('Inode', String(event.inode)),
      row('Size', `${formatSize(event.size)} (${formatSize(event.bytes)} of blocks)`),
      row('Fragments', `${formatCount(fragments)}, ideal ${formatCount(ideal)}`),
      row('Extents', formatCount(extents.length)),
      row("e4defrag's score", `${score.toFixed(1)}: ${verdict(score)}`),
      row(
        'Estimated read',
        `${formatSeconds(event.readSeconds)}, ideal ${formatSeconds(event.idealReadSeconds)}`,
      ),
      ...this.#extents(event),
      ...this.#decision(event),
      ...this.#history(event),
      ...this.#obstacles(event),
    ];
  }

  #extents({ extents }: ExplainEvent): string[] {
    const shown = this.#common.options.verbose ? extents : extents.slice(0, MOST_EXTENTS);
    const left = extents.length - shown.length;
    return [
      ' fragment        offset of file        place on device        length',
      ...shown.map(({ fragment, offset, physical, length, unwritten }) => {
        const cells = [
          formatCount(fragment).padStart(9),
          formatCount(offset).padStart(21),
          formatCount(physical).padStart(22),
          formatSize(length).padStart(13),
        ];
        return cells.join(' ') + (unwritten ? '  unwritten' : '');
      }),
      ...(left > 0 ? [`${counted(left, 'more extent')}; -v lists them all.`] : []),
    ];
  }

  #decision({ notWorth, move }: ExplainEvent): string[] {
    const { style } = this.#common.options;
    if (move === undefined) return notWorth === undefined ? [] : [`Not worth moving: ${REASONS[notWorth]}.`];
    const { fragmentsBefore: before, fragmentsAfter: after, ranges, bytesToMove } = move;
    const { costSeconds, savedSeconds, readsToRegain } = move;
    const regained = readsToRegain === null ? '' : `; regained after ${counted(readsToRegain, 'read')}`;
    return [
      style.warning('Worth moving:'),
      row(
        'Move',
        `${formatSize(bytesToMove)} in ${counted(ranges.length, 'range')}: ${formatCount(before)} -> ${counted(after, 'fragment')}`,
      ),
      row(
        'Cost',
        `reads and writes ${formatSize(bytesToMove)}, about ${formatSeconds(costSeconds)} of the device`,
      ),
      row('Gain', `about ${formatSeconds(savedSeconds)} of each read from start to end${regained}`),
      row('Place', placeText(move)),
    ];
  }

  #history({ history }: ExplainEvent): string[] {
    if (history === undefined) return [];
    const { movedAt, fragmentsBefore: before, fragmentsAfter: after, fruitless } = history;
    const moved = `${movedAt.slice(0, 10)}, ${formatCount(before)} -> ${counted(after, 'fragment')}`;
    const inVain = fruitless === 0 ? '' : `; ${counted(fruitless, 'move')} in a row did not last`;
    return [row('Last moved', `${moved}${howOften(history)}${inVain}`)];
  }

  #obstacles({ inTheWay }: ExplainEvent): string[] {
    const { style } = this.#common.options;
    const paint = ({ prevents }: Obstacle) => (prevents ? style.bad('Prevented') : 'Hindered');
    if (inTheWay.length === 0) return [row('In the way', 'nothing')];
    return inTheWay.map((obstacle) => `${paint(obstacle)}: ${printableText(obstacle.message)}.`);
  }
}

function placeText({ pieces, ranges, spendable, largestRun }: ExplainedMove): string {
  if (pieces === null) return `none for all of it: ${formatSize(spendable)} may be used beside the reserve`;
  const fits = pieces <= ranges.length ? 'fits' : `comes in ${counted(pieces, 'piece')}`;
  return `${fits}; the longest free run is of ${formatSize(largestRun)}`;
}
