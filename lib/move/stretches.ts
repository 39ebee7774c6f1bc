import { blocks } from '../layout/units.ts';
import type { OwnedExtent } from '../place/owners.ts';
import type { Relocation } from '../plan/plan.ts';

/** Blocks of all of them. */
export const blocksOf = (parts: Iterable<{ readonly length: number }>): number => {
  let sum = 0;
  for (const { length } of parts) sum += length;
  return sum;
};

/** The stretches of blocks `start` to `end` between others. */
export function* between(
  others: readonly { readonly start: number; readonly length: number }[],
  start: number,
  end: number,
): Generator<[number, number], void, void> {
  let at = start;
  for (const other of [...others].sort((a, b) => a.start - b.start)) {
    if (other.start > at) yield [at, other.start];
    at = Math.max(at, other.start + other.length);
  }
  if (at < end) yield [at, end];
}

/** The parts of a stretch of a file that are in none of others. */
export function without(
  { logical, physical, length }: Relocation,
  others: readonly Relocation[],
): Relocation[] {
  const end = logical + length;
  const inside = others.flatMap((other) => {
    const [from, to] = [Math.max(logical, other.logical), Math.min(end, other.logical + other.length)];
    return from < to ? [{ start: from, length: to - from }] : [];
  });
  return Array.from(between(inside, logical, end), ([from, to]) => ({
    logical: blocks(from),
    physical: blocks(physical + from - logical),
    length: blocks(to - from),
  }));
}

/** What of an extent lies between two blocks of the device. */
export function partWithin(
  { inode, logical, physical, length }: OwnedExtent,
  from: number,
  to: number,
): OwnedExtent {
  const start = Math.max(physical, from);
  const end = Math.min(physical + length, to);
  return { inode, logical: logical + start - physical, physical: start, length: end - start };
}
