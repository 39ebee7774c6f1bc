import type { DirectoryColumns } from '../ext4/directories.ts';
import type { Ext4Device } from './device.ts';
import { readParents, visitDirectories } from './entries.ts';
import { Names } from './names.ts';

const ROOT_INODE = 2;
/** Where there are fewer directories to each name, reading all of them once is as quick. */
const DIRECTORIES_A_NAME = 16;

/**
 * Names of a few inodes: directories are read until each is found, those first where they most often are; and from there
 * upwards, since each directory says which one it is in. ext4 gives a new file an inode in the flex group of its
 * directory as long as there is one (fs/ext4/ialloc.c, find_group_other). Parameters as `findNames` has them.
 *
 * @returns undefined when all directories have to be read: there are many names, or one of the way up is not to be had
 * @throws a system error when the device cannot be read
 */
export async function findFewNames(
  device: Ext4Device,
  mountFd: number,
  directories: DirectoryColumns,
  inodes: readonly number[],
  signal: AbortSignal | undefined,
): Promise<Names | undefined> {
  if (inodes.length * DIRECTORIES_A_NAME > directories.count) return undefined;
  const { inodesPerGroup, groupsPerFlex } = device.superblock;
  const flexOf = (inode: number) => Math.floor((inode - 1) / (inodesPerGroup * groupsPerFlex));
  const names = new Names();
  const missing = new Set(inodes.filter((inode) => inode !== ROOT_INODE));
  const lookIn = async (some: (directory: number) => boolean) => {
    if (missing.size === 0) return;
    const found = new AbortController();
    const stop = signal === undefined ? found.signal : AbortSignal.any([signal, found.signal]);
    const remember = (parent: number, inode: number, bytes: Buffer, at: number, length: number) => {
      if (!missing.delete(inode)) return;
      names.add(parent, inode, bytes, at, length);
      if (missing.size === 0) found.abort();
    };
    await visitDirectories(device, mountFd, directories, remember, stop, some);
  };

  const near = new Set(inodes.map(flexOf));
  await lookIn((directory) => near.has(flexOf(directory)));
  await lookIn((directory) => !near.has(flexOf(directory)));
  // What has none now has none anywhere.
  missing.clear();
  let level = inodes.filter((inode) => names.parentOf(inode) !== undefined);
  for (;;) {
    level = [...new Set(level.map((inode) => names.parentOf(inode)!))].filter(
      (inode) => inode !== ROOT_INODE && names.parentOf(inode) === undefined,
    );
    if (level.length === 0 || signal?.aborted) return names;
    for (const inode of level) missing.add(inode);
    const below = new Set(level);
    const parents = await readParents(device, directories, (directory) => below.has(directory));
    const above = new Set(parents.values());
    await lookIn((directory) => above.has(directory));
    if (missing.size > 0) return undefined;
  }
}
