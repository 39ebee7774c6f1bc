import { typicalDevice } from '../../layout/readCost.ts';
import type { TargetEvent } from '../events.ts';

/** What estimates of read time on a target's device go by: a typical one of its kind, or what the user gave. */
export function deviceKind({
  rotational,
  deviceProfile: { seek, bandwidth },
}: TargetEvent): 'rotational' | 'not rotational' | 'as given' {
  const typical = typicalDevice(rotational);
  if (seek !== typical.seek || bandwidth !== typical.bandwidth) return 'as given';
  return rotational ? 'rotational' : 'not rotational';
}
