import { REASONS } from '../../scan/reasons.ts';
import type { ArrangementEvent, PlanEvent, PlanningEvent, PlanSummary } from '../events.ts';
import { counted, formatCount, formatSeconds, formatSize } from '../format.ts';
import { byFrequency } from '../leftAlone.ts';
import { printable } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { CommonText, problemLines, reasonLines, type TextOptions } from './common.ts';
import { applyLine } from './planFile.ts';

/** What `defrag` would do, for people. */
export class PlanText implements Reporter<PlanningEvent> {
  readonly #common: CommonText;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
  }

  lines(event: PlanningEvent): readonly Line[] {
    switch (event.type) {
      case 'plan':
        return this.#plan(event).map(out);
      case 'arrangement':
        return [out(this.#arrangement(event))];
      case 'summary':
        return summaryLines(event).map(out);
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  #arrangement(event: ArrangementEvent): string {
    const { files, jumpsBefore, jumpsAfter, bytesToMove } = event;
    const change = `${formatCount(jumpsBefore)} -> ${counted(jumpsAfter, 'jump')}`;
    return (
      `${printable(event)}: ${this.#common.options.style.good(change)} in reading ${counted(files, 'file')}, ` +
      `by moving ${formatSize(bytesToMove)}`
    );
  }

  #plan(event: PlanEvent): string[] {
    const { style, verbose } = this.#common.options;
    const change = `${formatCount(event.fragmentsBefore)} -> ${formatCount(event.fragmentsAfter)} fragments`;
    const line =
      `${printable(event)}: ${style.good(change)} by moving ${formatSize(event.bytesToMove)}, ` +
      `saves ${formatSeconds(event.savedSeconds)} a read`;
    if (!verbose) return [line];
    const ranges = event.ranges.map(
      ({ offset, length, fragments }) =>
        `    bytes ${formatCount(offset)} to ${formatCount(offset + length)} ` +
        `(${formatSize(length)}): ${counted(fragments, 'fragment')}`,
    );
    return [line, ...ranges];
  }
}

function summaryLines(summary: PlanSummary): string[] {
  const kept = byFrequency(summary.skipped).reduce((sum, [, count]) => sum + count, 0);
  const list = kept > 1 || summary.files > 1 ? reasonLines('To be left alone:', summary.skipped) : [];
  const stopped = summary.interrupted ? ['Stopped by a signal; the plan is incomplete.'] : [];
  const { planFile } = summary;
  const ending = planFile === undefined ? ['Nothing was written.'] : planFileLines(planFile);
  return [
    '',
    ...headline(summary),
    ...arrangementLines(summary),
    ...list,
    ...problemLines(summary),
    ...stopped,
    ...ending,
  ];
}

function planFileLines(path: string): string[] {
  return [
    `The plan is in ${printable({ path })}; nothing else was written.`,
    applyLine('To carry it out', path),
  ];
}

function arrangementLines({ arrangement }: PlanSummary): string[] {
  if (arrangement === undefined || arrangement.groupsToMove === 0) return [];
  const { groups, groupsToMove, bytesToMove, jumpsBefore, jumpsAfter } = arrangement;
  return [
    `${formatCount(groupsToMove)} of ${counted(groups, 'group')} of files to be put in order by moving ${formatSize(bytesToMove)}.`,
    `Jumps between files in order: ${formatCount(jumpsBefore)} -> ${formatCount(jumpsAfter)}.`,
  ];
}

function headline(summary: PlanSummary): string[] {
  const { files, filesToMove, bytesToMove, fragmentsBefore, fragmentsAfter, savedSeconds } = summary;
  if (filesToMove === 0) {
    if ((summary.arrangement?.groupsToMove ?? 0) > 0) return ['No file to be defragmented by itself.'];
    const reasons = byFrequency(summary.skipped);
    return [reasons.length === 1 ? `Nothing to move: ${REASONS[reasons[0][0]]}.` : 'Nothing to move.'];
  }
  return [
    `${formatCount(filesToMove)} of ${counted(files, 'file')} to defragment by moving ${formatSize(bytesToMove)}.`,
    `Fragments in all: ${formatCount(fragmentsBefore)} -> ${formatCount(fragmentsAfter)}; ` +
      `reading every file once takes ${formatSeconds(savedSeconds)} less.`,
  ];
}
