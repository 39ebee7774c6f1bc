import { isMainThread } from 'node:worker_threads';
import { errorCode } from '../kernel/errors.ts';
import { closeFd, dropLease, leaseUndisturbed, takeLease } from '../kernel/handle.ts';

/**
 * What happens when somebody wants to open a file whose lease is held: `release` commits and drops the lease at once,
 * and the file is moved on with a commit after each chunk; `stop` ends the file's move, and the lease goes when the
 * file is closed, so that the other finds it neither half way nor open.
 */
export type WhenWanted = 'release' | 'stop';

/**
 * The write leases on the files of a batch. While one is held nobody else has the file open, and whoever opens it
 * waits: so no application can sync a write into the window between an exchange and its barrier.
 */
export class Leases implements Disposable {
  readonly #held = new Map<number, WhenWanted>();
  readonly #commit: () => Promise<void>;
  readonly #stopped = new Set<number>();
  readonly #stopping = new AbortController();
  #releasing: Promise<void> = Promise.resolve();
  /** What is being exchanged of each file, and the leases that are being let go of. */
  readonly #exchanging = new Map<number, Promise<unknown>>();
  readonly #leaving = new Map<number, Promise<void>>();
  readonly #onBreak = () => {
    // At once and not between two steps of the iteration: its consumer may take its time, and the kernel takes the
    // lease away after 45 s.
    this.#releasing = this.#releasing.then(() => this.#answer()).catch(() => undefined);
  };

  /** @param commit makes everything exchanged so far durable */
  constructor(commit: () => Promise<void>) {
    this.#commit = commit;
    // The kernel tells by SIGURG (see takeLease) that somebody waits. Worker threads get no signals; there a waiting
    // opener waits for the end of the batch.
    if (isMainThread) process.on('SIGURG', this.#onBreak);
  }

  /** @returns false when someone else has the file open or mapped, or leases are not to be had */
  async take(fd: number, whenWanted: WhenWanted): Promise<boolean> {
    try {
      if (!(await takeLease(fd))) return false;
    } catch (error) {
      // Another user's file without CAP_LEASE, or a kernel without leases: as if it were open elsewhere.
      if (['EACCES', 'EINVAL', 'EOPNOTSUPP'].includes(errorCode(error) ?? '')) return false;
      throw error;
    }
    this.#held.set(fd, whenWanted);
    return true;
  }

  holds(fd: number): boolean {
    return this.#held.has(fd);
  }

  /** Whether somebody waits for a file that was to be stopped then. */
  mustStop(fd: number): boolean {
    return this.#stopped.has(fd);
  }

  /** Aborted when somebody waits for the first such file. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  async #answer(): Promise<void> {
    const disturbed: number[] = [];
    for (const [fd, whenWanted] of this.#held) {
      if (await leaseUndisturbed(fd).catch(() => true)) continue;
      // Closed meanwhile.
      if (!this.#held.has(fd)) continue;
      if (whenWanted === 'stop') {
        this.#stopped.add(fd);
        this.#stopping.abort();
      } else {
        disturbed.push(fd);
      }
    }
    if (disturbed.length === 0) return;
    const release = this.#release(disturbed);
    for (const fd of disturbed) this.#leaving.set(fd, release);
    await release;
    for (const fd of disturbed) this.#leaving.delete(fd);
  }

  /** Drops leases when everything exchanged under them is committed. */
  async #release(fds: readonly number[]): Promise<void> {
    await Promise.all(fds.map((fd) => this.#exchanging.get(fd) ?? Promise.resolve()));
    // A commit that fails here fails for the batch as well, which reports it.
    await this.#commit().catch(() => undefined);
    for (const fd of fds) await this.#drop(fd).catch(() => undefined);
  }

  /**
   * Exchanges something of a file. While its lease is being let go of, that waits: an exchange that the commit before it
   * does not cover would be open to whoever waited.
   */
  async exchange<T>(fd: number, work: () => Promise<T>): Promise<T> {
    await this.#leaving.get(fd);
    const running = work();
    const all = Promise.allSettled([this.#exchanging.get(fd), running]);
    this.#exchanging.set(fd, all);
    return running;
  }

  async #drop(fd: number): Promise<void> {
    if (this.#held.delete(fd)) await dropLease(fd);
  }

  /**
   * Closes a file of which nothing was exchanged, and its lease goes with it. Not one after the other: who waits for
   * the lease to execute the file would find it open for writing.
   */
  async close(fd: number): Promise<void> {
    this.#held.delete(fd);
    await closeFd(fd);
  }

  /** Resolves when no answer to a waiting opener is under way: before the files are closed. */
  async settled(): Promise<void> {
    if (isMainThread) process.off('SIGURG', this.#onBreak);
    await this.#releasing;
  }

  [Symbol.dispose](): void {
    process.off('SIGURG', this.#onBreak);
  }
}
