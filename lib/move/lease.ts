import { isMainThread } from 'node:worker_threads';
import { errorCode } from '../kernel/errors.ts';
import { dropLease, leaseUndisturbed, takeLease } from '../kernel/handle.ts';

/**
 * The write leases on the files of a batch. While one is held nobody else has the file open, and whoever opens it
 * waits: so no application can sync a write into the window between an exchange and its barrier.
 */
export class Leases implements Disposable {
  readonly #held = new Set<number>();
  #wanted = false;
  readonly #onBreak = () => (this.#wanted = true);

  constructor() {
    // The kernel tells by SIGURG (see takeLease) that somebody waits. Worker threads get no signals; there a waiting
    // opener waits for the end of the batch.
    if (isMainThread) process.on('SIGURG', this.#onBreak);
  }

  /** @returns false when someone else has the file open or mapped, or leases are not to be had */
  async take(fd: number): Promise<boolean> {
    try {
      if (!(await takeLease(fd))) return false;
    } catch (error) {
      // Another user's file without CAP_LEASE, or a kernel without leases: as if it were open elsewhere.
      if (['EACCES', 'EINVAL', 'EOPNOTSUPP'].includes(errorCode(error) ?? '')) return false;
      throw error;
    }
    this.#held.add(fd);
    return true;
  }

  holds(fd: number): boolean {
    return this.#held.has(fd);
  }

  /** The descriptors whose lease somebody waits for. Costs nothing while nobody does. */
  async wanted(): Promise<number[]> {
    if (!this.#wanted) return [];
    this.#wanted = false;
    const disturbed: number[] = [];
    for (const fd of this.#held) if (!(await leaseUndisturbed(fd))) disturbed.push(fd);
    return disturbed;
  }

  async drop(fd: number): Promise<void> {
    if (this.#held.delete(fd)) await dropLease(fd);
  }

  [Symbol.dispose](): void {
    process.off('SIGURG', this.#onBreak);
  }
}
