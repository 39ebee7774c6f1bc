import { toBlocks } from '../layout/units.ts';
import type { Reason } from '../scan/reasons.ts';
import type { ScannedFile } from '../scan/scan.ts';
import { planFile, type FilePlan, type PlanOptions } from './plan.ts';

/** The plan for a file, or why it stays: that it may not be moved matters only where there is something to move. */
export function planScanned(file: ScannedFile, options: PlanOptions): FilePlan | Reason {
  const sizeBlocks = toBlocks(file.size, file.target.filesystem.blockSize);
  const planned = planFile(file.extents, sizeBlocks, options);
  return typeof planned === 'string' ? planned : (file.immovable ?? planned);
}
