import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { keepFreedMemoryBelow } from '../kernel/malloc.ts';

/**
 * Keeps the space for new objects at the size that it has now. A run makes much that lives for a moment only; a larger
 * space takes no less time and tens of megabytes more.
 */
export function keepNurserySmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
}

/** Bytes of a heap's limit from which on V8 lets it grow to four times what lives in it. Of smaller ones it takes more care. */
const LARGE_LIMIT = 2 * 1024 ** 3;

/** What glibc begins with, in bytes. */
const KEPT = 128 * 1024;

/**
 * Keeps the rest of the process small, once the addon is there. What moves files runs for long beside others, and would
 * let its heap grow to several times what lives in it; and each thread that has listed the free blocks of a filesystem
 * would keep the room for them.
 */
export function keepHeapSmall(): void {
  if (getHeapStatistics().heap_size_limit >= LARGE_LIMIT) setFlagsFromString('--heap-growing-percent=150');
  keepFreedMemoryBelow(KEPT);
}
