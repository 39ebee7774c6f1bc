import type { Bytes } from './units.ts';
import { bytes } from './units.ts';

/** What reading costs on a device: `bytes / bandwidth + seek` for each contiguous run. */
export interface DeviceProfile {
  /** Seconds that one discontinuity adds to a sequential read. */
  readonly seek: number;
  /** Bytes per second once it runs. */
  readonly bandwidth: number;
}

const MiB = 1024 * 1024;

/**
 * Typical devices, used only to rank and to explain, never to promise: a 7200/min disk (8.5 ms average seek, half
 * a turn of 4.2 ms), and a SATA SSD (a request more costs about 0.1 ms).
 */
const ROTATIONAL: DeviceProfile = { seek: 0.0127, bandwidth: 180 * MiB };
const SOLID_STATE: DeviceProfile = { seek: 0.0001, bandwidth: 500 * MiB };

/** The typical device of its kind. */
export const typicalDevice = (rotational: boolean): DeviceProfile => (rotational ? ROTATIONAL : SOLID_STATE);

/** Estimated seconds to read so many bytes lying in so many fragments, from start to end. */
export function readSeconds(size: Bytes, fragments: number, device: DeviceProfile): number {
  return size / device.bandwidth + fragments * device.seek;
}

/**
 * The length from which a fragment is left alone. A seek costs a disk as much time as 2 MiB of transfer, so at
 * 32 MiB fragments lose 7 % of its bandwidth; flash only sees more requests, and 8 MiB is ample.
 */
export function defaultFragmentSize(rotational: boolean): Bytes {
  return bytes((rotational ? 32 : 8) * MiB);
}
