import { fiemap } from '../kernel/fiemap.ts';
import { mergeExtents } from '../layout/extents.ts';
import { firstIndex } from '../layout/firstIndex.ts';
import { blocks, type Bytes } from '../layout/units.ts';
import type { Run, Segment } from './assign.ts';

/**
 * Blocks that temporary files of ours hold at places that somebody shall get. Nobody else can take them meanwhile, and
 * exchanging a file with them puts it there: no allocator is asked. The pieces of a run come from several files, so a
 * run stands for them under a number of its own, and {@link segments} finds them.
 */
export class Tokens {
  /** In the order of the device. */
  readonly pieces: readonly Run[];

  constructor(pieces: Iterable<Run>) {
    this.pieces = [...pieces].sort((a, b) => a.physical - b.physical);
  }

  /** What temporary files hold of blocks `from` to `to`. */
  static async within(fds: readonly number[], blockSize: Bytes, from: number, to: number): Promise<Tokens> {
    const pieces: Run[] = [];
    for (const donorFd of fds) {
      for (const { logical, physical, length } of mergeExtents(await fiemap(donorFd, blockSize))) {
        const start = Math.max(physical, from);
        const end = Math.min(physical + length, to);
        if (start >= end) continue;
        pieces.push({
          donorFd,
          start: blocks(logical + start - physical),
          physical: blocks(start),
          length: blocks(end - start),
        });
      }
    }
    return new Tokens(pieces);
  }

  /** Contiguous runs, to be assigned: their `start` is their place on the device. */
  get runs(): Run[] {
    const runs: { start: number; length: number }[] = [];
    for (const { physical, length } of this.pieces) {
      const last = runs.at(-1);
      if (last !== undefined && last.start + last.length === physical) last.length += length;
      else runs.push({ start: physical, length });
    }
    return runs.map(({ start, length }) => ({
      donorFd: TOKENS,
      start: blocks(start),
      physical: blocks(start),
      length: blocks(length),
    }));
  }

  /** Blocks. */
  get longestRun(): number {
    return this.runs.reduce((longest, { length }) => Math.max(longest, length), 0);
  }

  /** A segment that was assigned to one of {@link runs}, by the pieces that it is to be exchanged with. */
  segments(assigned: Segment): Segment[] {
    const parts: Segment[] = [];
    const end = assigned.physical + assigned.length;
    for (let at = this.#find(assigned.physical); at < this.pieces.length; at++) {
      const { donorFd, start, physical, length } = this.pieces[at];
      const from = Math.max(physical, assigned.physical);
      const to = Math.min(physical + length, end);
      if (from >= to) break;
      parts.push({
        donorFd,
        donor: blocks(start + from - physical),
        logical: blocks(assigned.logical + from - assigned.physical),
        physical: blocks(from),
        length: blocks(to - from),
      });
    }
    return parts;
  }

  /** The first piece that ends behind a block. */
  #find(block: number): number {
    return firstIndex(this.pieces.length, (i) => this.pieces[i].physical + this.pieces[i].length > block);
  }
}

/** Stands for the descriptors of a run's pieces. */
export const TOKENS = -1;
