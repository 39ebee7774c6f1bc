import { isUtf8 } from 'node:buffer';
import type { DeviceProfile } from '../layout/readCost.ts';
import type { Reason } from '../scan/reasons.ts';

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
  /** How files are found: from the inode tables on the device, or name by name. */
  readonly method: 'inode-table' | 'walk';
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

/** The free space of a whole filesystem, as runs of free blocks. */
export interface FreeSpaceEvent extends Named {
  readonly type: 'freeSpace';
  readonly bytes: number;
  readonly runs: number;
  /** Bytes. */
  readonly largestRun: number;
  /** By size, the shortest first; classes without a run are left out. */
  readonly histogram: readonly SizeClass[];
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

/** A file was left as it was. */
export interface SkipEvent extends Named {
  readonly type: 'skip';
  readonly reason: Reason;
  /** How many fragments it has, where its layout was read. */
  readonly fragments?: number;
  /** How many it regains in a day, where earlier runs tell. */
  readonly fragmentsPerDay?: number;
}

/** A file's layout was improved; FIEMAP showed it after the commit. */
export interface DefragmentedEvent extends Named {
  readonly type: 'defragmented';
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

/** Something that was asked for is not to be had; the work goes on without it. */
export interface NoticeEvent {
  readonly type: 'notice';
  readonly about: 'state' | 'pressure';
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
  readonly skipped: Partial<Record<Reason, number>>;
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
  /** Whether the run goes on where an earlier one stopped. */
  readonly continued: boolean;
  /** The limit that ended the run, and what is left to do by what is known of it. */
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
  TargetEvent | ScanningEvent | PlanEvent | SkipEvent | FailedEvent | UnsupportedEvent | PlanSummary;

export type DefragEvent =
  | TargetEvent
  | ScanningEvent
  | DefragmentedEvent
  | SkipEvent
  | FailedEvent
  | UnsupportedEvent
  | ProgressEvent
  | PauseEvent
  | NoticeEvent
  | DefragSummary;

/** Everything that happens. The last event of a run is always its summary. */
export type Event = CheckEvent | PlanningEvent | DefragEvent;
