/**
 * ext4-defrag: online defragmentation of ext4.
 *
 * {@link check}, {@link plan}, {@link space}, {@link consolidate} and {@link defragment} are async iterables of events;
 * {@link fiemap} and {@link moveExtents} are the system calls beneath.
 *
 * @packageDocumentation
 */
export { check, type CheckOptions } from './scan/check.ts';
export { space, type SpaceOptions } from './scan/space.ts';
export { map, type MapOptions } from './scan/map.ts';
export { plan, type PlanTargetsOptions as PlanOptions } from './plan/planTargets.ts';
export { explain, type ExplainOptions } from './explain/explain.ts';
export { defragment, type DefragmentOptions } from './move/defragment.ts';
export { consolidate, type ConsolidateOptions } from './move/consolidate.ts';
export { apply, type ApplyOptions } from './move/apply.ts';
export { PlanFileError } from './plan/planFileError.ts';
export { defaultStatePath } from './state/runState.ts';
export type { CommonOptions, TargetPath } from './scan/session.ts';
export type { Priority } from './move/pace/priority.ts';
export type { RunSums, SizeClass } from './layout/sizeClasses.ts';
export type { DeviceProfile } from './layout/readCost.ts';
export type { Kind } from './report/picture/cells.ts';
export type { FileSums } from './report/picture/picture.ts';
export { REASONS, type Reason } from './scan/reasons.ts';
export type * from './report/events.ts';
export { fiemap, FIEMAP_FLAG_SYNC, type FiemapOptions } from './kernel/fiemap.ts';
export { moveExtents, type MoveResult } from './kernel/moveExtent.ts';
export { SystemError } from './kernel/errors.ts';
export { EXTENT_FLAG, ExtentTable, mergeExtents, type Extent } from './layout/extents.ts';
export { countFragments } from './layout/fragments.ts';
export { blocks, bytes, type Blocks, type Bytes } from './layout/units.ts';
