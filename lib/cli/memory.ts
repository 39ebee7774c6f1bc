import { setFlagsFromString } from 'node:v8';
import { mapLargeAllocations } from '../kernel/malloc.ts';

/** What glibc begins with. */
const LARGE = 128 * 1024;

/**
 * Keeps the process small, once the addon is there. A run makes much that lives for a moment only: a larger space for new
 * objects takes no less time and tens of megabytes more, and so do the free blocks of a filesystem, left behind by each
 * of the threads that have listed them.
 */
export function keepMemorySmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  mapLargeAllocations(LARGE);
}
