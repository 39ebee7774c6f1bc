import { REASONS, type Reason } from '../../scan/reasons.ts';
import type { DefragEvent, DefragmentedEvent, DefragSummary } from '../events.ts';
import { counted, formatCount, formatSeconds, formatSize } from '../format.ts';
import { byFrequency, FINE_AS_IT_IS } from '../leftAlone.ts';
import { printable } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { CommonText, problemLines, reasonLines, type TextOptions } from './common.ts';

/** What `defrag` did, for people. */
export class DefragText implements Reporter<DefragEvent> {
  readonly #common: CommonText;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
  }

  lines(event: DefragEvent): readonly Line[] {
    switch (event.type) {
      case 'defragmented':
        return [out(this.#defragmented(event))];
      case 'summary':
        return this.#summary(event).map(out);
      case 'progress':
        return [];
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  #defragmented(event: DefragmentedEvent): string {
    const { style } = this.#common.options;
    const change = `${formatCount(event.fragmentsBefore)} -> ${formatCount(event.fragmentsAfter)} fragments`;
    const line = `${printable(event)}: ${style.good(change)}, ${formatSize(event.bytesMoved)} moved`;
    if (event.incomplete === undefined) return line;
    return `${line}; ${style.warning('not all of it')}: ${REASONS[event.incomplete]}`;
  }

  #summary(summary: DefragSummary): string[] {
    const leftAlone = byFrequency(summary.skipped);
    const kept = leftAlone.reduce((sum, [, count]) => sum + count, 0);
    // The one file's reason stands in its own line and in the headline.
    const list = kept > 1 || summary.files > 1 ? reasonLines('Left alone:', summary.skipped) : [];
    const stopped = summary.interrupted ? ['Stopped by a signal; all that was moved is committed.'] : [];
    return ['', ...headline(summary), ...list, ...problemLines(summary), ...stopped];
  }
}

function headline(summary: DefragSummary): string[] {
  if (summary.defragmented === 0) return [nothing(summary)];
  const { files, defragmented, fragmentsBefore, fragmentsAfter, bytesMoved, seconds } = summary;
  return [
    `${formatCount(defragmented)} of ${counted(files, 'file')} defragmented, ` +
      `${formatSize(bytesMoved)} moved in ${formatSeconds(seconds)}.`,
    `Fragments in all: ${formatCount(fragmentsBefore)} -> ${formatCount(fragmentsAfter)}.`,
  ];
}

/** Says that no file is better than before, and why. */
function nothing({ files, skipped, failed, unsupported, interrupted }: DefragSummary): string {
  const reasons = byFrequency(skipped).map(([reason]) => reason);
  const hindered = reasons.filter((reason) => !FINE_AS_IT_IS.has(reason) && reason !== 'interrupted');
  if (hindered.length > 0) return `Nothing could be improved${because(hindered, 'for the reasons below')}.`;
  if (interrupted) return 'Nothing was moved: the run was stopped before.';
  if (failed > 0 && files > 0) return 'Nothing was moved: what was tried failed.';
  if (reasons.length > 0) return `Nothing was moved${because(reasons, 'no file needs it')}.`;
  if (failed + unsupported > 0) return 'Nothing was moved: no target could be worked on.';
  return 'Nothing was moved: there are no files here.';
}

const because = (reasons: readonly Reason[], otherwise: string): string =>
  `: ${reasons.length === 1 ? REASONS[reasons[0]] : otherwise}`;
