import { isUtf8 } from 'node:buffer';
import type { DeviceProfile } from '../layout/readCost.ts';
import type { Reason } from '../scan/reasons.ts';
import type { Kind } from './picture/cells.ts';
import type { FileSums } from './picture/picture.ts';

/**
 * A file's name in an event. Names are bytes: `path` is their UTF-8 reading, with U+FFFD for what is not UTF-8, and
 * `pathBytes` is there only when the reading lost something.
 */
export interface Named {
  readonly path: string;
  readonly pathBytes?: Buffer;
}

export function named(path: Buffer): Named {
  const text = path.toString();
  return isUtf8(path) ? { path: text } : { path: text, pathBytes: path };
}

/** Work begins on a target. */
export interface TargetEvent extends Named {
  readonly type: 'target';
  readonly kind: 'file' | 'directory' | 'device';
  readonly device: string;
  readonly mountPoint: string;
  /** Bytes. */
  readonly blockSize: number;
  readonly rotational: boolean;
  /** How files are found: from the inode tables on the device, name by name, or because a plan file names them. */
  readonly method: 'inode-table' | 'walk' | 'plan';
  /** Why a whole filesystem is walked all the same. */
  readonly walkReason?: string;
  /** What estimates of read time go by. */
  readonly deviceProfile: DeviceProfile;
  /** Fragments at least so many bytes long are left where they are; null when every file shall be one. */
  readonly fragmentSize: number | null;
}

/** How far the inode tables have been read. */
export interface ScanningEvent {
  readonly type: 'scanning';
  /** Inodes gone over, of `inodesTotal` that were ever in use. */
  readonly inodes: number;
  readonly inodesTotal: number;
  /** Met so far. */
  readonly files: number;
  readonly fragmentedFiles: number;
  readonly seconds: number;
}

/** How many runs of blocks are at least `atLeast` bytes long and less than twice that, and their bytes together. */
export interface SizeClass {
  readonly atLeast: number;
  readonly count: number;
  readonly bytes: number;
}

/** The free space of a filesystem, as runs of free blocks. */
export interface FreeRuns {
  /**
   * Where that is from: the block bitmaps on the device, in which what is preallocated still counts as free, or
   * FS_IOC_GETFSMAP, which shows what the allocator can give away at once.
   */
  readonly source: 'bitmaps' | 'fsmap';
  readonly bytes: number;
  readonly runs: number;
  /** Bytes. */
  readonly largestRun: number;
  /** By size, the shortest first; classes without a run are left out. */
  readonly histogram: readonly SizeClass[];
}

/** The free space of a whole filesystem that is checked. */
export interface FreeSpaceEvent extends Named, FreeRuns {
  readonly type: 'freeSpace';
}

/** What there is of free space on the filesystem of a target, which is what `path` names. */
export interface SpaceEvent extends Named, FreeRuns {
  readonly type: 'space';
  readonly device: string;
  readonly mountPoint: string;
  /** Bytes. */
  readonly blockSize: number;
  /** Bytes that are left free unless something else is asked for: the larger of 5 % and what is reserved for root. */
  readonly reserve: number;
  /** Bytes that may be used beside the reserve. What is promised to delayed allocation is not among them. */
  readonly spendable: number;
  /** Bytes of the longest run within one block group: more than that, no single allocation gets. */
  readonly largestAllocation: number;
  /** Bytes that are nobody's and yet not free: preallocated, or freed and not committed yet. Absent when unknown. */
  readonly heldBack?: number;
  /** Bytes that are free and promised to what is written and not on the disk yet. Absent when unknown. */
  readonly promised?: number;
  /** Why the inode tables cannot be read. Then no event of type `largestFile` or `windows` follows. */
  readonly unreadable?: string;
}

/** A stretch of the device from which files could be moved, so that it becomes one free run. */
export interface ClearableWindow {
  /** Bytes that it is long. */
  readonly run: number;
  /** The first block of the one that is cheapest to clear, and bytes that would have to be moved; null for none. */
  readonly start: number | null;
  readonly evacuate: number | null;
}

/** Longer runs of free blocks than there are now, and what they would cost. */
export interface WindowsEvent extends Named {
  readonly type: 'windows';
  /** The shortest first. */
  readonly windows: readonly ClearableWindow[];
}

/** The file of a filesystem that has the most blocks, and what it would come to if it were moved now. */
export interface LargestFileEvent extends Named {
  readonly type: 'largestFile';
  readonly inode: number;
  /** Bytes of its mapped blocks. */
  readonly bytes: number;
  /** How many it is in, and the fewest that the filesystem's geometry allows. */
  readonly fragments: number;
  readonly idealFragments: number;
  /**
   * The fewest pieces of free space that hold all of it, wherever in the filesystem; null when there is not so much
   * beside the reserve.
   */
  readonly pieces: number | null;
  /** Bytes of it that free space beside the reserve could take in one piece. */
  readonly largestPiece: number;
}

/** The layout of one file. A scan of the inode tables names only the fragmented ones, most read time saved first. */
export interface FileEvent extends Named {
  readonly type: 'file';
  readonly inode: number;
  /** Bytes. */
  readonly size: number;
  /** Mapped filesystem blocks. */
  readonly blocks: number;
  readonly extents: number;
  readonly fragments: number;
  readonly idealFragments: number;
  /** e4defrag's score. */
  readonly score: number;
  /** Estimated seconds of a sequential read as the file lies, and if it were ideal. */
  readonly readSeconds: number;
  readonly idealReadSeconds: number;
}

/** What would be moved in one file. */
export interface PlanEvent extends Named {
  readonly type: 'plan';
  readonly inode: number;
  /** Stretches to move, in bytes of the file, and how many fragments each is now. */
  readonly ranges: readonly {
    readonly offset: number;
    readonly length: number;
    readonly fragments: number;
  }[];
  readonly bytesToMove: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  /** Estimated seconds that each later sequential read takes less. */
  readonly savedSeconds: number;
}

/** What would be moved to lay files one behind the other. The path is as in {@link ArrangedEvent}. */
export interface ArrangementEvent extends Named {
  readonly type: 'arrangement';
  /** How many files it is about. */
  readonly files: number;
  readonly bytesToMove: number;
  /** As in {@link ArrangedEvent}; afterwards if all find a place in as few runs as the filesystem allows. */
  readonly jumpsBefore: number;
  readonly jumpsAfter: number;
}

/** A file was left as it was. */
export interface SkipEvent extends Named {
  readonly type: 'skip';
  readonly reason: Reason;
  /** How many fragments it has, where its layout was read. */
  readonly fragments?: number;
  /** How many it regains in a day, where earlier runs tell. */
  readonly fragmentsPerDay?: number;
  /** More of the reason, in words: why there was no better place. */
  readonly detail?: string;
}

/** What became of a file that was moved. */
export interface MovedFile extends Named {
  readonly inode: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  /** Merged extents. */
  readonly extentsBefore: number;
  readonly extentsAfter: number;
  readonly bytesMoved: number;
  /** Estimated seconds of a sequential read. */
  readonly readSecondsBefore: number;
  readonly readSecondsAfter: number;
  /** Seconds that reading it from the device took, for a sample of the files when that was asked for. */
  readonly measuredSecondsBefore?: number;
  readonly measuredSecondsAfter?: number;
  /** Why the file is not all that was planned: its pages stayed busy, no better place was left, the run was stopped, … */
  readonly incomplete?: Reason;
  /** More of that reason, in words; or that it is not aligned as it was to be. */
  readonly detail?: string;
}

/** A file's layout was improved; FIEMAP showed it after the commit. */
export interface DefragmentedEvent extends MovedFile {
  readonly type: 'defragmented';
}

/** Files were laid one behind the other. The path is their directory's, or that of the list that gives their order. */
export interface ArrangedEvent extends Named {
  readonly type: 'arranged';
  /** How many were moved; those that lay well already were not. */
  readonly files: number;
  readonly bytesMoved: number;
  /** How often who reads all of them in their order has to go elsewhere on the device. */
  readonly jumpsBefore: number;
  readonly jumpsAfter: number;
  /** Why it is not all that was planned. */
  readonly incomplete?: Reason;
  /** More of that reason, in words; or why they are in more runs than one. */
  readonly detail?: string;
}

/**
 * What is done to find a place for what has none: `rounded`, a power of two is asked for; `own-donors`, the ranges are
 * placed one by one, while what was offered and does not do is held; `search-depth`, the allocator is made to look at all
 * there is; `long-run`, runs longer than one allocation are put together; `make-room`, files go out of the way;
 * `give-up`, nothing better is left; `elsewhere`, the place that a plan names cannot be had.
 */
export type PlacementStep =
  'rounded' | 'own-donors' | 'search-depth' | 'long-run' | 'make-room' | 'give-up' | 'elsewhere';

/** A place is looked for. The path is one of the files that it is for. */
export interface PlacementEvent extends Named {
  readonly type: 'placement';
  readonly step: PlacementStep;
  /** Why the step before did not do, in words. */
  readonly reason: string;
}

/** Something could not be done for a reason that lies with the system. The file's content is whole. */
export interface FailedEvent extends Named {
  readonly type: 'failed';
  /** The errno's name. */
  readonly code: string;
  readonly message: string;
}

/** A target could not be worked on at all. */
export interface UnsupportedEvent extends Named {
  readonly type: 'unsupported';
  readonly message: string;
}

/** Where a long run stands; comes after each chunk and each batch. */
export interface ProgressEvent extends Named {
  readonly type: 'progress';
  readonly files: number;
  /** Bytes moved so far, and bytes of all plans found so far. */
  readonly bytesMoved: number;
  readonly bytesPlanned: number;
  /** Bytes of other files that went out of the way. */
  readonly bytesEvacuated: number;
  /** Bytes that this process has had written to any device since the run began, as far as the kernel tells. */
  readonly bytesWritten: number;
  readonly seconds: number;
}

/** Work pauses because others wait for the device, or goes on. */
export interface PauseEvent {
  readonly type: 'pause';
  readonly paused: boolean;
  /** How much of the time others waited, in percent. */
  readonly percent: number;
  readonly seconds: number;
}

/** Something that was asked for is not to be had, or the kernel has known bugs; the work goes on all the same. */
export interface NoticeEvent {
  readonly type: 'notice';
  readonly about: 'state' | 'pressure' | 'report' | 'kernel';
  readonly message: string;
}

export interface CheckSummary {
  readonly type: 'summary';
  readonly command: 'check';
  readonly files: number;
  readonly fragmentedFiles: number;
  readonly fragments: number;
  readonly idealFragments: number;
  readonly bytes: number;
  readonly score: number;
  readonly readSeconds: number;
  readonly idealReadSeconds: number;
  /** All fragments of all files by size, the shortest first. */
  readonly fragmentSizes: readonly SizeClass[];
  readonly skipped: Partial<Record<Reason, number>>;
  readonly failed: number;
  readonly unsupported: number;
  readonly interrupted: boolean;
  readonly seconds: number;
}

export interface PlanSummary {
  readonly type: 'summary';
  readonly command: 'plan';
  readonly files: number;
  readonly filesToMove: number;
  readonly bytesToMove: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  readonly savedSeconds: number;
  /** Of files that are to lie one behind the other, when that was asked for: all groups, and those worth moving. */
  readonly arrangement?: {
    readonly groups: number;
    readonly groupsToMove: number;
    readonly bytesToMove: number;
    readonly jumpsBefore: number;
    readonly jumpsAfter: number;
  };
  /** Where the plan was written, when that was asked for and it could be. */
  readonly planFile?: string;
  readonly skipped: Partial<Record<Reason, number>>;
  readonly failed: number;
  readonly unsupported: number;
  readonly interrupted: boolean;
  readonly seconds: number;
}

export interface SpaceSummary {
  readonly type: 'summary';
  readonly command: 'space';
  readonly filesystems: number;
  /** Of all of them together, as in {@link SpaceEvent}. */
  readonly bytes: number;
  readonly runs: number;
  readonly spendable: number;
  /** Bytes. */
  readonly largestRun: number;
  readonly failed: number;
  readonly unsupported: number;
  readonly interrupted: boolean;
  readonly seconds: number;
}

/** Where everything lies on the device of a filesystem, or of the filesystem that a file is on. */
export interface MapEvent extends Named {
  readonly type: 'map';
  /** All of a filesystem, or where one file of it lies. */
  readonly kind: 'filesystem' | 'file';
  readonly device: string;
  readonly mountPoint: string;
  /** Bytes. */
  readonly blockSize: number;
  /** Of the device. */
  readonly blocks: number;
  /** Why it is not known whose blocks are: all but free and metadata are `other` then. Null where it is known. */
  readonly unknown: string | null;
  /** On average: a cell begins at its index times that, rounded down. */
  readonly blocksPerCell: number;
  /** Blocks of each kind in each cell. */
  readonly cells: Readonly<Record<Kind, readonly number[]>>;
  /** Blocks of each kind. */
  readonly totals: Readonly<Record<Kind, number>>;
  readonly free: FreeRuns;
  /** Null where it is not known whose blocks are. */
  readonly files: FileSums | null;
}

/** One of the most fragmented files, or the file that was asked for, and where it lies. */
export interface MappedFileEvent extends Named {
  readonly type: 'mappedFile';
  readonly inode: number;
  /** Bytes. */
  readonly size: number;
  readonly blocks: number;
  readonly fragments: number;
  readonly idealFragments: number;
  /** First block on the device and blocks of each extent, in the order of the file. */
  readonly extents: readonly (readonly [start: number, length: number])[];
}

/** A file was written that was asked for. */
export interface WrittenEvent extends Named {
  readonly type: 'written';
  readonly what: 'page' | 'scan';
  readonly bytes: number;
}

export interface MapSummary {
  readonly type: 'summary';
  readonly command: 'map';
  readonly maps: number;
  readonly skipped: Readonly<Partial<Record<Reason, number>>>;
  readonly failed: number;
  readonly unsupported: number;
  readonly interrupted: boolean;
  readonly seconds: number;
}

export interface DefragSummary {
  readonly type: 'summary';
  readonly command: 'defrag';
  readonly files: number;
  readonly defragmented: number;
  readonly skipped: Partial<Record<Reason, number>>;
  readonly failed: number;
  readonly unsupported: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  readonly bytesMoved: number;
  /** As in {@link ProgressEvent}. */
  readonly bytesEvacuated: number;
  readonly bytesWritten: number;
  /** Of the files that were improved. */
  readonly gained: {
    readonly fragmentsBefore: number;
    readonly fragmentsAfter: number;
    readonly extentsBefore: number;
    readonly extentsAfter: number;
    /** Estimated seconds of reading all of them once. */
    readonly readSecondsBefore: number;
    readonly readSecondsAfter: number;
  };
  /** What reading a sample of them took, when that was asked for. */
  readonly measured?: {
    readonly files: number;
    readonly bytes: number;
    readonly secondsBefore: number;
    readonly secondsAfter: number;
  };
  /** Of files that were to lie one behind the other, when that was asked for. */
  readonly arranged?: {
    /** Directories, and stretches of the order list; and those of them of which files were moved. */
    readonly groups: number;
    readonly groupsMoved: number;
    /** That were moved for it. Those that have fewer fragments since count as defragmented as well. */
    readonly files: number;
    /** As in {@link ArrangedEvent}, of all groups. */
    readonly jumpsBefore: number;
    readonly jumpsAfter: number;
  };
  /** Whether the run goes on where an earlier one stopped. */
  readonly continued: boolean;
  /** The limit that ended the run, and what is left to do by what is known of it. */
  /** Where it is recorded what puts the files back, when that was asked for and any was moved. */
  readonly undoFile?: string;
  readonly budget?: {
    readonly reached: 'time' | 'bytes';
    readonly filesLeft: number;
    readonly bytesLeft: number;
    /** False when the run ended before everything was found: then there may be more. */
    readonly complete: boolean;
  };
  readonly interrupted: boolean;
  readonly seconds: number;
}

/** A file lies again where it did before it was moved: its undo step was carried out. */
export interface RestoredEvent extends MovedFile {
  readonly type: 'restored';
}

/** What the steps of a plan file come to. */
export interface PlanSums {
  readonly files: number;
  readonly bytes: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  /** Estimated, of reading all of the files once; negative where fragments are put back. */
  readonly savedSeconds: number;
}

export interface ApplySummary extends Omit<DefragSummary, 'command' | 'defragmented'> {
  readonly command: 'apply';
  readonly kind: 'plan' | 'undo';
  /** Steps carried out, if not all of each. */
  readonly applied: number;
  /** By the plan, of all its steps; and what came of it. */
  readonly predicted: PlanSums;
  readonly achieved: PlanSums;
}

/** Free space of a filesystem before and after windows of it were cleared. `path` names the target. */
export interface ConsolidatedEvent extends Named {
  readonly type: 'consolidated';
  readonly device: string;
  readonly mountPoint: string;
  /** What was wanted: one free run of so many bytes, or so many more bytes in free runs of at least `longRun`. */
  readonly goal: { readonly kind: 'run' | 'bytes'; readonly bytes: number };
  readonly longRun: number;
  readonly reached: boolean;
  /** Why it was not reached, in words. */
  readonly detail?: string;
  /** Stretches of the device that were cleared. */
  readonly windows: number;
  /** Bytes of files that went out of the way. */
  readonly bytesEvacuated: number;
  readonly before: FreeSpaceNow;
  readonly after: FreeSpaceNow;
}

export interface FreeSpaceNow extends FreeRuns {
  /** Bytes in runs of at least `longRun`. */
  readonly inLongRuns: number;
}

export interface ConsolidateSummary {
  readonly type: 'summary';
  readonly command: 'consolidate';
  readonly filesystems: number;
  /** Of them, those whose goal was reached. */
  readonly reached: number;
  readonly windows: number;
  /** As in {@link ProgressEvent}. */
  readonly bytesEvacuated: number;
  readonly bytesWritten: number;
  readonly failed: number;
  readonly unsupported: number;
  /** The limit that ended the run before its goal. */
  readonly budget?: { readonly reached: 'time' | 'bytes' };
  readonly interrupted: boolean;
  readonly seconds: number;
}

/** Something that stands in the way of moving a file. */
export interface Obstacle {
  /** Nothing is moved because of it; else the move is only slower, or less of a gain. */
  readonly prevents: boolean;
  /** By which a run would leave the file alone, where that is how it would say it. */
  readonly reason?: Reason;
  /** In words, and what can be done about it. */
  readonly message: string;
}

/** All that decides whether and how one file would be moved. Lengths, offsets and places are in bytes. */
export interface ExplainEvent extends Named {
  readonly type: 'explain';
  readonly inode: number;
  readonly size: number;
  /** Mapped. */
  readonly bytes: number;
  /** Merged, in the order of the file. `fragment` counts from 1. */
  readonly extents: readonly {
    readonly offset: number;
    readonly physical: number;
    readonly length: number;
    readonly fragment: number;
    readonly unwritten: boolean;
  }[];
  readonly fragments: number;
  readonly idealFragments: number;
  /** e4defrag's score. */
  readonly score: number;
  /** Estimated seconds of a sequential read as the file lies, and if it were ideal. */
  readonly readSeconds: number;
  readonly idealReadSeconds: number;
  /** Why nothing of it is worth moving; else there is `move`. */
  readonly notWorth?: Reason;
  readonly move?: ExplainedMove;
  readonly inTheWay: readonly Obstacle[];
}

/** What would be moved in a file, what that costs and what it gains. */
export interface ExplainedMove {
  /** As in {@link PlanEvent}. */
  readonly ranges: PlanEvent['ranges'];
  readonly bytesToMove: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  readonly savedSeconds: number;
  /** Estimated seconds that the device is busy: all of it is read once and written once. */
  readonly costSeconds: number;
  /** Reads from start to end after which that is regained; null where there is nothing to regain. */
  readonly readsToRegain: number | null;
  /** Free space as it is now: what may be used beside the reserve, and the longest run, in bytes. */
  readonly spendable: number;
  readonly largestRun: number;
  /** The fewest free runs that take all of it; null when there is not so much beside the reserve. */
  readonly pieces: number | null;
}

export interface ExplainSummary {
  readonly type: 'summary';
  readonly command: 'explain';
  readonly files: number;
  /** Of them, those of which something is worth moving; and those of these that nothing prevents. */
  readonly worthMoving: number;
  readonly movable: number;
  readonly skipped: Partial<Record<Reason, number>>;
  readonly failed: number;
  readonly unsupported: number;
  readonly interrupted: boolean;
  readonly seconds: number;
}

export type ExplainingEvent =
  TargetEvent | ExplainEvent | SkipEvent | FailedEvent | UnsupportedEvent | ExplainSummary;

export type CheckEvent =
  | TargetEvent
  | ScanningEvent
  | FileEvent
  | FreeSpaceEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | CheckSummary;

export type PlanningEvent =
  | TargetEvent
  | ScanningEvent
  | PlanEvent
  | ArrangementEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | PlanSummary;

export type SpaceReportEvent =
  | SpaceEvent
  | ScanningEvent
  | LargestFileEvent
  | WindowsEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | SpaceSummary;

export type MappingEvent =
  | ScanningEvent
  | MapEvent
  | MappedFileEvent
  | WrittenEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | MapSummary;

/** What happens while files are moved. */
export type MovingEvent =
  | TargetEvent
  | ScanningEvent
  | DefragmentedEvent
  | ArrangedEvent
  | PlacementEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | ProgressEvent
  | PauseEvent
  | NoticeEvent;

export type DefragEvent = MovingEvent | WrittenEvent | DefragSummary;

export type ApplyEvent = MovingEvent | RestoredEvent | ApplySummary;

export type ConsolidateEvent = MovingEvent | ConsolidatedEvent | ConsolidateSummary;

/** Everything that happens. The last event of a run is always its summary. */
export type Event =
  | CheckEvent
  | PlanningEvent
  | ExplainingEvent
  | SpaceReportEvent
  | MappingEvent
  | DefragEvent
  | ApplyEvent
  | ConsolidateEvent;
