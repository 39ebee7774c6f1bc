import { fallocate, openTemporary } from '../kernel/allocate.ts';
import { errorCode } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { closeFd, statFilesystem, truncateFd } from '../kernel/handle.ts';
import { mergeExtents } from '../layout/extents.ts';
import { blocks, bytes, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import type { Run } from './assign.ts';

/** The share of a filesystem that is never allocated, not for a moment. */
const RESERVE_SHARE = 0.05;

/** Free blocks that may be used: what is free less the larger of 5 % and what is reserved for root. */
export async function spendableBlocks(fd: number): Promise<Blocks> {
  const { total, free, available } = await statFilesystem(fd);
  const reserve = Math.max(Math.ceil(total * RESERVE_SHARE), free - available);
  return blocks(Math.max(0, free - reserve));
}

/**
 * The temporary files whose blocks a batch is exchanged with. They have no names, so nothing is left behind
 * whatever happens; closing the stock frees their blocks.
 */
export class DonorStock {
  readonly #dirFds: readonly number[];
  readonly #blockSize: Bytes;
  readonly #donors = new Map<number, Run[]>();

  /**
   * @param dirFds directories of the filesystem, the preferred one first: ext4 allocates a file's blocks near its
   *   inode, and that near its directory. The next is tried where a file may not be made.
   */
  constructor(dirFds: readonly number[], blockSize: Bytes) {
    this.#dirFds = dirFds;
    this.#blockSize = blockSize;
  }

  /** All contiguous runs held. */
  *runs(): Iterable<Run> {
    for (const runs of this.#donors.values()) yield* runs;
  }

  /** Blocks of the longest run. */
  get longestRun(): number {
    let longest = 0;
    for (const { length } of this.runs()) longest = Math.max(longest, length);
    return longest;
  }

  /**
   * Allocates one more donor.
   *
   * @param rounded ask for a power of two and cut the rest off: the buddy allocator finds contiguous runs of such
   *   sizes far more often
   * @returns false when the filesystem's reserve or the quota does not allow it
   */
  async add(count: Blocks, rounded: boolean): Promise<boolean> {
    const asked = rounded ? blocks(2 ** Math.ceil(Math.log2(count))) : count;
    if (asked > (await spendableBlocks(this.#dirFds[0]))) return false;
    const fd = await this.#create();
    try {
      await fallocate(fd, 0, bytes(0), toBytes(asked, this.#blockSize));
      if (asked > count) await truncateFd(fd, toBytes(count, this.#blockSize));
      this.#donors.set(fd, await this.#runsOf(fd));
      return true;
    } catch (error) {
      await closeFd(fd);
      const code = errorCode(error);
      if (code === 'ENOSPC' || code === 'EDQUOT') return false;
      throw error;
    }
  }

  async #create(): Promise<number> {
    const [preferred, ...others] = this.#dirFds;
    try {
      return await openTemporary(preferred);
    } catch (error) {
      if (others.length === 0) throw error;
      return openTemporary(others[0]);
    }
  }

  async #runsOf(fd: number): Promise<Run[]> {
    const extents = mergeExtents(await fiemap(fd, this.#blockSize));
    return Array.from(extents, ({ logical, physical, length }) => ({
      donorFd: fd,
      start: logical,
      physical,
      length,
    }));
  }

  /** Closes every donor but those in use. */
  async keepOnly(used: ReadonlySet<number>): Promise<void> {
    const unused = [...this.#donors.keys()].filter((fd) => !used.has(fd));
    for (const fd of unused) this.#donors.delete(fd);
    await Promise.all(unused.map(closeFd));
  }

  close(): Promise<void> {
    return this.keepOnly(new Set());
  }
}
