// Filesystems whose free space is in small pieces, between files that can all be moved.
import { closeSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { bytes } from '../../lib/layout/units.ts';
import type { Lab } from './lab.ts';
import { commit, extentsOf } from './layout.ts';
import { randomFrom, type Below } from './random.ts';

const KiB = 1024;

/** The most extents that an inode has without a block for its tree. */
const WITHOUT_TREE = 4;

/** In percent of the files. */
const GONE = 35;

/**
 * Fills an empty filesystem with small files, each in one piece, and deletes many: free space is in small pieces, and
 * between them is nothing that cannot be moved, neither extent trees nor directories.
 *
 * @returns the names of the files
 */
export async function crumble(lab: Lab, seed: number): Promise<readonly string[]> {
  return (await Crumbs.make(lab, seed)).names;
}

/** A filesystem as {@link crumble} makes it, which can be made anew in what a run has left. */
export class Crumbs {
  /** Of the files that there are now. */
  names: readonly string[] = [];
  readonly #lab: Lab;
  readonly #gone: number;
  /** In bytes, by name: also of those that were deleted. */
  readonly #sizes = new Map<string, number>();

  private constructor(lab: Lab, gone: number) {
    this.#lab = lab;
    this.#gone = gone;
  }

  /** @param gone how many of a hundred files are deleted */
  static async make(lab: Lab, seed: number, gone = GONE): Promise<Crumbs> {
    const crumbs = new Crumbs(lab, gone);
    const below = randomFrom(seed);
    await crumbs.#takeReserved();
    const { bfree, bsize } = statfsSync(lab.mountPoint);
    let left = bfree * bsize * 0.99 - 256 * KiB;
    while (left > 0) {
      const size = (1 + below(64)) * 4 * KiB;
      const name = `f${crumbs.#sizes.size}`;
      crumbs.#sizes.set(name, size);
      left -= size;
      // The directory is as long as it will be before anything lies behind it.
      closeSync(openSync(lab.path(name), 'wx'));
    }
    await commit(lab);
    await crumbs.#fill(below);
    return crumbs;
  }

  /** Makes the files again that are gone, wherever there is room, and deletes as many others. */
  async again(seed: number): Promise<void> {
    await commit(this.#lab);
    await this.#takeReserved();
    await this.#fill(randomFrom(seed));
  }

  /** What ext4 keeps for itself since it was mounted would be a long free run. */
  async #takeReserved(): Promise<void> {
    const name = basename(await this.#lab.device());
    await writeFile(`/sys/fs/ext4/${name}/reserved_clusters`, '0');
  }

  async #fill(below: Below): Promise<void> {
    const lab = this.#lab;
    const made = new Set<string>();
    const there = new Set(this.names);
    for (const [name, size] of this.#sizes) {
      if (there.has(name)) continue;
      const fd = openSync(lab.path(name), 'a');
      await fallocate(fd, 0, bytes(0), bytes(size));
      closeSync(fd);
      made.add(name);
    }
    const kept: string[] = [];
    for (const name of this.#sizes.keys()) {
      const goes = below(100) < this.#gone || (await extentsOf(lab, name)).count > WITHOUT_TREE;
      if (goes) rmSync(lab.path(name));
      else kept.push(name);
    }
    for (const name of kept) {
      if (!made.has(name)) continue;
      const fd = openSync(lab.path(name), 'r+');
      writeSync(fd, Buffer.alloc(this.#sizes.get(name)!, `${name} `));
      closeSync(fd);
    }
    this.names = kept;
    await lab.remount();
  }
}
