import { freeStretches, type StretchColumns } from '../kernel/fsmap.ts';
import { firstIndex } from '../layout/firstIndex.ts';
import { blocks, type Blocks, type Bytes } from '../layout/units.ts';

/** How a filesystem is divided into block groups. */
export interface Geometry {
  /** The first block of group 0: 1 with 1 KiB blocks, where block 0 is the boot block's, else 0. */
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
}

/** A stretch of free blocks. */
export interface FreeRun {
  readonly start: Blocks;
  readonly length: Blocks;
}

/** Free runs in the order of the device, as columns of blocks. */
export interface FreeRuns {
  readonly count: number;
  readonly start: ArrayLike<number>;
  readonly length: ArrayLike<number>;
}

/** The index of the first run that ends behind a block. */
export const firstEndingBehind = ({ count, start, length }: FreeRuns, block: number): number =>
  firstIndex(count, (i) => start[i] + length[i] > block);

/** What mke2fs makes unless `-g` says otherwise: a group has as many blocks as one bitmap block has bits. */
export const usualGeometry = (blockSize: Bytes): Geometry => ({
  firstDataBlock: blockSize === 1024 ? 1 : 0,
  blocksPerGroup: blockSize * 8,
});

/**
 * The free runs of a filesystem at one moment, in the order of the device, as columns of numbers. A run may go on from
 * one block group to the next; one allocation cannot, so what it could get is the part of a run in one group, a *piece*.
 */
export class FreeMap implements FreeRuns {
  readonly count: number;
  readonly start: Float64Array;
  readonly length: Float64Array;
  readonly geometry: Geometry;
  #byLength: FreeRun[] | undefined;

  /**
   * What GETFSMAP calls free: what is preallocated, or freed and not committed yet, is not. Takes no privilege.
   *
   * @param fd any open file or directory of the filesystem
   * @param from the first block, and `to` the one behind the last (all)
   * @param least shorter runs may be left out
   * @throws SystemError as fsmap
   */
  static async read(
    fd: number,
    blockSize: Bytes,
    geometry = usualGeometry(blockSize),
    from?: Blocks,
    to?: Blocks,
    least?: Blocks,
  ): Promise<FreeMap> {
    return FreeMap.ofColumns(await freeStretches(fd, blockSize, from, to, least), geometry);
  }

  /** @param runs in the order of the device; those that lie end to end become one */
  static of(
    runs: Iterable<{ readonly start: number; readonly length: number }>,
    geometry: Geometry,
  ): FreeMap {
    const all = [...runs];
    const start = Float64Array.from(all, (run) => run.start);
    return FreeMap.ofColumns({ start, length: Float64Array.from(all, (run) => run.length) }, geometry);
  }

  /** As {@link of}. */
  static ofColumns(runs: StretchColumns, geometry: Geometry): FreeMap {
    const total = runs.start.length;
    const [start, length] = [new Float64Array(total), new Float64Array(total)];
    let count = 0;
    let end = -1;
    for (let i = 0; i < total; i++) {
      const from = runs.start[i];
      const blocks = runs.length[i];
      if (from === end) length[count - 1] += blocks;
      else {
        start[count] = from;
        length[count++] = blocks;
      }
      end = from + blocks;
    }
    return new FreeMap(start.slice(0, count), length.slice(0, count), geometry);
  }

  private constructor(start: Float64Array, length: Float64Array, geometry: Geometry) {
    this.count = start.length;
    this.start = start;
    this.length = length;
    this.geometry = geometry;
  }

  get freeBlocks(): Blocks {
    return blocks(this.length.reduce((sum, length) => sum + length, 0));
  }

  /** Blocks of the longest run, whatever groups it goes through. */
  get longestRun(): Blocks {
    return blocks(this.length.reduce((longest, length) => Math.max(longest, length), 0));
  }

  /** Blocks of the longest piece: what one allocation can get. */
  get longestPiece(): Blocks {
    return this.#pieces().at(-1)?.length ?? blocks(0);
  }

  /** The runs of at least so many blocks, in the order of the device. */
  *runs(least = blocks(1)): Iterable<FreeRun> {
    for (let i = 0; i < this.count; i++) {
      if (this.length[i] >= least) yield { start: blocks(this.start[i]), length: blocks(this.length[i]) };
    }
  }

  /** Whether all blocks of a run are free. */
  includes({ start, length }: FreeRun): boolean {
    return this.within(start, start + length)[0]?.length === length;
  }

  /** What is free of blocks `from` to `to`. */
  within(from: number, to: number): FreeRun[] {
    const found: FreeRun[] = [];
    for (let i = firstEndingBehind(this, from); i < this.count && this.start[i] < to; i++) {
      const start = Math.max(from, this.start[i]);
      const end = Math.min(to, this.start[i] + this.length[i]);
      found.push({ start: blocks(start), length: blocks(end - start) });
    }
    return found;
  }

  /** The map as it would be if these were free as well. */
  with(others: readonly FreeRun[]): FreeMap {
    const added = others.toSorted((a, b) => a.start - b.start);
    const total = this.count + added.length;
    const [start, length] = [new Float64Array(total), new Float64Array(total)];
    let [own, at] = [0, 0];
    const takeBefore = (limit: number) => {
      let end = own;
      while (end < this.count && this.start[end] <= limit) end++;
      start.set(this.start.subarray(own, end), at);
      length.set(this.length.subarray(own, end), at);
      at += end - own;
      own = end;
    };
    for (const other of added) {
      takeBefore(other.start);
      start[at] = other.start;
      length[at++] = other.length;
    }
    takeBefore(Infinity);
    return FreeMap.ofColumns({ start, length }, this.geometry);
  }

  /** The shortest piece of at least so many blocks. */
  bestFit(count: Blocks): FreeRun | undefined {
    const pieces = this.#pieces();
    return pieces.at(firstIndex(pieces.length, (i) => pieces[i].length >= count));
  }

  /** The pieces, shortest first. */
  #pieces(): readonly FreeRun[] {
    return (this.#byLength ??= [...piecesOf(this.runs(), this.geometry)].sort((a, b) => a.length - b.length));
  }
}

/** Cuts runs at the borders of block groups. */
export function* piecesOf(runs: Iterable<FreeRun>, geometry: Geometry): Iterable<FreeRun> {
  const { firstDataBlock, blocksPerGroup } = geometry;
  for (const run of runs) {
    const end = run.start + run.length;
    for (let at = run.start as number; at < end;) {
      const group = Math.floor((at - firstDataBlock) / blocksPerGroup);
      const stop = Math.min(end, firstDataBlock + (group + 1) * blocksPerGroup);
      yield { start: blocks(at), length: blocks(stop - at) };
      at = stop;
    }
  }
}
