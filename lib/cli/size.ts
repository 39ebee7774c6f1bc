import { bytes, type Bytes } from '../layout/units.ts';
import { UsageError } from './usageError.ts';

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/**
 * Bytes from a number with or without a binary unit: 4096, 64K, 8MiB, 2g. Decimal units such as MB are refused:
 * half the world takes them for the binary ones.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseSize(text: string, where: string): Bytes {
  const match = /^(\d+)(?:([KMGT])(?:iB)?)?$/i.exec(text);
  const size = match ? Number(match[1]) * FACTORS[(match[2] ?? '').toUpperCase()] : NaN;
  if (!Number.isSafeInteger(size)) {
    throw new UsageError(
      `${where} ${text} is not a size: give bytes, or K, M, G or T (1024-based), such as 64M`,
    );
  }
  return bytes(size);
}

/**
 * A size that is not 0.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseSizeAboveZero(text: string, where: string): Bytes {
  const size = parseSize(text, where);
  if (size === 0) throw new UsageError(`${where} must be more than 0`);
  return size;
}

/**
 * A size that is a power of two: every block size is one, so such a size is a multiple of it or the reverse.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseAlignment(text: string, where: string): Bytes {
  const size = parseSize(text, where);
  if (Number.isInteger(Math.log2(size))) return size;
  throw new UsageError(`${where} ${text} is not a power of two: give a size such as 64K or 1M`);
}

/**
 * Bytes a second: a size that is not 0, with or without "/s".
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export const parseRate = (text: string, where: string): Bytes =>
  parseSizeAboveZero(text.replace(/\/s$/, ''), where);

/**
 * A whole number, 0 included.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseCount(text: string, where: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(count)) {
    throw new UsageError(`${where} ${text} is not a count: give a whole number such as 20, or 0 for none`);
  }
  return count;
}
