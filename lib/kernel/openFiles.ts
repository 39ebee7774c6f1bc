import { readFileSync } from 'node:fs';

/** Descriptors that are left for everything else: Node's own, the targets', donors, directories. */
const ELSE = 40;

/**
 * How many files to hold open at a time, of those that would be as well: a third of what the limit allows, since several
 * are held by others meanwhile.
 *
 * @param limit RLIMIT_NOFILE
 */
export const shareOfLimit = (most: number, limit: number): number =>
  Math.max(1, Math.min(most, Math.floor((limit - ELSE) / 3)));

/** {@link shareOfLimit} of this process. */
export function filesAtOnce(most: number): number {
  try {
    // Node raises the soft limit to the hard one when it starts, so it does not change.
    const limits = readFileSync('/proc/self/limits', 'utf8');
    const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
    return soft === undefined ? most : shareOfLimit(most, Number(soft));
  } catch {
    return most;
  }
}
