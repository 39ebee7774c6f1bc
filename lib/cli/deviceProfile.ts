import type { DeviceProfile } from '../layout/readCost.ts';
import { parseSize } from './size.ts';
import { UsageError } from './usageError.ts';

/** How many of a unit are in a second. */
const PER_SECOND: Readonly<Record<string, number>> = { '': 1, s: 1, ms: 1000, us: 1_000_000 };

/**
 * What reading costs on a device: "seek=12ms,bandwidth=180M", or one of the two.
 *
 * @param where the option, for the message
 * @throws UsageError
 */
export function parseDeviceProfile(text: string, where: string): Partial<DeviceProfile> {
  const profile: { seek?: number; bandwidth?: number } = {};
  for (const part of text.split(',')) {
    const [, key, value = ''] = /^(seek|bandwidth)=(.+)$/s.exec(part) ?? [];
    if (key !== 'seek' && key !== 'bandwidth') {
      throw new UsageError(
        `${where} ${text} is not a profile: give seek and bandwidth, such as seek=12ms,bandwidth=180M`,
      );
    }
    if (profile[key] !== undefined) throw new UsageError(`${where} ${text} has ${key} twice`);
    profile[key] =
      key === 'seek' ? parseSeconds(value, `${where} seek`) : parseBandwidth(value, `${where} bandwidth`);
  }
  return profile;
}

function parseSeconds(text: string, where: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?|\.\d+)(s|ms|us)?$/.exec(text) ?? [];
  const seconds = number === undefined ? NaN : Number(number) / PER_SECOND[unit];
  if (!Number.isFinite(seconds)) {
    throw new UsageError(`${where} ${text} is not a time: give seconds, or s, ms or us, such as 12ms`);
  }
  return seconds;
}

function parseBandwidth(text: string, where: string): number {
  const bandwidth = parseSize(text.replace(/\/s$/, ''), where);
  if (bandwidth === 0) throw new UsageError(`${where} must be more than 0`);
  return bandwidth;
}
