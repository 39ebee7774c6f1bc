import { isUtf8 } from 'node:buffer';
import type { DeviceProfile } from '../layout/readCost.ts';
import type { SizeClass } from '../layout/sizeClasses.ts';
import type { Reason } from '../scan/reasons.ts';
import type { Kind } from './picture/cells.ts';
import type { FileSums } from './picture/picture.ts';

/**
 * A file's name in an event. Names are bytes: `path` is their UTF-8 reading, with U+FFFD for what is not UTF-8, and
 * `pathBytes` is there only when the reading lost something.
 */
export interface Named {
  /** The name as text. */
  readonly path: string;
  /** The name as it is, where the text lost something. */
  readonly pathBytes?: Buffer;
}

/** What every event has. */
export interface Typed<Type extends string> {
  /** Which event it is. */
  readonly type: Type;
}

/** What the summary of every command has. It is the last event of a run, however that ends. */
export interface SummaryOf<Command extends string> extends Typed<'summary'> {
  /** What was run. */
  readonly command: Command;
  /** How many events of type `failed` there were. */
  readonly failed: number;
  /** How many targets could not be worked on at all. */
  readonly unsupported: number;
  /** Whether the run was stopped by its AbortSignal. */
  readonly interrupted: boolean;
  /** How long it took. */
  readonly seconds: number;
}

/** @returns how an event names a file */
export function named(path: Buffer): Named {
  const text = path.toString();
  return isUtf8(path) ? { path: text } : { path: text, pathBytes: path };
}

/** Work begins on a target. */
export interface TargetEvent extends Named, Typed<'target'> {
  /** What was named: a file, a directory, or a whole filesystem by its device or mount point. */
  readonly kind: 'file' | 'directory' | 'device';
  /** The block device, by its path below /dev. */
  readonly device: string;
  /** Where the filesystem is mounted. */
  readonly mountPoint: string;
  /** Bytes. */
  readonly blockSize: number;
  /** Whether the device turns, as the kernel says. */
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
export interface ScanningEvent extends Typed<'scanning'> {
  /** Inodes gone over, of `inodesTotal` that were ever in use. */
  readonly inodes: number;
  /** Inodes that were ever in use. */
  readonly inodesTotal: number;
  /** Met so far. */
  readonly files: number;
  /** Of them, those that the tables show in more fragments than need be. */
  readonly fragmentedFiles: number;
  /** Since the scan began. */
  readonly seconds: number;
}

/** The free space of a filesystem, as runs of free blocks. */
export interface FreeRuns {
  /**
   * Where that is from: the block bitmaps on the device, in which what is preallocated still counts as free, or
   * FS_IOC_GETFSMAP, which shows what the allocator can give away at once.
   */
  readonly source: 'bitmaps' | 'fsmap';
  /** Free bytes. */
  readonly bytes: number;
  /** How many free runs there are. */
  readonly runs: number;
  /** Bytes. */
  readonly largestRun: number;
  /** By size, the shortest first; classes without a run are left out. */
  readonly histogram: readonly SizeClass[];
}

/** The free space of a whole filesystem that is checked. */
export interface FreeSpaceEvent extends Named, FreeRuns, Typed<'freeSpace'> {}

/** What there is of free space on the filesystem of a target, which is what `path` names. */
export interface SpaceEvent extends Named, FreeRuns, Typed<'space'> {
  /** The block device, by its path below /dev. */
  readonly device: string;
  /** Where the filesystem is mounted. */
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
  /** Bytes that would have to be moved out of it; null for none. */
  readonly evacuate: number | null;
}

/** Longer runs of free blocks than there are now, and what they would cost. */
export interface WindowsEvent extends Named, Typed<'windows'> {
  /** The shortest first. */
  readonly windows: readonly ClearableWindow[];
}

/** The file of a filesystem that has the most blocks, and what it would come to if it were moved now. */
export interface LargestFileEvent extends Named, Typed<'largestFile'> {
  /** The inode number. */
  readonly inode: number;
  /** Bytes of its mapped blocks. */
  readonly bytes: number;
  /** How many it is in, and the fewest that the filesystem's geometry allows. */
  readonly fragments: number;
  /** The fewest fragments that the filesystem's geometry allows. */
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
export interface FileEvent extends Named, Typed<'file'> {
  /** The inode number. */
  readonly inode: number;
  /** Bytes. */
  readonly size: number;
  /** Mapped filesystem blocks. */
  readonly blocks: number;
  /** How many extents it has, merged where they adjoin. */
  readonly extents: number;
  /** How many fragments it is in. */
  readonly fragments: number;
  /** The fewest fragments that the filesystem's geometry allows. */
  readonly idealFragments: number;
  /** e4defrag's score. */
  readonly score: number;
  /** Estimated seconds of a sequential read as the file lies, and if it were ideal. */
  readonly readSeconds: number;
  /** The same if it were ideal. */
  readonly idealReadSeconds: number;
}

/** What would be moved in one file. */
export interface PlanEvent extends Named, Typed<'plan'> {
  /** The inode number. */
  readonly inode: number;
  /** Stretches to move, in bytes of the file, and how many fragments each is now. */
  readonly ranges: readonly {
    /** Where the stretch begins, in bytes of the file. */
    readonly offset: number;
    /** Bytes that it is long. */
    readonly length: number;
    /** How many fragments it is in now. */
    readonly fragments: number;
  }[];
  /** Bytes that would be moved. */
  readonly bytesToMove: number;
  /** Fragments of the file now. */
  readonly fragmentsBefore: number;
  /** Fragments of the file if each stretch finds a place in one piece. */
  readonly fragmentsAfter: number;
  /** Estimated seconds that each later sequential read takes less. */
  readonly savedSeconds: number;
}

/** What would be moved to lay files one behind the other. The path is as in {@link ArrangedEvent}. */
export interface ArrangementEvent extends Named, Typed<'arrangement'> {
  /** How many files it is about. */
  readonly files: number;
  /** Bytes that would be moved. */
  readonly bytesToMove: number;
  /** As in {@link ArrangedEvent}; afterwards if all find a place in as few runs as the filesystem allows. */
  readonly jumpsBefore: number;
  /** The same afterwards. */
  readonly jumpsAfter: number;
}

/** A file was left as it was. */
export interface SkipEvent extends Named, Typed<'skip'> {
  /** Why it was left alone: one of a closed list. */
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
  /** The inode number. */
  readonly inode: number;
  /** Fragments before the move. */
  readonly fragmentsBefore: number;
  /** Fragments after the move. */
  readonly fragmentsAfter: number;
  /** Merged extents. */
  readonly extentsBefore: number;
  /** Merged extents after the move. */
  readonly extentsAfter: number;
  /** Bytes of files whose place was exchanged. */
  readonly bytesMoved: number;
  /** Estimated seconds of a sequential read. */
  readonly readSecondsBefore: number;
  /** The same after the move. */
  readonly readSecondsAfter: number;
  /** Seconds that reading it from the device took, for a sample of the files when that was asked for. */
  readonly measuredSecondsBefore?: number;
  /** The same after the move. */
  readonly measuredSecondsAfter?: number;
  /** Why the file is not all that was planned: its pages stayed busy, no better place was left, the run was stopped, … */
  readonly incomplete?: Reason;
  /** More of that reason, in words; or that it is not aligned as it was to be. */
  readonly detail?: string;
}

/** A file's layout was improved; FIEMAP showed it after the commit. */
export interface DefragmentedEvent extends MovedFile, Typed<'defragmented'> {}

/** Files were laid one behind the other. The path is their directory's, or that of the list that gives their order. */
export interface ArrangedEvent extends Named, Typed<'arranged'> {
  /** How many were moved; those that lay well already were not. */
  readonly files: number;
  /** Bytes of files whose place was exchanged. */
  readonly bytesMoved: number;
  /** How often who reads all of them in their order has to go elsewhere on the device. */
  readonly jumpsBefore: number;
  /** The same afterwards. */
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
export interface PlacementEvent extends Named, Typed<'placement'> {
  /** What is done about it. */
  readonly step: PlacementStep;
  /** Why the step before did not do, in words. */
  readonly reason: string;
}

/** Something could not be done for a reason that lies with the system. The file's content is whole. */
export interface FailedEvent extends Named, Typed<'failed'> {
  /** The errno's name. */
  readonly code: string;
  /** What could not be done, and why. */
  readonly message: string;
}

/** A target could not be worked on at all. */
export interface UnsupportedEvent extends Named, Typed<'unsupported'> {
  /** Why, and what can be done about it. */
  readonly message: string;
}

/** Where a long run stands; comes after each chunk and each batch. */
export interface ProgressEvent extends Named, Typed<'progress'> {
  /** Files gone over so far. */
  readonly files: number;
  /** Bytes moved so far, and bytes of all plans found so far. */
  readonly bytesMoved: number;
  /** Bytes of all plans found so far. */
  readonly bytesPlanned: number;
  /** Bytes of other files that went out of the way. */
  readonly bytesEvacuated: number;
  /** Bytes that this process has had written to any device since the run began, as far as the kernel tells. */
  readonly bytesWritten: number;
  /** Since the run began. */
  readonly seconds: number;
}

/** Work pauses because others wait for the device, or goes on. */
export interface PauseEvent extends Typed<'pause'> {
  /** Whether the pause begins, or is over. */
  readonly paused: boolean;
  /** How much of the time others waited, in percent. */
  readonly percent: number;
  /** Since the run began. */
  readonly seconds: number;
}

/** Something that was asked for is not to be had, or the kernel has known bugs; the work goes on all the same. */
export interface NoticeEvent extends Typed<'notice'> {
  /** What it concerns: the state file, the pressure of others, the report of the run, the kernel, or a place taken. */
  readonly about: 'state' | 'pressure' | 'report' | 'kernel' | 'placement';
  /** What is the matter, in words. */
  readonly message: string;
}

/** What a check came to: sums over all files that were looked at. */
export interface CheckSummary extends SummaryOf<'check'> {
  /** Files that were looked at. */
  readonly files: number;
  /** Of them, those in more fragments than need be. */
  readonly fragmentedFiles: number;
  /** Fragments of all of them. */
  readonly fragments: number;
  /** The fewest that these could be. */
  readonly idealFragments: number;
  /** Bytes of their mapped blocks. */
  readonly bytes: number;
  /** e4defrag's score of all of them: 0 to 30 no problem, 31 to 55 a little, more: in need of defragmentation. */
  readonly score: number;
  /** Estimated seconds of reading all of them once, as they lie. */
  readonly readSeconds: number;
  /** The same if it were ideal. */
  readonly idealReadSeconds: number;
  /** All fragments of all files by size, the shortest first. */
  readonly fragmentSizes: readonly SizeClass[];
  /** How many files were left alone for each reason. */
  readonly skipped: Partial<Record<Reason, number>>;
}

/** What a plan came to. */
export interface PlanSummary extends SummaryOf<'plan'> {
  /** Files that were looked at. */
  readonly files: number;
  /** Of them, those of which something would be moved. */
  readonly filesToMove: number;
  /** Bytes that would be moved. */
  readonly bytesToMove: number;
  /** Fragments now of all files whose layout was read. */
  readonly fragmentsBefore: number;
  /** Fragments of these files if each stretch finds a place in one piece. */
  readonly fragmentsAfter: number;
  /** Estimated seconds that each later sequential read takes less. */
  readonly savedSeconds: number;
  /** Of files that are to lie one behind the other, when that was asked for: all groups, and those worth moving. */
  readonly arrangement?: {
    /** Directories, or stretches of a list. */
    readonly groups: number;
    /** Of them, those that are worth moving. */
    readonly groupsToMove: number;
    /** Bytes that would be moved. */
    readonly bytesToMove: number;
    /** As in {@link ArrangementEvent}, of all groups. */
    readonly jumpsBefore: number;
    /** The same afterwards. */
    readonly jumpsAfter: number;
  };
  /** Where the plan was written, when that was asked for and it could be. */
  readonly planFile?: string;
  /** How many files were left alone for each reason. */
  readonly skipped: Partial<Record<Reason, number>>;
}

/** What a look at free space came to. */
export interface SpaceSummary extends SummaryOf<'space'> {
  /** How many there were. */
  readonly filesystems: number;
  /** Of all of them together, as in {@link SpaceEvent}. */
  readonly bytes: number;
  /** Free runs of all of them together. */
  readonly runs: number;
  /** Bytes that may be used beside the reserves. */
  readonly spendable: number;
  /** Bytes. */
  readonly largestRun: number;
}

/** Where everything lies on the device of a filesystem, or of the filesystem that a file is on. */
export interface MapEvent extends Named, Typed<'map'> {
  /** All of a filesystem, or where one file of it lies. */
  readonly kind: 'filesystem' | 'file';
  /** The block device, by its path below /dev. */
  readonly device: string;
  /** Where the filesystem is mounted. */
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
  /** Free space, as runs. */
  readonly free: FreeRuns;
  /** Null where it is not known whose blocks are. */
  readonly files: FileSums | null;
}

/** One of the most fragmented files, or the file that was asked for, and where it lies. */
export interface MappedFileEvent extends Named, Typed<'mappedFile'> {
  /** The inode number. */
  readonly inode: number;
  /** Bytes. */
  readonly size: number;
  /** Mapped filesystem blocks. */
  readonly blocks: number;
  /** How many fragments it is in. */
  readonly fragments: number;
  /** The fewest fragments that the filesystem's geometry allows. */
  readonly idealFragments: number;
  /** First block on the device and blocks of each extent, in the order of the file. */
  readonly extents: readonly (readonly [start: number, length: number])[];
}

/** A file was written that was asked for. */
export interface WrittenEvent extends Named, Typed<'written'> {
  /** A page of HTML, or a scan that a later map is compared with. */
  readonly what: 'page' | 'scan';
  /** Its size. */
  readonly bytes: number;
}

/** What drawing maps came to. */
export interface MapSummary extends SummaryOf<'map'> {
  /** How many were drawn. */
  readonly maps: number;
  /** How many files were left alone for each reason. */
  readonly skipped: Readonly<Partial<Record<Reason, number>>>;
}

/** What moving files came to, by whichever command. */
export interface MovingSummary<Command extends string> extends SummaryOf<Command> {
  /** Files that were looked at. */
  readonly files: number;
  /** How many files were left alone for each reason. */
  readonly skipped: Partial<Record<Reason, number>>;
  /** Fragments of all files whose layout was read, before the run. */
  readonly fragmentsBefore: number;
  /** The same after the run. */
  readonly fragmentsAfter: number;
  /** Bytes of files whose place was exchanged. */
  readonly bytesMoved: number;
  /** As in {@link ProgressEvent}. */
  readonly bytesEvacuated: number;
  /** As in {@link ProgressEvent}. */
  readonly bytesWritten: number;
  /** Of the files that were improved. */
  readonly gained: {
    /** Fragments of them before. */
    readonly fragmentsBefore: number;
    /** Fragments of them after. */
    readonly fragmentsAfter: number;
    /** Merged extents before the move. */
    readonly extentsBefore: number;
    /** Merged extents after the move. */
    readonly extentsAfter: number;
    /** Estimated seconds of reading all of them once. */
    readonly readSecondsBefore: number;
    /** The same as they lie now. */
    readonly readSecondsAfter: number;
  };
  /** What reading a sample of them took, when that was asked for. */
  readonly measured?: {
    /** Files of the sample. */
    readonly files: number;
    /** Bytes of the sample. */
    readonly bytes: number;
    /** Seconds that reading it from the device took before the moves. */
    readonly secondsBefore: number;
    /** The same after the moves. */
    readonly secondsAfter: number;
  };
  /** Of files that were to lie one behind the other, when that was asked for. */
  readonly arranged?: {
    /** Directories, and stretches of the order list; and those of them of which files were moved. */
    readonly groups: number;
    /** Of them, those of which files were moved. */
    readonly groupsMoved: number;
    /** That were moved for it. Those that have fewer fragments since count as defragmented as well. */
    readonly files: number;
    /** As in {@link ArrangedEvent}, of all groups. */
    readonly jumpsBefore: number;
    /** The same afterwards. */
    readonly jumpsAfter: number;
  };
  /** Whether the run goes on where an earlier one stopped. */
  readonly continued: boolean;
  /** Where it is recorded what puts the files back, when that was asked for and any was moved. */
  readonly undoFile?: string;
  /** The limit that ended the run, and what is left to do by what is known of it. */
  readonly budget?: {
    /** Which limit it was: of time, or of bytes. */
    readonly reached: 'time' | 'bytes';
    /** Files that were found and not dealt with. */
    readonly filesLeft: number;
    /** Bytes that would be moved in them. */
    readonly bytesLeft: number;
    /** False when the run ended before everything was found: then there may be more. */
    readonly complete: boolean;
  };
}

/** What a run came to. */
export interface DefragSummary extends MovingSummary<'defrag'> {
  /** Of the files, those whose layout was improved. */
  readonly defragmented: number;
}

/** A file lies again where it did before it was moved: its undo step was carried out. */
export interface RestoredEvent extends MovedFile, Typed<'restored'> {}

/** What the steps of a plan file come to. */
export interface PlanSums {
  /** Files that it is about. */
  readonly files: number;
  /** Bytes to be moved, or that were moved. */
  readonly bytes: number;
  /** Fragments of these files before. */
  readonly fragmentsBefore: number;
  /** Fragments of these files after. */
  readonly fragmentsAfter: number;
  /** Estimated, of reading all of the files once; negative where fragments are put back. */
  readonly savedSeconds: number;
}

/** What carrying out a plan or undo file came to. */
export interface ApplySummary extends MovingSummary<'apply'> {
  /** Whether the file was a plan, or the way back from a run. */
  readonly kind: 'plan' | 'undo';
  /** Steps carried out, if not all of each. */
  readonly applied: number;
  /** By the plan, of all its steps; and what came of it. */
  readonly predicted: PlanSums;
  /** What came of it. */
  readonly achieved: PlanSums;
}

/** Free space of a filesystem before and after windows of it were cleared. `path` names the target. */
export interface ConsolidatedEvent extends Named, Typed<'consolidated'> {
  /** The block device, by its path below /dev. */
  readonly device: string;
  /** Where the filesystem is mounted. */
  readonly mountPoint: string;
  /** What was wanted: one free run of so many bytes, or so many more bytes in free runs of at least `longRun`. */
  readonly goal: {
    /** Which of them. */
    readonly kind: 'run' | 'bytes';
    /** How many bytes. */
    readonly bytes: number;
  };
  /** Bytes from which a free run counts as long. */
  readonly longRun: number;
  /** Whether that was reached. */
  readonly reached: boolean;
  /** Why it was not reached, in words. */
  readonly detail?: string;
  /** Stretches of the device that were cleared. */
  readonly windows: number;
  /** Bytes of files that went out of the way. */
  readonly bytesEvacuated: number;
  /** Free space before. */
  readonly before: FreeSpaceNow;
  /** Free space afterwards. */
  readonly after: FreeSpaceNow;
}

/** Free space at one moment. */
export interface FreeSpaceNow extends FreeRuns {
  /** Bytes in runs of at least `longRun`. */
  readonly inLongRuns: number;
}

/** What clearing windows came to. */
export interface ConsolidateSummary extends SummaryOf<'consolidate'> {
  /** How many were worked on. */
  readonly filesystems: number;
  /** Of them, those whose goal was reached. */
  readonly reached: number;
  /** Stretches of the devices that were cleared. */
  readonly windows: number;
  /** As in {@link ProgressEvent}. */
  readonly bytesEvacuated: number;
  /** As in {@link ProgressEvent}. */
  readonly bytesWritten: number;
  /** The limit that ended the run before its goal. */
  readonly budget?: {
    /** Which limit it was: of time, or of bytes. */
    readonly reached: 'time' | 'bytes';
  };
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

/** What earlier runs left in the state file about one file: its last move, and whether moves of it last. */
export interface FileHistory {
  /** When it was moved, in ISO 8601 and UTC. */
  readonly movedAt: string;
  /** Fragments before that move. */
  readonly fragmentsBefore: number;
  /** Fragments after that move. */
  readonly fragmentsAfter: number;
  /** How many fragments it regains in a day, where that is known. */
  readonly fragmentsPerDay?: number;
  /** How many moves in a row, the last among them, did not last. */
  readonly fruitless: number;
}

/** All that decides whether and how one file would be moved. Lengths, offsets and places are in bytes. */
export interface ExplainEvent extends Named, Typed<'explain'> {
  /** The inode number. */
  readonly inode: number;
  /** The length of the file, in bytes. */
  readonly size: number;
  /** Mapped. */
  readonly bytes: number;
  /** Merged, in the order of the file. `fragment` counts from 1. */
  readonly extents: readonly {
    /** Where the extent begins in the file. */
    readonly offset: number;
    /** Where it begins on the device. */
    readonly physical: number;
    /** How long it is. */
    readonly length: number;
    /** Which fragment it belongs to, from 1. */
    readonly fragment: number;
    /** Whether it is allocated and not written yet, so that it reads as zeroes. */
    readonly unwritten: boolean;
  }[];
  /** How many fragments it is in. */
  readonly fragments: number;
  /** The fewest fragments that the filesystem's geometry allows. */
  readonly idealFragments: number;
  /** e4defrag's score. */
  readonly score: number;
  /** Estimated seconds of a sequential read as the file lies, and if it were ideal. */
  readonly readSeconds: number;
  /** The same if it were ideal. */
  readonly idealReadSeconds: number;
  /** Why nothing of it is worth moving; else there is `move`. */
  readonly notWorth?: Reason;
  /** What would be moved. */
  readonly move?: ExplainedMove;
  /** What stands in the way, what prevents a move first. */
  readonly inTheWay: readonly Obstacle[];
  /** What earlier runs know of it, where they moved it and that is still kept. */
  readonly history?: FileHistory;
}

/** What would be moved in a file, what that costs and what it gains. */
export interface ExplainedMove {
  /** As in {@link PlanEvent}. */
  readonly ranges: PlanEvent['ranges'];
  /** Bytes that would be moved. */
  readonly bytesToMove: number;
  /** Fragments of the file now. */
  readonly fragmentsBefore: number;
  /** Fragments of the file if each stretch finds a place in one piece. */
  readonly fragmentsAfter: number;
  /** Estimated seconds that each later sequential read takes less. */
  readonly savedSeconds: number;
  /** Estimated seconds that the device is busy: all of it is read once and written once. */
  readonly costSeconds: number;
  /** Reads from start to end after which that is regained; null where there is nothing to regain. */
  readonly readsToRegain: number | null;
  /** Free space as it is now: what may be used beside the reserve, and the longest run, in bytes. */
  readonly spendable: number;
  /** The longest free run, in bytes. */
  readonly largestRun: number;
  /** The fewest free runs that take all of it; null when there is not so much beside the reserve. */
  readonly pieces: number | null;
}

/** What explaining files came to. */
export interface ExplainSummary extends SummaryOf<'explain'> {
  /** Files that were explained. */
  readonly files: number;
  /** Of them, those of which something is worth moving; and those of these that nothing prevents. */
  readonly worthMoving: number;
  /** Of these, those that nothing prevents from being moved. */
  readonly movable: number;
  /** How many files were left alone for each reason. */
  readonly skipped: Partial<Record<Reason, number>>;
}

/** What {@link explain} tells. */
export type ExplainingEvent =
  TargetEvent | ExplainEvent | SkipEvent | FailedEvent | UnsupportedEvent | NoticeEvent | ExplainSummary;

/** What {@link check} tells. */
export type CheckEvent =
  | TargetEvent
  | ScanningEvent
  | FileEvent
  | FreeSpaceEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | CheckSummary;

/** What {@link plan} tells. */
export type PlanningEvent =
  | TargetEvent
  | ScanningEvent
  | PlanEvent
  | ArrangementEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | PlanSummary;

/** What {@link space} tells. */
export type SpaceReportEvent =
  | SpaceEvent
  | ScanningEvent
  | LargestFileEvent
  | WindowsEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | SpaceSummary;

/** What {@link map} tells. */
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

/** What {@link defragment} tells. */
export type DefragEvent = MovingEvent | WrittenEvent | DefragSummary;

/** What {@link apply} tells. */
export type ApplyEvent = MovingEvent | RestoredEvent | ApplySummary;

/** What {@link consolidate} tells. */
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
