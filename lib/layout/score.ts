/**
 * e4defrag's fragmentation score (e2fsprogs misc/e4defrag.c): fragments above the ideal per 100 blocks, bent so
 * that 10 % gives 80 and more goes on slowly.
 *
 * @returns 0 to 100 for real files; below 31 is no problem, from 56 on the file needs defragmentation
 */
export function e4defragScore(fragments: number, ideal: number, blockCount: number): number {
  if (blockCount === 0) return 0;
  const ratio = ((fragments - ideal) * 100) / blockCount;
  return ratio > 10 ? 80 + (20 * ratio) / 100 : 8 * ratio;
}

/** e4defrag's words for a score. */
export function verdict(score: number): 'no problem' | 'a little bit fragmented' | 'needs defragmentation' {
  if (score > 55) return 'needs defragmentation';
  return score > 30 ? 'a little bit fragmented' : 'no problem';
}
