/**
 * The first of `count` indexes for which something holds, by bisection: it holds for all that follow as well.
 *
 * @returns `count` where it holds for none
 */
export function firstIndex(count: number, holds: (index: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
