import { expect, test } from 'vitest';
import { shareOfLimit } from '../../lib/kernel/openFiles.ts';

test.each([
  // Enough for all.
  [128, 1024, 128],
  [128, 1_048_576, 128],
  [128, Infinity, 128],
  // Others need some, too.
  [128, 256, 72],
  [128, 64, 8],
  // One at least: less is no work.
  [128, 43, 1],
  [128, 10, 1],
])('of %d files that would be as well, where %d may be open: %d', (most, limit, share) => {
  expect(shareOfLimit(most, limit)).toBe(share);
});
