import { FALLOC, fallocate, openDirectTemporary } from '../kernel/allocate.ts';
import { errorCode } from '../kernel/errors.ts';
import { closeFd } from '../kernel/handle.ts';
import { moveExtents } from '../kernel/moveExtent.ts';
import { blocks, bytes, toBytes, type Blocks } from '../layout/units.ts';
import { LONGEST_UNWRITTEN, type DonorStock } from './donors.ts';
import {
  FIRST_SLOT,
  growBackward,
  growForward,
  liesAt,
  makeLeaf,
  placeExactly,
  windowBlocks,
} from './exact.ts';
import { piecesOf, type FreeRun, type Geometry } from './freeMap.ts';
import type { SearchDepth } from './searchDepth.ts';

/** How often the allocator is asked. What it answers is held, so each answer is another. */
const TRIES = 4;
/** Blocks that a file has besides the run, for its extent tree and to cut requests off. */
const MOST_BESIDES = 16;

/**
 * Allocates a free run that is longer than one allocation. The allocator is asked for as much as the run has in one block
 * group, which few others have; from there on the run is grown forward and backward, window by window.
 *
 * The stock gets what was allocated: the run, as far as it was to be had, and what the allocator answered instead.
 *
 * @throws a system error
 */
export async function allocateLong(
  run: FreeRun,
  geometry: Geometry,
  stock: DonorStock,
  depth: SearchDepth,
  blocksPerPage: number,
): Promise<void> {
  const fds: number[] = [];
  try {
    const seed = seedOf(run, geometry);
    for (let attempt = 0; attempt < TRIES; attempt++) {
      if (run.length + MOST_BESIDES > (await stock.spendable())) break;
      const mirror = await Mirror.open(run, geometry, stock);
      fds.push(mirror.fd);
      await depth.raisedDuring(() => mirror.allocate(seed.start, seed.length));
      if (!(await mirror.holds(seed))) continue;
      await mirror.growFrom(seed, (fd) => fds.push(fd), blocksPerPage);
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

/** A temporary file that mirrors a run, so that its windows end where block groups do. */
class Mirror {
  readonly fd: number;
  readonly #run: FreeRun;
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

  /**
   * Allocates the rest of the run.
   *
   * @param made told of another file that holds something of it
   */
  async growFrom(seed: FreeRun, made: (fd: number) => void, blocksPerPage: number): Promise<void> {
    const { blockSize } = this.#stock;
    const window = windowBlocks(blockSize);
    const behind = between(seed.start + seed.length, this.#run.start + this.#run.length);
    const forward = await growForward(this.fd, this.#logicalOf(behind.start), behind, blockSize);
    if (forward < behind.length || seed.start === this.#run.start) return;
    // Backward a window must be whole.
    const first = this.#run.start + ((window - (this.#base % window)) % window);
    const before = between(first, seed.start);
    const backward = await growBackward(this.fd, this.#logicalOf(first), before, blockSize);
    if (backward < before.length || first === this.#run.start) return;
    await this.#addFront(between(this.#run.start, first), made, blocksPerPage);
  }

  /** Allocates what lies before the first whole window. */
  async #addFront(front: FreeRun, made: (fd: number) => void, blocksPerPage: number): Promise<void> {
    const { dirFd, blockSize, reserveShare } = this.#stock;
    if (2 * front.length + MOST_BESIDES > (await this.#stock.spendable())) return;
    // There is little else where the allocator was last, so this may be it.
    await this.allocate(front.start, front.length);
    if (await this.holds(front)) return;
    // If not, in a file of its own, where it begins with a window, and then exchanged with what came instead.
    const neighbour = { fd: this.fd, logical: this.#logicalOf(front.start + front.length) };
    const options = { blockSize, blocksPerPage, ...(reserveShare === undefined ? {} : { reserveShare }) };
    const placed = await placeExactly(dirFd, [{ ...front, behind: neighbour }], options);
    placed.files.forEach(made);
    const [run, ...others] = placed.got[0];
    if (run?.length !== front.length || others.length > 0) return;
    await moveExtents(this.fd, run.donorFd, this.#logicalOf(front.start), run.start, front.length);
  }
}

const between = (start: number, end: number): FreeRun => ({
  start: blocks(start),
  length: blocks(Math.max(0, end - start)),
});
