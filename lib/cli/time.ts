import { UsageError } from './usageError.ts';

/** How many of a unit are in a second. */
const PER_SECOND: Readonly<Record<string, number>> = { s: 1, ms: 1000, us: 1_000_000 };

/** A short time and its unit, or undefined when it is none. */
function shortTime(text: string): { readonly value: number; readonly unit: string | undefined } | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?|\.\d+)(s|ms|us)?$/.exec(text) ?? [];
  return Number.isFinite(Number(number)) ? { value: Number(number), unit } : undefined;
}

/**
 * Seconds from what a device takes: 0.0127, 12ms, 100us.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseSeconds(text: string, where: string): number {
  const time = shortTime(text);
  if (time === undefined) {
    throw new UsageError(`${where} ${text} is not a time: give seconds, or s, ms or us, such as 12ms`);
  }
  return time.value / PER_SECOND[time.unit ?? 's'];
}

/**
 * Milliseconds from a time that somebody may be kept waiting: 100, 100ms, 0.5s.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseLatency(text: string, where: string): number {
  const time = shortTime(text);
  if (time === undefined) {
    throw new UsageError(`${where} ${text} is not a time: give milliseconds, or ms or s, such as 50ms`);
  }
  if (time.value === 0) throw new UsageError(`${where} must be more than 0`);
  return (time.value * 1000) / PER_SECOND[time.unit ?? 'ms'];
}

/**
 * Seconds from a time that people plan with: 90, 90s, 30m, 1h30m, 1d.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseDuration(text: string, where: string): number {
  const match = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(/^\d+$/.test(text) ? `${text}s` : text);
  const [days, hours, minutes, seconds] = (match?.slice(1) ?? []).map((part?: string) => Number(part ?? 0));
  const duration = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
  if (text === '' || !Number.isSafeInteger(duration)) {
    throw new UsageError(
      `${where} ${text} is not a time: give seconds, or d, h, m and s, such as 90, 30m or 1h30m`,
    );
  }
  if (duration === 0) throw new UsageError(`${where} must be more than 0`);
  return duration;
}
