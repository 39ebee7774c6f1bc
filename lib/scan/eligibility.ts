import { INODE_FLAG } from '../kernel/handle.ts';
import type { Bytes } from '../layout/units.ts';
import type { Reason } from './reasons.ts';

/** What fstat and FS_IOC_GETFLAGS say of an inode, as far as it decides anything. */
export interface InodeFacts {
  readonly regular: boolean;
  readonly size: Bytes;
  /** st_blocks is not 0; blocks whose allocation is delayed count. */
  readonly hasBlocks: boolean;
  /** FS_IOC_GETFLAGS. */
  readonly flags: number;
  readonly swap: boolean;
}

/** Why a file has no layout to speak of, or undefined when it has one. */
export function withoutLayout(inode: InodeFacts): Reason | undefined {
  if (!inode.regular) return 'not-regular';
  if (inode.size === 0) return 'empty';
  if (inode.flags & INODE_FLAG.INLINE_DATA) return 'inline-data';
  if (!inode.hasBlocks) return 'no-blocks';
  return undefined;
}

const IMMOVABLE: readonly (readonly [flag: number, reason: Reason])[] = [
  [INODE_FLAG.IMMUTABLE, 'immutable'],
  [INODE_FLAG.APPEND, 'append-only'],
  [INODE_FLAG.ENCRYPT, 'encrypted'],
  [INODE_FLAG.VERITY, 'verity'],
  [INODE_FLAG.JOURNAL_DATA, 'journalled-data'],
  [INODE_FLAG.DAX, 'dax'],
];

/** Why a file that has a layout may not be moved, or undefined when it may (fs/ext4/move_extent.c). */
export const immovable = (inode: Pick<InodeFacts, 'flags' | 'swap'>): Reason | undefined =>
  immovableReasons(inode)[0];

/** All that keeps it from being moved. */
export function immovableReasons({ flags, swap }: Pick<InodeFacts, 'flags' | 'swap'>): Reason[] {
  return [
    ...(flags & INODE_FLAG.EXTENTS ? [] : ['no-extents' as const]),
    ...(swap ? ['swap-file' as const] : []),
    ...IMMOVABLE.filter(([flag]) => flags & flag).map(([, reason]) => reason),
  ];
}

/** Which files are too small or too large to be looked at. */
export interface SizeLimits {
  /** Bytes of the smallest file. */
  readonly minSize?: Bytes | undefined;
  /** Bytes of the largest file. */
  readonly maxSize?: Bytes | undefined;
}

export function outsideLimits(size: Bytes, { minSize, maxSize }: SizeLimits): Reason | undefined {
  if (minSize !== undefined && size < minSize) return 'too-small';
  if (maxSize !== undefined && size > maxSize) return 'too-large';
  return undefined;
}
