import { firstIndex } from '../../layout/firstIndex.ts';
import { CellGrid, type BlockRange } from '../picture/cells.ts';
import { decodeCells, decodeRanges } from '../picture/codec.ts';
import { isFragmented, type Picture, type PicturedFile } from '../picture/picture.ts';

/** What is told apart on the map. The worst files are those that have a name here, and are in the kind `fragmented`. */
export const SHOWN = ['free', 'contiguous', 'fragmented', 'worst', 'metadata', 'other'] as const;
export type Shown = (typeof SHOWN)[number];

/** How many blocks of something there are before each cell, and in all: any stretch of cells takes one subtraction. */
type Sums = Float64Array;

function sumsOf(counts: ArrayLike<number>): Sums {
  const sums = new Float64Array(counts.length + 1);
  for (let cell = 0; cell < counts.length; cell++) sums[cell + 1] = sums[cell] + counts[cell];
  return sums;
}

/** A named file, and where it lies. */
export interface PlacedFile extends PicturedFile {
  readonly ranges: readonly BlockRange[];
}

/** Bytes of fragments that cost hardly anything: from there on to a single small block, each half is as much worse. */
const COLD = 16 * 1024 * 1024;
const HALVES = 12;

/** How bad it is that a file is in fragments, from 0 to 1: the shorter they are on average, the worse. */
function heatOf({ blocks, fragments }: PicturedFile, blockSize: number): number {
  const halves = Math.log2((COLD * fragments) / (blocks * blockSize));
  return Math.min(1, Math.max(0, halves / HALVES));
}

/** A picture made ready to be drawn at any scale. */
export class Layer {
  readonly grid: CellGrid;
  readonly picture: Picture;
  readonly files: readonly PlacedFile[];
  readonly sums: Readonly<Record<Shown, Sums>>;
  /** Blocks of the worst files, each for as much of one as {@link heatOf} says. */
  readonly heat: Sums;
  /** Extents of the named files in the order of the device, and whose they are. */
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #owners: Uint32Array;

  constructor(picture: Picture) {
    this.picture = picture;
    this.grid = new CellGrid(picture.blocks);
    this.files = picture.named.map((file) => ({
      ...file,
      ranges: decodeRanges(file.extents, picture.blocks),
    }));
    const counts = decodeCells(this.grid, picture.cells);
    const fragmented = this.files.filter(isFragmented);
    const [worst, heat] = this.#count(fragmented, (file) => heatOf(file, picture.blockSize));
    for (let cell = 0; cell < worst.length; cell++) {
      // The files were looked at a moment later than the rest.
      worst[cell] = Math.min(worst[cell], counts.fragmented[cell]);
      heat[cell] = Math.min(heat[cell], worst[cell]);
      counts.fragmented[cell] -= worst[cell];
    }
    this.sums = {
      free: sumsOf(counts.free),
      contiguous: sumsOf(counts.contiguous),
      fragmented: sumsOf(counts.fragmented),
      worst: sumsOf(worst),
      metadata: sumsOf(counts.metadata),
      other: sumsOf(counts.other),
    };
    this.heat = sumsOf(heat);
    const all = this.files.flatMap(({ ranges }, owner) =>
      ranges.map(({ start, end }) => ({ start, end, owner })),
    );
    all.sort((a, b) => a.start - b.start);
    this.#starts = Float64Array.from(all, ({ start }) => start);
    this.#ends = Float64Array.from(all, ({ end }) => end);
    this.#owners = Uint32Array.from(all, ({ owner }) => owner);
  }

  /** How many blocks files have in each cell, and the same weighed. */
  #count(files: Iterable<PlacedFile>, weightOf: (file: PlacedFile) => number = () => 1) {
    const [counts, weighed] = [new Float64Array(this.grid.count), new Float64Array(this.grid.count)];
    let weight = 1;
    const add = (cell: number, blocks: number) => {
      counts[cell] += blocks;
      weighed[cell] += blocks * weight;
    };
    for (const file of files) {
      weight = weightOf(file);
      for (const range of file.ranges) this.grid.spread(range, add);
    }
    return [counts, weighed] as const;
  }

  /** Where a file lies, of which this picture need not know. */
  sumsOfFile({ inode, generation }: Pick<PicturedFile, 'inode' | 'generation'>): Sums | undefined {
    const file = this.files.find((one) => one.inode === inode && one.generation === generation);
    return file && sumsOf(this.#count([file])[0]);
  }

  /** The named files that have blocks in a stretch of the device, those with the most there first, and how many. */
  filesIn({ start, end }: BlockRange): { file: PlacedFile; blocks: number }[] {
    const found = new Map<number, number>();
    for (let i = this.#firstEndingBehind(start); i < this.#starts.length && this.#starts[i] < end; i++) {
      const blocks = Math.min(end, this.#ends[i]) - Math.max(start, this.#starts[i]);
      if (blocks > 0) found.set(this.#owners[i], (found.get(this.#owners[i]) ?? 0) + blocks);
    }
    return Array.from(found, ([owner, blocks]) => ({ file: this.files[owner], blocks })).sort(
      (a, b) => b.blocks - a.blocks,
    );
  }

  #firstEndingBehind(block: number): number {
    return firstIndex(this.#ends.length, (i) => this.#ends[i] > block);
  }
}
