import { EXTENT_FLAG, type ExtentTable } from './extents.ts';

/** Hexadecimal digits kept: 128 bits, which no two layouts share by chance, and which still fit into a line. */
export const FINGERPRINT_DIGITS = 32;

/**
 * A few characters that stand for a merged layout: two layouts with the same fingerprint are the same, block for block.
 * Whether blocks are written counts; what else FIEMAP flags depends on the extent-status cache and does not.
 */
export function fingerprint({ count, logical, physical, length, flags }: ExtentTable): string {
  const unwritten = new Uint8Array(count);
  for (let i = 0; i < count; i++) unwritten[i] = flags[i] & EXTENT_FLAG.UNWRITTEN ? 1 : 0;
  // Loaded when it is used: it takes longer than most of this program.
  const hash = process.getBuiltinModule('node:crypto').createHash('sha256');
  for (const column of [logical, physical, length, unwritten]) hash.update(column.subarray(0, count));
  return hash.digest('hex').slice(0, FINGERPRINT_DIGITS);
}
