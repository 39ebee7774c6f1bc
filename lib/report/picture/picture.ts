import type { SizeClass } from '../../layout/sizeClasses.ts';
import type { Kind } from './cells.ts';

export const PICTURE_FORMAT = 'ext4-defrag map';
export const PICTURE_VERSION = 1;

/** Where everything lies on a filesystem's device at one time, as numbers and text, for a page or a file. */
export interface Picture {
  readonly format: typeof PICTURE_FORMAT;
  readonly version: typeof PICTURE_VERSION;
  /** When it was taken, in seconds since 1970. */
  readonly time: number;
  /** All of a filesystem, or where one file of it lies. */
  readonly kind: 'filesystem' | 'file';
  /** Of the target, printable: no controls, and an escape for what is not text. */
  readonly name: string;
  readonly device: string;
  readonly mountPoint: string;
  /** Null where the kernel does not tell. */
  readonly uuid: string | null;
  /** Bytes. */
  readonly blockSize: number;
  /** Of the device. */
  readonly blocks: number;
  /** Why it is not known whose blocks are; null where it is. */
  readonly unknown: string | null;
  /** Blocks of each kind in each cell of a {@link CellGrid} of the device, by {@link encodeCells}. */
  readonly cells: string;
  /** Blocks. */
  readonly totals: Readonly<Record<Kind, number>>;
  readonly free: {
    readonly runs: number;
    readonly longest: number;
    readonly sizes: readonly SizeClass[];
  };
  /** All regular files with extents; of a file's picture, that file. Null where they are not known. */
  readonly files: FileSums | null;
  /** The files that are named: the most fragmented ones first. */
  readonly named: readonly PicturedFile[];
}

/** What a page is about: a picture, or two of the same filesystem. */
export interface PageData {
  /** Of the program that made it. */
  readonly version: string;
  readonly before: Picture | null;
  readonly now: Picture;
}

/** All files of a filesystem that have blocks. */
export interface FileSums {
  /** How many there are. */
  readonly count: number;
  /** Of them, those in more fragments than need be. */
  readonly fragmented: number;
  /** Fragments of all of them. */
  readonly fragments: number;
  /** The fewest that these could be. */
  readonly idealFragments: number;
  /** Fragments by their size. */
  readonly sizes: readonly SizeClass[];
}

export interface PicturedFile {
  /** Below the root of the filesystem, or as the target was named; printable. */
  readonly name: string;
  readonly inode: number;
  /** With the inode number it tells the file from all that ever had that number. */
  readonly generation: number;
  /** Bytes. */
  readonly size: number;
  /** Mapped. */
  readonly blocks: number;
  readonly fragments: number;
  readonly idealFragments: number;
  /** Its extents in the order of the file, by {@link encodeRanges}. */
  readonly extents: string;
  /** Extents that would have been too many, and are not there. */
  readonly extentsLeftOut: number;
}

export const isFragmented = ({
  fragments,
  idealFragments,
}: Pick<PicturedFile, 'fragments' | 'idealFragments'>): boolean => fragments > idealFragments;

/** Why two pictures cannot be laid over each other; undefined when they can. */
export function mismatch(before: Picture, after: Picture): string | undefined {
  if (
    before.kind !== after.kind ||
    (before.kind === 'file' && before.named[0]?.inode !== after.named[0]?.inode)
  ) {
    return before.kind === 'file'
      ? 'it is the scan of a file, and not of this'
      : 'it is the scan of a whole filesystem';
  }
  if (before.uuid !== null && after.uuid !== null && before.uuid !== after.uuid) {
    return `it is the scan of another filesystem (${before.device} on ${before.mountPoint})`;
  }
  if (before.blocks !== after.blocks || before.blockSize !== after.blockSize) {
    return 'it is the scan of a filesystem of another size';
  }
  return undefined;
}
