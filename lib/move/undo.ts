import { countFragments } from '../layout/fragments.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import { blocks, toBlocks, toBytes } from '../layout/units.ts';
import { undoRanges } from '../plan/follow.ts';
import { clip } from '../plan/plan.ts';
import type { PlanRecorder } from '../plan/planRecorder.ts';
import type { ScannedFile } from '../scan/scan.ts';
import type { FileId } from '../state/history.ts';
import type { Layouts } from './candidate.ts';

/** Records what puts a file back that was moved. */
export function recordUndo(
  recorder: PlanRecorder,
  { relative, target }: ScannedFile,
  id: FileId,
  { before, after, size }: Layouts,
  device: DeviceProfile,
): void {
  const { blockSize } = target.filesystem;
  // What is preallocated behind the end cannot be exchanged, and was not.
  const end = toBlocks(size, blockSize);
  const [was, is] = [clip(before, end), clip(after, end)];
  const ranges = undoRanges(was, is);
  if (ranges.length === 0) return;
  const [fragmentsBefore, fragmentsAfter] = [countFragments(is), countFragments(was)];
  const seconds = (fragments: number) => readSeconds(toBytes(is.blocks, blockSize), fragments, device);
  recorder.add(relative, {
    ...id,
    size,
    fingerprint: fingerprint(after),
    bytesToMove: toBytes(blocks(ranges.reduce((sum, { length }) => sum + length, 0)), blockSize),
    fragmentsBefore,
    fragmentsAfter,
    savedSeconds: seconds(fragmentsBefore) - seconds(fragmentsAfter),
    ranges: ranges.map(({ logical, physical, length }) => ({
      offset: toBytes(logical, blockSize),
      length: toBytes(length, blockSize),
      fragments: 1,
      destination: { start: physical, length },
    })),
  });
}
