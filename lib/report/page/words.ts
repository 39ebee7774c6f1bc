import { formatCount, formatRoundSize, formatShare, formatSize } from '../format.ts';
import type { Picture } from '../picture/picture.ts';
import { SHOWN, type Layer, type Shown } from './layer.ts';
import type { CellRange } from './order.ts';

/** What the kinds are called on a page. */
export function namesFor({ kind, unknown }: Picture): Readonly<Record<Shown, string>> {
  return {
    free: 'free',
    contiguous: kind === 'file' ? 'the file' : 'files in one piece',
    fragmented: kind === 'file' ? 'the file' : 'fragmented files',
    worst: kind === 'file' ? 'the file, fragmented' : 'the most fragmented files',
    metadata: 'metadata',
    other: kind === 'file' || unknown !== null ? 'in use' : 'directories, journal and the like',
  };
}

/** How many blocks of each kind there are in stretches of cells; kinds that there are none of are left out. */
export function composition(layer: Layer, ranges: readonly CellRange[]): { kind: Shown; blocks: number }[] {
  return SHOWN.map((kind) => ({
    kind,
    blocks: ranges.reduce((sum, { from, to }) => sum + layer.sums[kind][to] - layer.sums[kind][from], 0),
  })).filter(({ blocks }) => blocks > 0);
}

/** The blocks of stretches of cells, in words. */
export function whereText({ grid, picture }: Layer, ranges: readonly CellRange[]): string {
  const [first, last] = [grid.start(ranges[0].from), grid.start(ranges[ranges.length - 1].to) - 1];
  const blocks = ranges.reduce((sum, { from, to }) => sum + grid.start(to) - grid.start(from), 0);
  const size = formatRoundSize(blocks * picture.blockSize);
  const pieces = ranges.length > 1 ? ` in ${ranges.length} rows` : '';
  if (first === last) return `Block ${formatCount(first)} (${size})`;
  return `Blocks ${formatCount(first)} to ${formatCount(last)} (${size}${pieces})`;
}

/** What the blocks are used for, in words. */
export function compositionText(layer: Layer, ranges: readonly CellRange[]): string {
  const names = namesFor(layer.picture);
  const parts = composition(layer, ranges);
  const all = parts.reduce((sum, { blocks }) => sum + blocks, 0);
  if (parts.length === 1) return `all ${names[parts[0].kind]}`;
  return parts
    .sort((a, b) => b.blocks - a.blocks)
    .map(({ kind, blocks }) => `${formatShare(blocks, all)} ${names[kind]}`)
    .join(', ');
}

export const sizeOf = (picture: Picture, blocks: number): string => formatSize(blocks * picture.blockSize);

/** A moment, in the reader's own time. */
export const timeText = ({ time }: Picture): string =>
  new Date(time * 1000).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
