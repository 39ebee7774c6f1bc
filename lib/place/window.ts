import { Shelves, type Packing } from './bins.ts';
import { firstEndingBehind, type FreeRuns } from './freeMap.ts';
import type { OwnedExtent, OwnerMap } from './owners.ts';

/** A stretch of the device that could be cleared: nothing is in it but free blocks and blocks of files. */
export interface Window {
  readonly start: number;
  readonly length: number;
  /** What has to go, in the order of the device: whole extents, also where they reach beyond the window. */
  readonly extents: readonly OwnedExtent[];
  /** Blocks of them: what clearing it costs. */
  readonly cost: number;
  /** How they fit into free runs elsewhere. */
  readonly packing: Packing;
}

export interface WindowDemands {
  /** Blocks. */
  readonly length: number;
  /** It is not worth moving more blocks than this, nor fewer: what is free already is of no use then (0). */
  readonly mostCost: number;
  readonly leastCost?: number;
  /** Files that cannot be moved. */
  readonly immovable: ReadonlySet<number>;
  /**
   * It shall lie beside something that cannot move, so that what can move is not parted more and more by what was placed
   * in windows before.
   */
  readonly snug?: boolean;
  /** It shall not touch any of these. */
  readonly apart?: readonly Pick<Window, 'start' | 'length'>[];
}

/** Blocks of a window that find no place elsewhere. */
export const shortageOf = ({ extents, packing }: Pick<Window, 'extents' | 'packing'>): number =>
  packing.unplaced.reduce((sum, i) => sum + extents[i].length, 0);

const cost = (window: Window): number => window.cost + shortageOf(window);

/** Extents up to so many blocks are moved out of the way, also where a place has to be made for them first. */
const LONG = 512;
/** Blocks that are counted together at least, and how many such cells there are at most. */
const CELL = 16;
const MOST_CELLS = 2 ** 22;
/** Windows that are looked at closely. */
const CLOSER = 24;
/** Of these, those for which it is tried out where everything goes. */
const MOST_PACKED = 24;
/** Places where such a window may begin, within its first cell. */
const BEGINNINGS = 8;

/**
 * What the device is full of, coarsely: for each cell, how many blocks are free and how many are files' that can be
 * moved. All others are taken for immovable: extent trees, directories, fixed metadata, what was freed and is not
 * committed yet, what nobody knows.
 */
export class Terrain {
  readonly #blocks: number;
  readonly #cell: number;
  readonly #free: FreeRuns;
  readonly #shelves: Shelves;
  readonly #owners: OwnerMap;
  readonly #longest: number;
  /** Of the cells before each: free and movable blocks, and cells that hold something else. */
  readonly #movableBefore: Float64Array;
  readonly #blockedBefore: Uint32Array;

  constructor(blocksCount: number, free: FreeRuns, owners: OwnerMap) {
    this.#blocks = blocksCount;
    const cell = Math.max(CELL, 2 ** Math.ceil(Math.log2(blocksCount / MOST_CELLS)));
    this.#cell = cell;
    this.#free = free;
    this.#shelves = new Shelves(free);
    this.#owners = owners;
    let longest = LONG;
    for (let i = 0; i < free.count; i++) longest = Math.max(longest, free.length[i]);
    // For longer ones no place is made.
    this.#longest = longest;
    const cells = Math.ceil(blocksCount / cell);
    const freeIn = new Uint32Array(cells);
    const movableIn = new Uint32Array(cells);
    for (let i = 0; i < free.count; i++) spread(freeIn, cell, free.start[i], free.length[i]);
    for (const extent of owners) {
      if (extent.length <= longest) spread(movableIn, cell, extent.physical, extent.length);
    }
    this.#movableBefore = new Float64Array(cells + 1);
    this.#blockedBefore = new Uint32Array(cells + 1);
    for (let i = 0; i < cells; i++) {
      const size = Math.min(cell, blocksCount - i * cell);
      this.#movableBefore[i + 1] = this.#movableBefore[i] + movableIn[i];
      this.#blockedBefore[i + 1] = this.#blockedBefore[i] + Number(freeIn[i] + movableIn[i] < size);
    }
  }

  /**
   * The window that is cheapest to clear, or undefined where there is none of the length at that cost. Its packing says
   * what of it finds no place elsewhere.
   */
  cheapest(demands: WindowDemands): Window | undefined {
    const found: Omit<Window, 'packing'>[] = [];
    for (const cell of this.#promising(demands)) {
      for (const start of this.#beginnings(cell, demands.length)) {
        const window = this.#look(start, demands);
        if (window !== undefined) found.push(window);
      }
    }
    found.sort((a, b) => a.cost - b.cost);
    let best: Window | undefined;
    for (const window of found.slice(0, MOST_PACKED)) {
      const { start, length, extents } = window;
      const packed = {
        ...window,
        packing: this.#shelves.pack(
          extents.map((extent) => extent.length),
          start,
          start + length,
        ),
      };
      // To make a place for something costs about as much again.
      if (best === undefined || cost(packed) < cost(best)) best = packed;
    }
    return best;
  }

  /** First cells of the windows that look cheapest, far enough apart to differ. */
  #promising({ length, mostCost, leastCost = 0, snug = false }: WindowDemands): number[] {
    // It may begin anywhere within its first cell.
    const span = Math.ceil(length / this.#cell);
    const chosen: { cell: number; cost: number }[] = [];
    const apart = Math.max(1, span >> 1);
    const last = Math.floor((this.#blocks - length) / this.#cell);
    for (let cell = 0; cell <= last; cell++) {
      if (this.#blockedBefore[cell + span] > this.#blockedBefore[cell]) continue;
      if (snug && !this.#isBlocked(cell - 1) && !this.#isBlocked(cell + span)) continue;
      const cost = this.#movableBefore[cell + span] - this.#movableBefore[cell];
      if (cost > mostCost || cost < leastCost) continue;
      const full = chosen.length === CLOSER;
      if (full && cost >= chosen[CLOSER - 1].cost) continue;
      const near = chosen.findIndex((other) => Math.abs(other.cell - cell) < apart);
      if (near !== -1) {
        if (chosen[near].cost <= cost) continue;
        chosen.splice(near, 1);
      } else if (full) chosen.pop();
      const at = chosen.findIndex((other) => other.cost > cost);
      chosen.splice(at === -1 ? chosen.length : at, 0, { cell, cost });
    }
    return chosen.map(({ cell }) => cell);
  }

  /** Whether a cell holds something that cannot move, or is none. */
  #isBlocked(cell: number): boolean {
    return (
      cell < 0 ||
      cell + 1 >= this.#blockedBefore.length ||
      this.#blockedBefore[cell + 1] > this.#blockedBefore[cell]
    );
  }

  /** Where a window may begin in a cell: where nothing is cut in two, or where it ends with a cell. */
  #beginnings(cell: number, length: number): Iterable<number> {
    const [from, to] = [cell * this.#cell, (cell + 1) * this.#cell];
    const starts = new Set([from, from + Math.ceil(length / this.#cell) * this.#cell - length]);
    for (const { physical, length } of this.#owners.within(from, to)) {
      if (physical > from) starts.add(physical);
      if (physical + length < to) starts.add(physical + length);
    }
    return [...starts].slice(0, BEGINNINGS);
  }

  /** A window as it is, or undefined where it cannot be cleared. */
  #look(start: number, { length, mostCost, leastCost = 0, immovable, apart = [] }: WindowDemands) {
    const end = start + length;
    if (end > this.#blocks) return undefined;
    if (apart.some((other) => start < other.start + other.length && end > other.start)) return undefined;
    const extents = this.#owners.within(start, end);
    let cost = 0;
    let known = this.#freeWithin(start, end);
    for (const { inode, physical, length: size } of extents) {
      if (immovable.has(inode) || size > this.#longest) return undefined;
      cost += size;
      known += Math.min(end, physical + size) - Math.max(start, physical);
    }
    return known < length || cost > mostCost || cost < leastCost
      ? undefined
      : { start, length, extents, cost };
  }

  #freeWithin(from: number, to: number): number {
    const { count, start, length } = this.#free;
    let sum = 0;
    for (let i = firstEndingBehind(this.#free, from); i < count && start[i] < to; i++) {
      sum += Math.min(to, start[i] + length[i]) - Math.max(from, start[i]);
    }
    return sum;
  }
}

/** Adds a run to the counts of the cells that it touches. */
function spread(counts: Uint32Array, cell: number, start: number, length: number): void {
  const end = start + length;
  for (let at = start; at < end;) {
    const i = Math.floor(at / cell);
    const stop = Math.min(end, (i + 1) * cell);
    counts[i] += stop - at;
    at = stop;
  }
}
