import { REASONS, type Reason } from '../../scan/reasons.ts';
import type {
  ArrangedEvent,
  DefragEvent,
  DefragmentedEvent,
  DefragSummary,
  PauseEvent,
  PlacementEvent,
  PlacementStep,
} from '../events.ts';
import { counted, formatCount, formatSeconds, formatSize } from '../format.ts';
import { byFrequency, ENDED_BEFORE, FINE_AS_IT_IS } from '../leftAlone.ts';
import { printable, printableText } from '../names.ts';
import { err, out, type Line, type Reporter } from '../reporter.ts';
import { CommonText, problemLines, reasonLines, reasonText, type TextOptions } from './common.ts';
import { applyLine } from './planFile.ts';
import { GainedTable } from './gained.ts';

/** What is done to find a place. */
const STEPS: Readonly<Record<PlacementStep, string>> = {
  rounded: 'asking for a power of two',
  'own-donors': 'placing its ranges one by one',
  'search-depth': 'having all of free space searched',
  'long-run': 'putting a long run together',
  'make-room': 'making room',
  'give-up': 'no better place',
  elsewhere: 'looking for another place',
};

/** What `defrag` did, for people. */
export class DefragText implements Reporter<DefragEvent> {
  readonly #common: CommonText;
  readonly #gained = new GainedTable();

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
  }

  lines(event: DefragEvent): readonly Line[] {
    switch (event.type) {
      case 'target':
        this.#gained.addTarget(event);
        return this.#common.lines(event) ?? [];
      case 'defragmented':
        return [out(this.#defragmented(event))];
      case 'arranged':
        return [out(this.#arranged(event))];
      case 'placement':
        return this.#placement(event);
      case 'pause':
        return this.#common.options.verbose ? [err(`ext4-defrag: ${pauseText(event)}`)] : [];
      case 'summary':
        return this.#summary(event).map(out);
      case 'progress':
        return [];
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  /** Of interest to who wants to read everything. */
  #placement(event: PlacementEvent): readonly Line[] {
    if (!this.#common.options.verbose) return [];
    return [err(`ext4-defrag: ${printable(event)}: ${STEPS[event.step]}: ${printableText(event.reason)}`)];
  }

  #defragmented(event: DefragmentedEvent): string {
    const { style } = this.#common.options;
    const change = `${formatCount(event.fragmentsBefore)} -> ${formatCount(event.fragmentsAfter)} fragments`;
    const line = `${printable(event)}: ${style.good(change)}, ${formatSize(event.bytesMoved)} moved`;
    const { incomplete, detail } = event;
    if (incomplete === undefined) return detail === undefined ? line : `${line}; ${printableText(detail)}`;
    return `${line}; ${style.warning('not all of it')}: ${reasonText(incomplete, detail)}`;
  }

  #arranged(event: ArrangedEvent): string {
    const { style } = this.#common.options;
    const { files, jumpsBefore, jumpsAfter, bytesMoved, incomplete, detail } = event;
    const change = `${formatCount(jumpsBefore)} -> ${counted(jumpsAfter, 'jump')}`;
    const moved = `${counted(files, 'file')} and ${formatSize(bytesMoved)} moved`;
    const line = `${printable(event)}: ${files > 0 ? `${style.good(change)}, ${moved}` : 'not put in order'}`;
    if (incomplete === undefined) return detail === undefined ? line : `${line}; ${printableText(detail)}`;
    const what = files > 0 ? `; ${style.warning('not all of it')}` : '';
    return `${line}${what}: ${reasonText(incomplete, detail)}`;
  }

  #summary(summary: DefragSummary): string[] {
    const leftAlone = byFrequency(summary.skipped);
    const kept = leftAlone.reduce((sum, [, count]) => sum + count, 0);
    // The one file's reason stands in its own line and in the headline.
    const list = kept > 1 || summary.files > 1 ? reasonLines('Left alone:', summary.skipped) : [];
    const gained = this.#gained.lines(summary, this.#common.options.style);
    const { undoFile } = summary;
    const undo = undoFile === undefined ? [] : [applyLine('To put it back', undoFile)];
    const ending = [...problemLines(summary), ...endLines(summary), ...undo];
    return [
      '',
      ...headline(summary),
      ...list,
      ...(gained.length > 0 ? ['', ...gained] : []),
      ...(gained.length > 0 && ending.length > 0 ? [''] : []),
      ...ending,
    ];
  }
}

function pauseText({ paused, percent }: PauseEvent): string {
  return paused ? `pausing: others wait for I/O ${percent} % of the time` : 'going on';
}

function headline(summary: DefragSummary): string[] {
  const continued = summary.continued ? ['This run went on where an earlier one stopped.'] : [];
  const arranged = arrangedLines(summary);
  if (summary.defragmented === 0) {
    return [...(arranged.length > 0 ? arranged : [nothing(summary)]), ...continued];
  }
  const { files, defragmented, fragmentsBefore, fragmentsAfter, seconds } = summary;
  return [
    `${formatCount(defragmented)} of ${counted(files, 'file')} defragmented: ` +
      `${traffic(summary)}, in ${formatSeconds(seconds)}.`,
    `Fragments in all: ${formatCount(fragmentsBefore)} -> ${formatCount(fragmentsAfter)}.`,
    ...arranged,
    ...continued,
  ];
}

/** What was laid one behind the other, if anything. */
function arrangedLines(summary: DefragSummary): string[] {
  const { arranged, defragmented, seconds } = summary;
  if (arranged === undefined || arranged.files === 0) return [];
  const { files, groupsMoved, jumpsBefore, jumpsAfter } = arranged;
  // Where there is another headline it has these.
  const cost = defragmented > 0 ? '' : `: ${traffic(summary)}, in ${formatSeconds(seconds)}`;
  return [
    `${counted(files, 'file')} laid one behind the other in ${counted(groupsMoved, 'group')}${cost}.`,
    `Jumps between files in order: ${formatCount(jumpsBefore)} -> ${formatCount(jumpsAfter)}.`,
  ];
}

export function traffic({
  bytesMoved,
  bytesEvacuated,
  bytesWritten,
}: Pick<DefragSummary, 'bytesMoved' | 'bytesEvacuated' | 'bytesWritten'>): string {
  const room = bytesEvacuated > 0 ? `, ${formatSize(bytesEvacuated)} of other files out of the way` : '';
  const moved = `${formatSize(bytesMoved)} moved${room}`;
  // The kernel need not tell what was written.
  return bytesWritten > 0 ? `${moved}, ${formatSize(bytesWritten)} written` : moved;
}

/** Says that no file is better than before, and why. */
function nothing({ files, skipped, failed, unsupported, interrupted, budget }: DefragSummary): string {
  const reasons = byFrequency(skipped).map(([reason]) => reason);
  const hindered = reasons.filter((reason) => !FINE_AS_IT_IS.has(reason) && !ENDED_BEFORE.has(reason));
  if (hindered.length > 0) return `Nothing could be improved${because(hindered, 'for the reasons below')}.`;
  if (interrupted) return 'Nothing was moved: the run was stopped before.';
  if (failed > 0 && files > 0) return 'Nothing was moved: what was tried failed.';
  if (budget !== undefined) return 'Nothing was improved: the run came to its limit before.';
  if (reasons.length > 0) return `Nothing was moved${because(reasons, 'no file needs it')}.`;
  if (failed + unsupported > 0) return 'Nothing was moved: no target could be worked on.';
  return 'Nothing was moved: there are no files here.';
}

const because = (reasons: readonly Reason[], otherwise: string): string =>
  `: ${reasons.length === 1 ? REASONS[reasons[0]] : otherwise}`;

/** Why the run ended before everything was done, if it did, and what is left then. */
export function endLines({ interrupted, budget }: Pick<DefragSummary, 'interrupted' | 'budget'>): string[] {
  if (interrupted) return ['Stopped by a signal; all that was moved is committed.'];
  if (budget === undefined) return [];
  const stopped = `Stopped at its ${budget.reached === 'time' ? 'time limit' : 'limit of bytes to move'}`;
  const { filesLeft: files, bytesLeft, complete } = budget;
  if (files === 0 && complete) return [`${stopped}, with nothing left to do.`];
  const left =
    files === 0
      ? 'before all files were looked at'
      : `with ${complete ? '' : 'at least '}${counted(files, 'file')} left (${formatSize(bytesLeft)} to move)`;
  return [`${stopped}, ${left}: run it again to go on.`];
}
