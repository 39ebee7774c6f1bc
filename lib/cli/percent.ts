import { UsageError } from './usageError.ts';

/**
 * A part of a whole in percent, with or without the sign: 40, 2.5%.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parsePercent(text: string, where: string): number {
  const percent = numberIn(text);
  if (!(percent > 0 && percent <= 100)) {
    throw new UsageError(
      `${where} ${text} is not a percentage: give more than 0 and no more than 100, such as 40`,
    );
  }
  return percent;
}

/**
 * A part of a whole that stays unused, in percent, with or without the sign: none of it, or nearly all.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseReserve(text: string, where: string): number {
  const percent = numberIn(text);
  if (!(percent >= 0 && percent <= 99)) {
    throw new UsageError(`${where} ${text} is not a percentage: give one from 0 to 99, such as 2.5`);
  }
  return percent;
}

/** NaN for what is none. */
function numberIn(text: string): number {
  const [, number] = /^(\d+(?:\.\d+)?|\.\d+)%?$/.exec(text) ?? [];
  return Number(number);
}
