/** Natural numbers below a limit, the same ones for the same seed (mulberry32). */
export type Below = (limit: number) => number;

export function randomFrom(seed: number): Below {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 15), 1 | state);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/** From `least` to `most`, more often small: each power of two is as likely as any other. */
export const between = (below: Below, least: number, most: number): number =>
  Math.round(least * (most / least) ** (below(1 << 16) / (1 << 16)));

export const oneOf = <T>(below: Below, choices: readonly T[]): T => choices[below(choices.length)];
