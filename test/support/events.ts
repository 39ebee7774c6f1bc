import type { ScanningEvent, TargetEvent } from '../../lib/report/events.ts';

/** A directory on a solid-state disk, with changes. */
export const targetEvent = (changes: Partial<TargetEvent> = {}): TargetEvent => ({
  type: 'target',
  path: '/srv',
  kind: 'directory',
  device: '/dev/sdb1',
  mountPoint: '/srv',
  blockSize: 4096,
  rotational: false,
  method: 'walk',
  deviceProfile: { seek: 0.0001, bandwidth: 5e8 },
  fragmentSize: 8 * 2 ** 20,
  ...changes,
});

/** A scan that is not half through, with changes. */
export const scanningEvent = (changes: Partial<ScanningEvent> = {}): ScanningEvent => ({
  type: 'scanning',
  inodes: 420_000,
  inodesTotal: 1_000_000,
  files: 400_000,
  fragmentedFiles: 1234,
  seconds: 2,
  ...changes,
});
