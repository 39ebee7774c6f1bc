import { native } from './native.ts';

// glibc's malloc.h
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;

/**
 * Has malloc map what is larger than so many bytes, and give it back to the kernel as soon as it is freed; and each
 * thread keep no more than that of what it has freed (mallopt(3)). Without this both limits go up with whatever is freed.
 *
 * @returns whether it does: musl's malloc has no such limits, and that of a sanitizer keeps its own
 */
export function keepFreedMemoryBelow(bytes: number): boolean {
  return [M_MMAP_THRESHOLD, M_TRIM_THRESHOLD].every((limit) => native().mallopt(limit, bytes) === 0);
}
