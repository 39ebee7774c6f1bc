import type { FileColumns } from '../ext4/files.ts';
import type { ExtentVisitor } from '../ext4/tables.ts';
import { blocks, bytes, toBlocks, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import type { FreeMap } from '../place/freeMap.ts';
import { OwnerMap } from '../place/owners.ts';
import { Terrain } from '../place/window.ts';
import type { ClearableWindow } from '../report/events.ts';
import { immovable } from './eligibility.ts';

const MiB = 2 ** 20;

/** Lengths of runs that are asked after, in bytes. */
const RUNS = [16, 64, 256].map((size) => bytes(size * MiB));

/** Which longer runs of free blocks could be made by moving files out of the way, as far as the inode tables tell. */
export class ClearableWindows {
  /** Is to be told of the extents of all files. */
  readonly visit: ExtentVisitor;
  readonly #owners: OwnerMap;
  readonly #immovable = new Set<number>();
  readonly #blockSize: Bytes;
  readonly #blocksCount: Blocks;

  /** @param blocksCount of the filesystem */
  constructor(blocksCount: Blocks, blockSize: Bytes) {
    this.#blocksCount = blocksCount;
    this.#blockSize = blockSize;
    this.#owners = new OwnerMap(blocksCount);
    this.visit = (inode, logical, physical, length) => {
      this.#owners.set({ inode, logical, physical, length });
    };
  }

  /** Notes which files cannot be moved. Swap files are not told from others here. */
  addFiles({ count, inode, size, flags }: FileColumns): void {
    for (let row = 0; row < count; row++) {
      const facts = {
        regular: true,
        size: bytes(size[row]),
        hasBlocks: true,
        flags: flags[row],
        swap: false,
      };
      if (immovable(facts) !== undefined) this.#immovable.add(inode[row]);
    }
  }

  /**
   * The cheapest window for each length of {@link runsToMake}, when all files are known.
   *
   * @param spendable blocks that may be held meanwhile
   */
  windows(map: FreeMap, spendable: Blocks): ClearableWindow[] {
    const terrain = new Terrain(this.#blocksCount, map, this.#owners);
    return runsToMake(map, spendable, this.#blockSize).map((run) => {
      const length = toBlocks(run, this.#blockSize);
      const window = terrain.cheapest({ length, mostCost: spendable, immovable: this.#immovable });
      return {
        run,
        start: window?.start ?? null,
        evacuate: window === undefined ? null : toBytes(blocks(window.cost), this.#blockSize),
      };
    });
  }
}

/** The lengths, in bytes, that no free run has and that fit beside the reserve. */
export function runsToMake(map: FreeMap, spendable: Blocks, blockSize: Bytes): Bytes[] {
  const [longest, most] = [toBytes(map.longestRun, blockSize), toBytes(spendable, blockSize)];
  return RUNS.filter((run) => run > longest && run <= most);
}
