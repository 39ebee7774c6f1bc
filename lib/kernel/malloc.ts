import { native } from './native.ts';

/**
 * Has malloc map what is larger than so many bytes, and give it back to the kernel as soon as it is freed (mallopt(3),
 * M_MMAP_THRESHOLD). It does so anyway, but raises the limit with whatever is freed; what is below it then stays with the
 * thread that had it.
 *
 * @returns whether it does: musl's malloc has no such limit
 */
export const mapLargeAllocations = (bytes: number): boolean => native().setMmapThreshold(bytes) === 0;
