import { FALLOC, fallocate, openDirectTemporary } from '../kernel/allocate.ts';
import { errorCode } from '../kernel/errors.ts';
import { closeFd } from '../kernel/handle.ts';
import { moveExtents } from '../kernel/moveExtent.ts';
import { blocks, bytes, toBytes, type Blocks } from '../layout/units.ts';
import { LONGEST_UNWRITTEN, type DonorStock } from './donors.ts';
import {
  FIRST_SLOT,
  freeAt,
  growBackward,
  growForward,
  liesAt,
  makeLeaf,
  mapped,
  placeExactly,
  windowBlocks,
  type FreeExtent,
} from './exact.ts';
import { piecesOf, type FreeMap, type FreeRun, type Geometry } from './freeMap.ts';
import type { SearchDepth } from './searchDepth.ts';

/**
 * How often the allocator is asked. What it answers is held, so each answer is another: of so many groups that are as
 * good, one begins a run that is long enough.
 */
const TRIES = 12;
/**
 * An answer in more pieces says that all that is longer is held by now. As long as the allocator finds any, a piece has an
 * eighth of what was asked for (mb_best_avail_max_trim_order); then each takes looking at all of free space, and there
 * may be thousands.
 */
const MOST_PIECES = 8;
/** Blocks that a file has besides the run, for its extent tree and to cut requests off. */
const MOST_BESIDES = 16;

/**
 * Allocates a free run that is longer than one allocation. The allocator is asked for as much as the run has in one block
 * group, or as what is free there has, which few others have; from there on the run is grown forward and backward, window
 * by window. Where the allocator finds that much elsewhere, in the middle of as much free space, the run is taken from
 * there.
 *
 * The stock gets what was allocated: the run, as far as it was to be had, and what the allocator answered instead.
 *
 * @param free what is free while nothing is allocated here
 * @param commit makes what was let go of free for others
 * @throws a system error
 */
export async function allocateLong(
  run: FreeRun,
  free: FreeMap,
  stock: DonorStock,
  depth: SearchDepth,
  commit: () => Promise<void>,
  blocksPerPage: number,
): Promise<void> {
  const fds: number[] = [];
  try {
    const plain = seedOf(run, free.geometry);
    const whole = wholeSeed(plain, free, windowBlocks(stock.blockSize));
    for (let attempt = 0; attempt < TRIES; attempt++) {
      // In turns: the first is got where the run is rather, the second wherever as much begins with a window.
      const seed = attempt % 2 === 0 ? whole : plain;
      const before = Math.max(0, run.start - seed.start);
      if (before + run.length + MOST_BESIDES > (await stock.spendable())) break;
      const mirror = await Mirror.open(run, free.geometry, stock);
      fds.push(mirror.fd);
      await depth.raisedDuring(() => mirror.allocate(seed.start, seed.length));
      const [{ physical: got }, ...others] = await mirror.mapped(seed);
      if (others.length >= MOST_PIECES) break;
      if (others.length > 0) continue;
      const there = { start: blocks(run.start + got - seed.start), length: run.length };
      if (!free.includes(there) || !mirror.shift(got - seed.start)) continue;
      // The other answers may be in the way now.
      const unwanted = fds.splice(0, fds.length - 1);
      await Promise.all(unwanted.map(closeFd));
      if (unwanted.length > 0) await commit();
      const made = (fd: number) => fds.push(fd);
      await mirror.growFrom({ start: got, length: seed.length }, made, commit, blocksPerPage);
      break;
    }
  } catch (error) {
    // Somebody else took the space, or the quota ends here. What there is stays.
    if (!['ENOSPC', 'EDQUOT'].includes(errorCode(error) ?? '')) {
      await Promise.all(fds.map(closeFd));
      throw error;
    }
  }
  await stock.addFiles(fds);
}

/** The longest part of a run that one allocation can get. Pure. */
export function seedOf(run: FreeRun, geometry: Geometry): FreeRun {
  let longest: FreeRun = { start: run.start, length: blocks(0) };
  for (const piece of piecesOf([run], geometry)) {
    // Equal ones in the order of the device: what comes first leaves least to be grown backward.
    if (piece.length > longest.length) longest = piece;
  }
  return { start: longest.start, length: blocks(Math.min(longest.length, LONGEST_UNWRITTEN)) };
}

/**
 * The same with what is free before it in its block group: the allocator looks for what has the very length that is asked
 * for, and begins with its first block. Pure.
 *
 * @param most less than so many blocks more: the file has room for them before the run that it mirrors
 */
export function wholeSeed(seed: FreeRun, free: FreeMap, most: number): FreeRun {
  const { firstDataBlock, blocksPerGroup } = free.geometry;
  const group = Math.floor((seed.start - firstDataBlock) / blocksPerGroup);
  const start =
    free.within(firstDataBlock + group * blocksPerGroup, seed.start + 1).at(-1)?.start ?? seed.start;
  const more = seed.start - start;
  const isOneRequest = more < most && seed.length + more <= LONGEST_UNWRITTEN;
  return isOneRequest ? { start, length: blocks(seed.length + more) } : seed;
}

/** A temporary file that mirrors a run, so that its windows end where block groups do. */
class Mirror {
  readonly fd: number;
  #run: FreeRun;
  readonly #stock: DonorStock;
  /** Logical block of the run's first. */
  readonly #base: number;

  static async open(run: FreeRun, geometry: Geometry, stock: DonorStock): Promise<Mirror> {
    const { dirFd, blockSize } = stock;
    const window = windowBlocks(blockSize);
    const phase = (run.start - geometry.firstDataBlock) % window;
    const base = (Math.ceil(FIRST_SLOT / window) + 1) * window + phase;
    const fd = await openDirectTemporary(dirFd);
    try {
      await makeLeaf(fd, blockSize);
      // A block behind the run cuts the last request off. Of a small file blocks come near its inode, of a large one where
      // somebody else was last, which may be in the run: so it is allocated first and shifted there.
      const stop = toBytes(blocks(FIRST_SLOT), blockSize);
      await fallocate(fd, 0, stop, blockSize);
      await fallocate(fd, FALLOC.INSERT_RANGE, stop, bytes((base + run.length) * blockSize - stop));
      return new Mirror(fd, run, stock, base);
    } catch (error) {
      await closeFd(fd);
      throw error;
    }
  }

  private constructor(fd: number, run: FreeRun, stock: DonorStock, base: number) {
    this.fd = fd;
    this.#run = run;
    this.#stock = stock;
    this.#base = base;
  }

  #logicalOf(physical: number): Blocks {
    return blocks(this.#base + physical - this.#run.start);
  }

  /** Allocates what mirrors a part of the device, wherever it comes to lie. */
  async allocate(physical: number, length: number): Promise<void> {
    const { blockSize } = this.#stock;
    const range = [
      toBytes(this.#logicalOf(physical), blockSize),
      toBytes(blocks(length), blockSize),
    ] as const;
    await fallocate(this.fd, 0, ...range);
  }

  /** Whether blocks lie where they mirror what they are. */
  holds({ start, length }: FreeRun): Promise<boolean> {
    return liesAt(this.fd, this.#logicalOf(start), length, start, this.#stock.blockSize);
  }

  /** Where blocks lie that mirror a part of the device. */
  mapped({ start, length }: FreeRun): Promise<readonly FreeExtent[]> {
    return mapped(this.fd, this.#logicalOf(start), length, this.#stock.blockSize);
  }

  /**
   * Mirrors another run of the same length, so many blocks further on, from now on.
   *
   * @returns whether it can: the windows of the file must end where block groups do
   */
  shift(by: number): boolean {
    if (by % windowBlocks(this.#stock.blockSize) !== 0) return false;
    this.#run = { start: blocks(this.#run.start + by), length: this.#run.length };
    return true;
  }

  /**
   * Allocates the rest of the run.
   *
   * @param made told of another file that holds something of it
   */
  async growFrom(
    seed: FreeRun,
    made: (fd: number) => void,
    commit: () => Promise<void>,
    blocksPerPage: number,
  ): Promise<void> {
    const { blockSize } = this.#stock;
    const window = windowBlocks(blockSize);
    const behind = between(seed.start + seed.length, this.#run.start + this.#run.length);
    const forward = await growForward(this.fd, this.#logicalOf(behind.start), behind, blockSize);
    if (forward < behind.length || seed.start <= this.#run.start) return;
    // Backward a window must be whole.
    const first = this.#run.start + ((window - (this.#base % window)) % window);
    const before = between(first, seed.start);
    const backward = await growBackward(this.fd, this.#logicalOf(first), before, blockSize);
    if (backward < before.length || first === this.#run.start) return;
    await this.#addFront(between(this.#run.start, first), made, commit, blocksPerPage);
  }

  /** Allocates what lies before the first whole window. */
  async #addFront(
    front: FreeRun,
    made: (fd: number) => void,
    commit: () => Promise<void>,
    blocksPerPage: number,
  ): Promise<void> {
    const { dirFd, blockSize, reserveShare } = this.#stock;
    if (2 * front.length + MOST_BESIDES > (await this.#stock.spendable())) return;
    // There is little else where the allocator was last, so this may be it.
    await this.allocate(front.start, front.length);
    if (await this.holds(front)) return;
    // If not, in a file of its own, where it begins with a window, and then exchanged with what comes instead, which must
    // not be in its way.
    const logical = this.#logicalOf(front.start);
    await freeAt(this.fd, logical, front.length, blockSize);
    await commit();
    const neighbour = { fd: this.fd, logical: this.#logicalOf(front.start + front.length) };
    const options = {
      blockSize,
      blocksPerPage,
      commit,
      ...(reserveShare === undefined ? {} : { reserveShare }),
    };
    const placed = await placeExactly(dirFd, [{ ...front, behind: neighbour }], options);
    placed.files.forEach(made);
    const [run, ...others] = placed.got[0];
    if (run?.length !== front.length || others.length > 0) return;
    await this.allocate(front.start, front.length);
    await moveExtents(this.fd, run.donorFd, logical, run.start, front.length);
  }
}

const between = (start: number, end: number): FreeRun => ({
  start: blocks(start),
  length: blocks(Math.max(0, end - start)),
});
