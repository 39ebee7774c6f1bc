import { joinClasses, type SizeClass, type SizeRange } from '../../layout/sizeClasses.ts';
import type { FreeRuns, Named } from '../events.ts';
import { counted, formatCount, formatRoundSize, formatShare, formatSize } from '../format.ts';
import { printable } from '../names.ts';
import type { Style } from '../style.ts';

const KiB = 1024;

/** 4 KiB, four times that, and so on to 1 GiB: all there is in ten rows or so. */
const BOUNDS = Array.from({ length: 10 }, (_, i) => 4 * KiB * 4 ** i);

/** Characters for the bytes of all rows together. */
const BAR = 24;

/** Runs of blocks by their size, with the share that each size has of the bytes. */
export function sizeTable(
  what: 'fragments' | 'runs',
  classes: readonly SizeClass[],
  heading: string,
): string[] {
  const rows = joinClasses(classes, BOUNDS);
  if (rows.length === 0) return [heading];
  const total = rows.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    heading,
    tableRow('size', what, 'bytes', 'share'),
    ...rows.map((row) => {
      const bar = '#'.repeat(Math.round((row.bytes / total) * BAR));
      const cells = [
        rangeText(row),
        formatCount(row.count),
        formatSize(row.bytes),
        formatShare(row.bytes, total),
      ];
      return `${tableRow(...cells)}  ${bar}`.trimEnd();
    }),
  ];
}

/** @param named whether to say whose it is */
export function freeSpaceTable(free: FreeRuns & Named, style: Style, named: boolean): string[] {
  const { bytes, runs, largestRun, histogram } = free;
  const amount =
    runs === 0
      ? 'none'
      : `${formatSize(bytes)} in ${counted(runs, 'run')}${runs > 1 ? `, the longest ${formatSize(largestRun)}` : ''}`;
  const heading = `Free space${named ? ` of ${printable(free)}` : ''}: ${amount}`;
  return sizeTable('runs', histogram, style.strong(heading));
}

const tableRow = (size = '', count = '', bytes = '', share = ''): string =>
  [size.padStart(17), count.padStart(11), bytes.padStart(10), share.padStart(7)].join('  ');

function rangeText({ from, to }: SizeRange): string {
  if (from === 0) return `less than ${formatRoundSize(to)}`;
  if (to === Infinity) return `${formatRoundSize(from)} and more`;
  return `${formatRoundSize(from)} to ${formatRoundSize(to)}`;
}
