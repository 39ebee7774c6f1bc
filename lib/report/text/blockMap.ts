import type { Kind } from '../picture/cells.ts';
import type { MapStyle } from '../map.ts';

type Cells = Readonly<Record<Kind, readonly number[]>>;

/** Rows of a map at most. */
const MOST_ROWS = 24;

const GLYPHS: Readonly<Record<Kind, { unicode: string; ascii: string; colour: number }>> = {
  free: { unicode: '·', ascii: '.', colour: 90 },
  contiguous: { unicode: '█', ascii: '#', colour: 36 },
  fragmented: { unicode: '▒', ascii: 'x', colour: 33 },
  metadata: { unicode: '≡', ascii: 'm', colour: 35 },
  other: { unicode: '░', ascii: ':', colour: 37 },
};
const USED: readonly Kind[] = ['contiguous', 'fragmented', 'metadata', 'other'];

const OF_FILES: readonly Kind[] = ['contiguous', 'fragmented'];

/** A cell that has less in it than that looks free. */
const LEAST_USED = 1 / 8;

export function glyph(kind: Kind, { unicode, colour }: MapStyle): string {
  const { [unicode ? 'unicode' : 'ascii']: char, colour: code } = GLYPHS[kind];
  return colour ? `\u001b[${code}m${char}\u001b[0m` : char;
}

/**
 * The device from left to right and top to bottom, a character for so many cells. It shows what most of them are used
 * for, apart from what is free.
 *
 * @param ofFile whether what belongs to files is a single file's, which is shown wherever it has a block
 * @returns the rows, and how many cells a character has
 */
export function drawCells(
  cells: Cells,
  style: MapStyle,
  ofFile = false,
): { rows: string[]; cellsPerGlyph: number } {
  const count = cells.free.length;
  const width = Math.max(8, style.width - 2);
  const cellsPerGlyph = Math.max(1, Math.ceil(count / (width * MOST_ROWS)));
  const kinds: Kind[] = [];
  for (let from = 0; from < count; from += cellsPerGlyph) {
    kinds.push(kindOf(cells, from, Math.min(count, from + cellsPerGlyph), ofFile));
  }
  const rows: string[] = [];
  for (let from = 0; from < kinds.length; from += width) {
    rows.push(`  ${paint(kinds.slice(from, from + width), style)}`);
  }
  return { rows, cellsPerGlyph };
}

function kindOf(cells: Cells, from: number, to: number, ofFile: boolean): Kind {
  const sum = (kind: Kind) => {
    let blocks = 0;
    for (let cell = from; cell < to; cell++) blocks += cells[kind][cell];
    return blocks;
  };
  const used = USED.map((kind) => ({ kind, blocks: sum(kind) }));
  const all = used.reduce((blocks, one) => blocks + one.blocks, 0);
  const present = used.find(({ kind, blocks }) => OF_FILES.includes(kind) && blocks > 0);
  if (ofFile && present !== undefined) return present.kind;
  if (all < LEAST_USED * (all + sum('free'))) return 'free';
  return used.reduce((most, one) => (one.blocks > most.blocks ? one : most)).kind;
}

/** Colours are set once for each stretch: a terminal would have five times as much to read. */
function paint(kinds: readonly Kind[], style: MapStyle): string {
  let text = '';
  for (let from = 0; from < kinds.length;) {
    let to = from;
    while (to < kinds.length && kinds[to] === kinds[from]) to++;
    const plain = glyph(kinds[from], { ...style, colour: false }).repeat(to - from);
    text += style.colour ? `\u001b[${GLYPHS[kinds[from]].colour}m${plain}\u001b[0m` : plain;
    from = to;
  }
  return text;
}
