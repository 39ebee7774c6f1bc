import type { DefragSummary, TargetEvent } from '../events.ts';
import { counted, formatCount, formatSeconds, formatSize } from '../format.ts';
import type { Style } from '../style.ts';
import { deviceKind } from './device.ts';

const ESTIMATED: Readonly<Record<ReturnType<typeof deviceKind>, string>> = {
  rotational: 'estimated for a typical disk',
  'not rotational': 'estimated for a typical SSD',
  'as given': 'estimated for the device profile given',
};

/** What a run gained in the files that it improved, as a table of before and after. */
export class GainedTable {
  /** What the estimates go by; several targets that are alike count once. */
  readonly #estimated = new Set<string>();

  addTarget(target: TargetEvent): void {
    this.#estimated.add(ESTIMATED[deviceKind(target)]);
  }

  lines({ defragmented, gained, measured }: DefragSummary, style: Style): string[] {
    if (defragmented === 0) return [];
    const [estimated] = this.#estimated.size === 1 ? this.#estimated : ['estimated'];
    return [
      style.strong('Gained:'),
      row('', 'before', 'after'),
      row('fragments', formatCount(gained.fragmentsBefore), formatCount(gained.fragmentsAfter)),
      row('extents', formatCount(gained.extentsBefore), formatCount(gained.extentsAfter)),
      row(
        'read time',
        formatSeconds(gained.readSecondsBefore),
        formatSeconds(gained.readSecondsAfter),
        estimated,
      ),
      ...(measured
        ? [
            row(
              'measured read',
              formatSeconds(measured.secondsBefore),
              formatSeconds(measured.secondsAfter),
              `${counted(measured.files, 'file')}, ${formatSize(measured.bytes)}`,
            ),
          ]
        : []),
    ];
  }
}

function row(label: string, before: string, after: string, note = ''): string {
  return `  ${label.padEnd(13)}  ${before.padStart(12)}  ${after.padStart(12)}  ${note}`.trimEnd();
}
