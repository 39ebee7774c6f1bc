import type { MapEvent, MappedFileEvent, MappingEvent, MapSummary } from '../events.ts';
import { counted, formatCount, formatRoundSize, formatShare, formatSize } from '../format.ts';
import type { MapStyle } from '../map.ts';
import { printable, printableText } from '../names.ts';
import { KINDS, type Kind } from '../picture/cells.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { DEFAULT_TOP } from '../worst.ts';
import { drawCells, glyph } from './blockMap.ts';
import { CommonText, problemLines, type TextOptions } from './common.ts';
import { freeSpaceTable, sizeTable } from './sizes.ts';

export const NO_TERMINAL: MapStyle = { width: 80, unicode: false, colour: false };

/** What is meant by the kinds of blocks. */
const MEANING: Readonly<Record<Kind, string>> = {
  free: 'free',
  contiguous: 'files in one piece',
  fragmented: 'fragmented files',
  metadata: 'metadata',
  other: 'directories, journal and the like',
};
const MEANING_OF_FILE = { ...MEANING, contiguous: 'the file', fragmented: 'the file', other: 'in use' };
const MEANING_UNKNOWN = { ...MEANING, other: 'in use, by what is not known' };

const meaningFor = ({ kind, unknown }: Pick<MapEvent, 'kind' | 'unknown'>): Readonly<Record<Kind, string>> =>
  kind === 'file' ? MEANING_OF_FILE : unknown === null ? MEANING : MEANING_UNKNOWN;

/** A map on a terminal, and what stands out on it. */
export class MapText implements Reporter<MappingEvent> {
  readonly #common: CommonText;
  readonly #style: MapStyle;
  readonly #top: number;
  #map: MapEvent | undefined;
  #files = 0;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
    this.#style = options.map ?? NO_TERMINAL;
    this.#top = options.top ?? DEFAULT_TOP;
  }

  lines(event: MappingEvent): readonly Line[] {
    switch (event.type) {
      case 'map':
        return this.#drawn(event).map(out);
      case 'mappedFile':
        return this.#file(event).map(out);
      case 'written':
        return [out(''), ...this.#common.lines(event)!];
      case 'summary':
        return summaryLines(event).map(out);
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  #drawn(map: MapEvent): string[] {
    const { style } = this.#common.options;
    const { rows, cellsPerGlyph } = drawCells(map.cells, this.#style, map.kind === 'file');
    const perGlyph = Math.round(map.blocksPerCell * cellsPerGlyph) * map.blockSize;
    const size = formatRoundSize(map.blocks * map.blockSize);
    const again = this.#map === undefined ? [] : [''];
    this.#map = map;
    this.#files = 0;
    const [device, mountPoint] = [printableText(map.device), printable({ path: map.mountPoint })];
    return [
      ...again,
      `${style.strong(`${device} on ${mountPoint}`)}: ext4, ${size}; a character is ${formatRoundSize(perGlyph)}`,
      '',
      ...rows,
      '',
      ...this.#legend(map),
      ...(map.unknown === null ? [] : ['', `Whose blocks are is not known: ${printableText(map.unknown)}`]),
      ...(map.kind === 'file' ? [] : tables(map, this.#common.options)),
    ];
  }

  #legend(map: MapEvent): string[] {
    const meaning = meaningFor(map);
    return KINDS.filter((kind) => map.totals[kind] > 0).map((kind) => {
      const blocks = map.totals[kind];
      const amount = formatSize(blocks * map.blockSize).padStart(10);
      return `  ${glyph(kind, this.#style)}  ${amount}  ${formatShare(blocks, map.blocks).padStart(7)}  ${meaning[kind]}`;
    });
  }

  #file(file: MappedFileEvent): string[] {
    if (this.#map?.kind === 'file') return this.#extents(file);
    const heading = this.#files++ === 0 ? ['', 'The most fragmented files:'] : [];
    const { bad } = this.#common.options.style;
    const fragments = bad(counted(file.fragments, 'fragment').padStart(16));
    return [...heading, `${fragments}  ${formatSize(file.size).padStart(10)}  ${printable(file)}`];
  }

  #extents(file: MappedFileEvent): string[] {
    const { fragments, idealFragments, extents, size } = file;
    const [good, bad] = [this.#common.options.style.good, this.#common.options.style.bad];
    const pieces = `${counted(fragments, 'fragment')}${fragments > 1 ? ` (ideal ${formatCount(idealFragments)})` : ''}`;
    const rows = extents.slice(0, this.#top).map(([start, length]) => {
      const bytes = formatSize(length * this.#map!.blockSize);
      return `${formatCount(start).padStart(16)}  ${formatCount(start + length - 1).padStart(16)}  ${bytes.padStart(10)}`;
    });
    const rest = extents.length - rows.length;
    return [
      '',
      `${printable(file)}: ${formatSize(size)} in ${(fragments > idealFragments ? bad : good)(pieces)}`,
      ...(rows.length === 0
        ? []
        : [`${'first block'.padStart(16)}  ${'last block'.padStart(16)}  ${'size'.padStart(10)}`]),
      ...rows,
      ...(rest > 0 && rows.length > 0 ? [`${'and'.padStart(16)} ${formatCount(rest)} more`] : []),
    ];
  }
}

function tables({ free, files, path }: MapEvent, { style }: TextOptions): string[] {
  const all = ['', ...freeSpaceTable({ ...free, path }, style, false)];
  if (files === null) return all;
  const { count, fragmented, fragments } = files;
  const heading = `${counted(count, 'file')}, ${formatCount(fragmented)} fragmented, in ${counted(fragments, 'fragment')}`;
  return [...all, '', ...sizeTable('fragments', files.sizes, style.strong(heading))];
}

function summaryLines(summary: MapSummary): string[] {
  const stopped = summary.interrupted ? ['Stopped by a signal.'] : [];
  const lines = [...problemLines(summary), ...stopped];
  return lines.length === 0 ? [] : ['', ...lines];
}
