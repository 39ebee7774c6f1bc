import type { ApplyEvent, ApplySummary, DefragEvent, PlanSums, RestoredEvent } from '../events.ts';
import { counted, formatCount, formatSeconds, formatSize } from '../format.ts';
import { byFrequency } from '../leftAlone.ts';
import { printable } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import type { Style } from '../style.ts';
import { problemLines, reasonLines, type TextOptions } from './common.ts';
import { DefragText, endLines, traffic } from './defrag.ts';
import { applyLine } from './planFile.ts';

/** What `apply` did, for people. */
export class ApplyText implements Reporter<ApplyEvent> {
  readonly #options: TextOptions;
  readonly #moving: Reporter<DefragEvent>;

  constructor(options: TextOptions) {
    this.#options = options;
    this.#moving = new DefragText(options);
  }

  lines(event: ApplyEvent): readonly Line[] {
    switch (event.type) {
      case 'restored':
        return [out(this.#restored(event))];
      case 'summary':
        return summaryLines(event, this.#options.style).map(out);
      default:
        return this.#moving.lines(event);
    }
  }

  #restored(event: RestoredEvent): string {
    const change = `${formatCount(event.fragmentsBefore)} -> ${formatCount(event.fragmentsAfter)} fragments`;
    const done = this.#options.style.good(`put back, ${change}`);
    return `${printable(event)}: ${done}, ${formatSize(event.bytesMoved)} moved`;
  }
}

function summaryLines(summary: ApplySummary, style: Style): string[] {
  const { undoFile, predicted } = summary;
  const table = predicted.files === 0 ? [] : ['', ...comparison(summary, style)];
  const undo = undoFile === undefined ? [] : [applyLine('To put it back', undoFile)];
  const ending = [...problemLines(summary), ...endLines(summary), ...undo];
  return [
    '',
    headline(summary),
    ...reasonLines('Left alone:', summary.skipped),
    ...table,
    ...(table.length > 0 && ending.length > 0 ? [''] : []),
    ...ending,
  ];
}

function headline(summary: ApplySummary): string {
  const { kind, applied, predicted, skipped, failed, unsupported, seconds } = summary;
  const steps = counted(predicted.files, 'step');
  if (applied > 0) {
    const done = kind === 'undo' ? 'put back' : 'carried out';
    return `${formatCount(applied)} of ${steps} ${done}: ${traffic(summary)}, in ${formatSeconds(seconds)}.`;
  }
  if (byFrequency(skipped).length > 0) return `None of ${steps} could be carried out.`;
  if (failed + unsupported > 0) return 'Nothing was moved: the plan could not be worked on.';
  return predicted.files === 0 ? 'Nothing was moved: the plan has no steps.' : 'Nothing was moved.';
}

/** What the plan said, beside what came of it. */
function comparison({ kind, predicted, achieved }: ApplySummary, style: Style): string[] {
  const rows: [label: string, of: (sums: PlanSums) => string][] = [
    ['files', ({ files }) => formatCount(files)],
    ['fragments before', ({ fragmentsBefore }) => formatCount(fragmentsBefore)],
    ['fragments after', ({ fragmentsAfter }) => formatCount(fragmentsAfter)],
    ['moved', ({ bytes }) => formatSize(bytes)],
    // Reading what is in fragments again takes longer.
    kind === 'undo'
      ? ['lost a read', ({ savedSeconds }) => formatSeconds(Math.max(0, -savedSeconds))]
      : ['saved a read', ({ savedSeconds }) => formatSeconds(Math.max(0, savedSeconds))],
  ];
  const line = (label: string, left: string, right: string) =>
    `  ${label.padEnd(16)}  ${left.padStart(12)}  ${right.padStart(12)}`;
  return [
    style.strong('By the plan, and what came of it:'),
    line('', 'predicted', 'achieved'),
    ...rows.map(([label, of]) => line(label, of(predicted), of(achieved))),
  ];
}
