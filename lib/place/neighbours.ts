import { Invalid } from '../ext4/invalid.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd, O, openByHandle } from '../kernel/handle.ts';
import { firstIndex } from '../layout/firstIndex.ts';
import { Ext4Device } from '../scan/device.ts';
import type { Filesystem } from '../scan/filesystem.ts';
import { scanInodeTables } from '../scan/inodeTables.ts';

/** A block of a regular file. */
export interface OwnedBlock {
  readonly inode: number;
  readonly logical: number;
}

const ROOT_INODE = 2;

/**
 * Which regular files own some blocks of a filesystem, which ext4 keeps no record of. What is known may be out of date,
 * so whoever acts on it asks the file first.
 */
export class Neighbours {
  readonly #filesystem: Pick<Filesystem, 'device' | 'id'>;
  readonly #dirFd: number;
  readonly #known = new Map<number, OwnedBlock | undefined>();
  readonly #knownElsewhere: (block: number) => OwnedBlock | undefined;

  /** @param knownElsewhere goes before what is found here */
  constructor(
    filesystem: Pick<Filesystem, 'device' | 'id'>,
    dirFd: number,
    knownElsewhere: (block: number) => OwnedBlock | undefined = () => undefined,
  ) {
    this.#filesystem = filesystem;
    this.#dirFd = dirFd;
    this.#knownElsewhere = knownElsewhere;
  }

  /** Notes that a file has blocks now, where somebody may ask for one of their ends. */
  note(inode: number, logical: number, physical: number, length: number): void {
    this.#known.set(physical, { inode, logical });
    this.#known.set(physical + length - 1, { inode, logical: logical + length - 1 });
  }

  /** undefined where no regular file has it. */
  ownerOf(block: number): OwnedBlock | undefined {
    return this.#knownElsewhere(block) ?? this.#known.get(block);
  }

  /**
   * Finds out about blocks that are not known, by one pass over the inode tables.
   *
   * @returns why that is not possible
   */
  async learn(asked: Iterable<number>, signal: AbortSignal): Promise<string | undefined> {
    const unknown = Float64Array.from(new Set(asked))
      .filter((block) => !this.#known.has(block) && this.#knownElsewhere(block) === undefined)
      .sort();
    if (unknown.length === 0) return undefined;
    const { device: path, id } = this.#filesystem;
    let device: Ext4Device | undefined;
    try {
      // What cannot be opened by number is of no use.
      await closeFd(await openByHandle(this.#dirFd, ROOT_INODE, 0, O.RDONLY | O.DIRECTORY));
      const opened = await Ext4Device.open(path, id);
      if (opened instanceof Invalid) return `${path} cannot be understood: ${opened.reason}`;
      device = opened;
      for (const block of unknown) this.#known.set(block, undefined);
      const extents = (inode: number, logical: number, physical: number, length: number) => {
        for (let i = firstFrom(unknown, physical); unknown[i] < physical + length; i++) {
          this.#known.set(unknown[i], { inode, logical: logical + unknown[i] - physical });
        }
      };
      for await (const batch of scanInodeTables(device, { extents, signal })) void batch;
      return undefined;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return `to find whose blocks are whose takes root and a readable device (${error.message})`;
    } finally {
      await device?.close();
    }
  }
}

/** The index of the first number that is not less. */
const firstFrom = (sorted: Float64Array, least: number): number =>
  firstIndex(sorted.length, (i) => sorted[i] >= least);
