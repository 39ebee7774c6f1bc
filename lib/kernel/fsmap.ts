import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import { check } from './errors.ts';
import { statFd } from './handle.ts';
import { native } from './native.ts';

/** native/syscalls.h, FsMap. */
const FSMAP_WORDS = 4;

/** Owners of linux/fsmap.h. Any other that ext4 answers (fs/ext4/fsmap.h) is a kind of fixed metadata. */
const FMR_OWN_FREE = 1n;
const FMR_OWN_UNKNOWN = 2n;

/**
 * What blocks are used for: `free`, not allocated, where what is preallocated, or freed and not committed yet, does
 * not count as free; `data`, allocated to files, directories, extent trees, ext4 keeps no record whose; `metadata`,
 * superblocks, descriptors, bitmaps, inode tables.
 */
export type BlockUse = 'free' | 'data' | 'metadata';

/** A stretch of a filesystem's device, and what it is used for. */
export interface FsmapRecord {
  readonly start: Blocks;
  readonly length: Blocks;
  readonly use: BlockUse;
}

/**
 * What a filesystem uses its blocks for, in the order of the device (FS_IOC_GETFSMAP, ioctl_getfsmap(2)). Takes no
 * privilege. Runs that go on from one block group to the next may come as one record or as several. What is free is
 * complete; of what is in use, stretches between two free runs of a group are left out (Linux 6.18).
 *
 * @param fd any open file or directory of the filesystem
 * @param from the first block, and `to` the one behind the last (all)
 * @throws SystemError EOPNOTSUPP or ENOTTY where the filesystem has none
 */
export async function fsmap(
  fd: number,
  blockSize: Bytes,
  from = blocks(0),
  to = blocks(Infinity),
): Promise<FsmapRecord[]> {
  const { dev } = await statFd(fd);
  const end = to === Infinity ? 0xffff_ffff_ffff_ffffn : to * blockSize;
  const words = check(await native().fsmap(fd, dev, from * blockSize, end), 'ioctl(FS_IOC_GETFSMAP)');
  const records: FsmapRecord[] = [];
  for (let i = 0; i < words.length; i += FSMAP_WORDS) {
    // What the kernel answers may begin before the range and end behind it.
    const start = Math.max(from, Number(words[i]) / blockSize);
    const stop = Math.min(to, Number(words[i] + words[i + 1]) / blockSize);
    if (start >= stop) continue;
    records.push({ start: blocks(start), length: blocks(stop - start), use: useOf(words[i + 2]) });
  }
  return records;
}

function useOf(owner: bigint): BlockUse {
  if (owner === FMR_OWN_FREE) return 'free';
  return owner === FMR_OWN_UNKNOWN ? 'data' : 'metadata';
}
