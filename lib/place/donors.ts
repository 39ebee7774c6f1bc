import { fallocate, openTemporary } from '../kernel/allocate.ts';
import { errorCode } from '../kernel/errors.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { closeFd, statFilesystem, truncateFd, type FilesystemSpace } from '../kernel/handle.ts';
import { mergeExtents } from '../layout/extents.ts';
import { blocks, bytes, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import type { Run } from './assign.ts';
import type { SearchDepth } from './searchDepth.ts';

/** The share of a filesystem that is never allocated, not for a moment. */
const RESERVE_SHARE = 0.05;

/**
 * What is left beside the reserve, in bytes: the kernel allocates blocks of extent trees while we hold all that we may,
 * for the files being exchanged as well as for those that they are exchanged with. The worst batch needs as much.
 */
const MARGIN = 2 ** 20;

/** EXT_UNWRITTEN_MAX_LEN of fs/ext4/ext4_extents.h, in blocks: what is longer becomes several extents. */
export const LONGEST_UNWRITTEN = 32767;

/**
 * Blocks that are to stay free: the larger of 5 % and what is reserved for root, or the share that is asked for.
 *
 * @param share of the filesystem, 0 to 1
 */
export function reserveOf({ total, free, available }: FilesystemSpace, share?: number): Blocks {
  if (share !== undefined) return blocks(Math.ceil(total * share));
  return blocks(Math.max(Math.ceil(total * RESERVE_SHARE), free - available));
}

/** Free blocks that may be used: what is free less the reserve. */
export function spendableOf(space: FilesystemSpace, reserveShare?: number): Blocks {
  return blocks(Math.max(0, space.free - reserveOf(space, reserveShare)));
}

/** What may be allocated on a mounted filesystem now: {@link spendableOf} it, less a margin for its extent trees. */
export async function spendableBlocks(fd: number, reserveShare?: number): Promise<Blocks> {
  const space = await statFilesystem(fd);
  return blocks(Math.max(0, spendableOf(space, reserveShare) - Math.ceil(MARGIN / space.blockSize)));
}

/**
 * The share of a filesystem that is to stay free where one is asked for. What ext4 keeps for itself nobody gets, and who
 * may not use what is reserved for root leaves that as well.
 *
 * @param percent that is asked for
 * @param kept what ext4 keeps for itself (reserved_clusters in sysfs)
 * @param privileged whether the kernel gives this process what is reserved for root; if that is not true after all, it
 *   says ENOSPC
 */
export function reserveShareFor(
  percent: number,
  { total, free, available }: FilesystemSpace,
  kept: Blocks,
  privileged = process.geteuid?.() === 0,
): number {
  return Math.max(percent / 100, (privileged ? kept : free - available) / total);
}

/**
 * The temporary files whose blocks a batch is exchanged with. They have no names, so nothing is left behind
 * whatever happens; closing the stock frees their blocks.
 */
export class DonorStock {
  readonly blockSize: Bytes;
  /** As {@link spendableBlocks} has it. */
  readonly reserveShare: number | undefined;
  readonly #dirFds: readonly number[];
  readonly #donors = new Map<number, Run[]>();
  readonly #adopted = new Set<number>();

  /**
   * @param dirFds directories of the filesystem, the preferred one first: ext4 allocates a file's blocks near its
   *   inode, and that near its directory. The next is tried where a file may not be made.
   */
  constructor(dirFds: readonly number[], blockSize: Bytes, reserveShare?: number) {
    this.#dirFds = dirFds;
    this.blockSize = blockSize;
    this.reserveShare = reserveShare;
  }

  /** A directory of the filesystem. */
  get dirFd(): number {
    return this.#dirFds[0];
  }

  /** Blocks that may still be allocated. */
  spendable(): Promise<Blocks> {
    return spendableBlocks(this.dirFd, this.reserveShare);
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
   * @param depth raised meanwhile, so that the allocator finds a run of that length where there is one
   * @returns false when the filesystem's reserve or the quota does not allow it
   */
  async add(count: Blocks, rounded: boolean, depth?: SearchDepth): Promise<boolean> {
    const asked = rounded ? blocks(2 ** Math.ceil(Math.log2(count))) : count;
    if (asked > (await this.spendable())) return false;
    const fd = await this.#create();
    try {
      const allocate = () => fallocate(fd, 0, bytes(0), toBytes(asked, this.blockSize));
      await (depth === undefined ? allocate() : depth.raisedDuring(allocate));
      // Of one that is longer than an extent the allocator keeps more for the file, which nobody could have.
      if (asked > count || asked > LONGEST_UNWRITTEN) await truncateFd(fd, toBytes(count, this.blockSize));
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
    const extents = mergeExtents(await fiemap(fd, this.blockSize));
    return Array.from(extents, ({ logical, physical, length }) => ({
      donorFd: fd,
      start: logical,
      physical,
      length,
    }));
  }

  /** Makes temporary files that hold blocks donors, which it closes from now on. */
  async addFiles(fds: readonly number[]): Promise<void> {
    for (const fd of fds) this.#donors.set(fd, []);
    for (const fd of fds) this.#donors.set(fd, await this.#runsOf(fd));
  }

  /** Holds temporary files of others until it is closed. */
  adopt(fds: readonly number[]): void {
    for (const fd of fds) this.#adopted.add(fd);
  }

  /** Leaves the donors to somebody else, who closes them. */
  letGo(): void {
    this.#donors.clear();
  }

  /** Closes every donor but those in use. */
  async keepOnly(used: ReadonlySet<number>): Promise<void> {
    const unused = [...this.#donors.keys()].filter((fd) => !used.has(fd));
    for (const fd of unused) this.#donors.delete(fd);
    await Promise.all(unused.map(closeFd));
  }

  async close(): Promise<void> {
    const adopted = [...this.#adopted];
    this.#adopted.clear();
    await Promise.all([this.keepOnly(new Set()), ...adopted.map(closeFd)]);
  }
}
