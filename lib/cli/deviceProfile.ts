import type { DeviceProfile } from '../layout/readCost.ts';
import { parseRate } from './size.ts';
import { parseSeconds } from './time.ts';
import { UsageError } from './usageError.ts';

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
    if (profile[key] !== undefined) throw new UsageError(`${where} ${text} has ${key} twice: give it once`);
    profile[key] =
      key === 'seek' ? parseSeconds(value, `${where} seek`) : parseRate(value, `${where} bandwidth`);
  }
  return profile;
}
