import { openTemporary } from '../kernel/allocate.ts';
import { closeFd, fsyncFd, truncateFd } from '../kernel/handle.ts';
import { atLeast, type KernelVersion } from '../ext4/safety.ts';

/**
 * Commits the journal, so that every exchange before it survives a crash. MOVE_EXT does not mark the inode as
 * changed for fdatasync, and freed blocks may be given to others before the exchange is on disk: without a barrier
 * an application's synced write, or another file's privacy, would hang on the next commit.
 */
export class Barrier {
  readonly #dirFd: number;
  readonly #privateFd: number | undefined;
  #size = 0;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(dirFd: number, privateFd: number | undefined) {
    this.#dirFd = dirFd;
    this.#privateFd = privateFd;
  }

  static async open(dirFd: number, kernel: KernelVersion): Promise<Barrier> {
    // Since 6.12 fsync of a directory commits in full. Before, it waits only for the transaction that last changed
    // the directory; there a private file is changed first, which puts it into the running transaction. Its size, since
    // that fails where the journal has been aborted: Debian's 6.1.192 calls a change of the mode, and the fsync after it,
    // a success then (ext4_dirty_inode has nobody to tell, and the filesystem does not turn read-only).
    return new Barrier(dirFd, atLeast(kernel, 6, 12) ? undefined : await openTemporary(dirFd));
  }

  /** Resolves when everything exchanged before the call is durable. Callers that come together share a commit. */
  commit(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#commitNow().finally(() => (this.#running = undefined));
      return this.#running;
    }
    // The one under way may have begun before the caller's exchange ended: that needs the one after it.
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.commit();
      });
    return this.#next;
  }

  async #commitNow(): Promise<void> {
    if (this.#privateFd === undefined) return fsyncFd(this.#dirFd);
    this.#size = 1 - this.#size;
    await truncateFd(this.#privateFd, this.#size);
    await fsyncFd(this.#privateFd);
  }

  async close(): Promise<void> {
    if (this.#privateFd !== undefined) await closeFd(this.#privateFd);
  }
}
