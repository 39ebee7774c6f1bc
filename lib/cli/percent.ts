import { UsageError } from './usageError.ts';

/**
 * A part of a whole in percent, with or without the sign: 40, 2.5%.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parsePercent(text: string, where: string): number {
  const [, number] = /^(\d+(?:\.\d+)?|\.\d+)%?$/.exec(text) ?? [];
  const percent = Number(number);
  if (!(percent > 0 && percent <= 100)) {
    throw new UsageError(
      `${where} ${text} is not a percentage: give more than 0 and no more than 100, such as 40`,
    );
  }
  return percent;
}
