import type { ExtentTable } from '../layout/extents.ts';

export interface MapStyle {
  /** Characters for a row. */
  readonly width: number;
  /** Whether the terminal shows UTF-8. */
  readonly unicode: boolean;
  readonly colour: boolean;
}

export interface MappedFile {
  readonly name: string;
  readonly extents: ExtentTable;
}

/** Part of the device, in blocks, the end not included. */
export interface BlockSpan {
  readonly start: number;
  readonly end: number;
}

/** How much of a cell's blocks is the file's: none, up to a quarter, a half, three quarters, all. */
const SHADES = { unicode: ' ░▒▓█', ascii: ' .:+#' } as const;
const COLOURS = [36, 33, 35, 32, 34, 31];

/** The part of the device that some layouts cover. */
export function spanOf(layouts: Iterable<ExtentTable>): BlockSpan {
  let start = Infinity;
  let end = 0;
  for (const { physical, length, count } of layouts) {
    for (let i = 0; i < count; i++) {
      start = Math.min(start, physical[i]);
      end = Math.max(end, physical[i] + length[i]);
    }
  }
  return start < end ? { start, end } : { start: 0, end: 1 };
}

/** A row for each file: the device from left to right, the darker the more of that place is the file's. */
export function drawMap(files: readonly MappedFile[], span: BlockSpan, style: MapStyle): string[] {
  const label = Math.max(0, ...files.map(({ name }) => name.length));
  const width = Math.max(10, style.width - label - 4);
  const [left, right] = style.unicode ? ['▕', '▏'] : ['|', '|'];
  return files.map(({ name, extents }, i) => {
    const row = cells(extents, span, width)
      .map((share) => shade(share, style))
      .join('');
    const colour = COLOURS[i % COLOURS.length];
    const painted = style.colour ? `\u001b[${colour}m${row}\u001b[0m` : row;
    return `${name.padEnd(label)} ${left}${painted}${right}`;
  });
}

/** The share of each cell's blocks that a layout covers, 0 to 1. */
function cells(extents: ExtentTable, { start, end }: BlockSpan, width: number): number[] {
  const perCell = (end - start) / width;
  const covered = new Array<number>(width).fill(0);
  for (let i = 0; i < extents.count; i++) {
    const first = extents.physical[i] - start;
    const last = first + extents.length[i];
    for (let cell = Math.floor(first / perCell); cell < width && cell * perCell < last; cell++) {
      const overlap = Math.min(last, (cell + 1) * perCell) - Math.max(first, cell * perCell);
      if (cell >= 0) covered[cell] += Math.max(0, overlap);
    }
  }
  return covered.map((blocks) => blocks / perCell);
}

function shade(share: number, { unicode }: MapStyle): string {
  const shades = SHADES[unicode ? 'unicode' : 'ascii'];
  // A single block shows, however large the cell is.
  return shades[share <= 0 ? 0 : Math.min(4, Math.max(1, Math.round(share * 4)))];
}
