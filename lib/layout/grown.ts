/** A longer array in place of `old`, with its elements. */
export function grown<T extends { set(from: ArrayLike<number>): void } & ArrayLike<number>>(
  old: T,
  longer: T,
): T {
  longer.set(old);
  return longer;
}
