/**
 * The Hilbert curve through a square of `side` by `side` cells, a power of two: what lies close together on the device
 * lies close together in the square. A quarter of the square, or of that, and so on, holds one stretch of the curve, and
 * is at the same place of the coarser curve; so a map can be drawn at any scale.
 */
export function hilbertIndex(side: number, x: number, y: number): number {
  let index = 0;
  for (let half = side >> 1; half > 0; half >>= 1) {
    const right = x & half ? 1 : 0;
    const lower = y & half ? 1 : 0;
    index += half * half * ((3 * right) ^ lower);
    if (lower === 0) {
      if (right === 1) {
        x = side - 1 - x;
        y = side - 1 - y;
      }
      [x, y] = [y, x];
    }
  }
  return index;
}

/** Where on the square a place of the curve is: the inverse of {@link hilbertIndex}. */
export function hilbertPlace(side: number, index: number): { readonly x: number; readonly y: number } {
  let [x, y, rest] = [0, 0, index];
  for (let size = 1; size < side; size *= 2) {
    const right = 1 & (rest >> 1);
    const lower = 1 & (rest ^ right);
    if (lower === 0) {
      if (right === 1) {
        x = size - 1 - x;
        y = size - 1 - y;
      }
      [x, y] = [y, x];
    }
    x += size * right;
    y += size * lower;
    rest >>= 2;
  }
  return { x, y };
}
