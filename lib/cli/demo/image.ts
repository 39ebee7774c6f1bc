import { mkdir, mkdtemp, rm, rmdir, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytes, type Bytes } from '../../layout/units.ts';
import { tool, tryTool } from './tools.ts';

const KiB = 1024;
const SIZE = 512 * KiB * KiB;

/** A sparse file with an ext4 in it, mounted through a loop device that goes away with the mount. */
export class LoopImage {
  readonly blockSize: Bytes = bytes(4 * KiB);
  readonly path: string;
  readonly mountPoint: string;
  readonly #folder: string;
  #mounted = false;

  private constructor(folder: string) {
    this.#folder = folder;
    this.path = join(folder, 'image');
    this.mountPoint = join(folder, 'mnt');
  }

  /** Names a temporary folder for it; {@link make} does the rest, and {@link remove} takes all away. */
  static async plan(): Promise<LoopImage> {
    return new LoopImage(await mkdtemp(join(tmpdir(), 'ext4-defrag-demo-')));
  }

  /** @throws ToolError */
  async make(): Promise<void> {
    await writeFile(this.path, '');
    await truncate(this.path, SIZE);
    await mkdir(this.mountPoint);
    await tool('mkfs.ext4', ['-q', '-F', '-b', String(this.blockSize), this.path]);
    // Before the call: a signal may end mount(8) when the filesystem is mounted already.
    this.#mounted = true;
    await tool('mount', ['-t', 'ext4', '-o', 'loop', this.path, this.mountPoint]);
  }

  /** @throws ToolError */
  async unmount(): Promise<void> {
    if (!this.#mounted) return;
    await tool('umount', [this.mountPoint]);
    this.#mounted = false;
  }

  /** Takes away whatever there is of it, also after half of it failed. */
  async remove(): Promise<void> {
    if (this.#mounted) {
      // Something may still use it: then it is detached, and goes when that ends. Or it was never mounted.
      await tryTool('umount', ['--lazy', this.mountPoint]).catch(() => undefined);
      this.#mounted = false;
    }
    // Not recursively: a mount that could not be undone is not emptied.
    await rmdir(this.mountPoint).catch(() => undefined);
    await rm(this.path, { force: true });
    await rmdir(this.#folder);
  }
}
