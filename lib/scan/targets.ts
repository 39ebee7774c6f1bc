import { realpath, stat } from 'node:fs/promises';
import { isSystemFailure } from '../kernel/errors.ts';
import { AT_FDCWD, closeFd, O, openAt, statFd } from '../kernel/handle.ts';
import { findMount, inspectFilesystem, UnsupportedTarget, type Filesystem } from './filesystem.ts';
import { deviceName } from './mounts.ts';

/** Something to work on, opened: paths below it are opened relative to `dirFd` and never leave it. */
export interface Target {
  /** As the user named it. */
  readonly argument: Buffer;
  readonly kind: 'file' | 'directory' | 'device';
  /** A directory: the target itself, or the one that holds the target file. */
  readonly dirFd: number;
  readonly dirPath: Buffer;
  /** Where to begin below `dirPath`: empty for the whole of it, or a file's name. */
  readonly start: Buffer;
  readonly filesystem: Filesystem;
}

const SLASH = Buffer.from('/');

/** `directory/name`, without a second slash below the root. */
export function join(directory: Buffer, name: Buffer): Buffer {
  if (name.length === 0) return directory;
  if (directory.length === 0) return name;
  return Buffer.concat(directory.at(-1) === 0x2f ? [directory, name] : [directory, SLASH, name]);
}

/**
 * Opens a file, directory, mount point or block device of a mounted ext4. A symbolic link that the user named is
 * followed; none below it ever is. The caller closes `dirFd`.
 *
 * @throws Error as stat(2) and open(2); UnsupportedTarget when it is not on a mounted ext4
 */
export async function openTarget(argument: Buffer): Promise<Target> {
  const info = await stat(argument, { bigint: true });
  if (info.isBlockDevice()) {
    const mount = await findMount(info.rdev);
    if (mount === undefined) throw new UnsupportedTarget('this device is not mounted; mount it first');
    const target = await open(argument, 'device', mount.mountPoint, Buffer.alloc(0));
    if (target.filesystem.id === mount.device) return target;
    await closeFd(target.dirFd);
    throw new UnsupportedTarget(
      `another filesystem is mounted over it at ${mount.mountPoint.toString()}: unmount that first`,
    );
  }
  if (info.isDirectory()) return open(argument, 'directory', argument, Buffer.alloc(0));
  if (!info.isFile()) {
    throw new UnsupportedTarget(
      'neither a file, a directory nor the block device of a mounted ext4: name one of these',
    );
  }
  const real = await realpath(argument, 'buffer');
  const cut = real.lastIndexOf(0x2f);
  return open(argument, 'file', real.subarray(0, Math.max(cut, 1)), real.subarray(cut + 1));
}

const ROOT_INODE = 2n;

/**
 * The whole filesystem that a target is on, by its root directory. The caller closes `dirFd`; it may be the target's.
 *
 * @returns why the root directory is not to be had: it cannot be opened, or what is mounted is a part of the filesystem
 */
export async function openWhole(target: Target): Promise<Target | string> {
  const { filesystem, start } = target;
  const { ino } = await statFd(target.dirFd);
  if (start.length === 0 && ino === ROOT_INODE) return target;
  const dirPath = filesystem.mountPoint;
  try {
    const dirFd = await openAt(AT_FDCWD, dirPath, O.RDONLY | O.DIRECTORY);
    const root = await statFd(dirFd);
    if (root.ino === ROOT_INODE && deviceName(root.dev) === filesystem.id) {
      return { ...target, kind: 'directory', dirFd, dirPath, start: Buffer.alloc(0) };
    }
    await closeFd(dirFd);
    return 'its root directory is not mounted where it can be seen';
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    return `its root directory cannot be opened: ${error.message}`;
  }
}

async function open(argument: Buffer, kind: Target['kind'], dirPath: Buffer, start: Buffer): Promise<Target> {
  const dirFd = await openAt(AT_FDCWD, dirPath, O.RDONLY | O.DIRECTORY);
  try {
    return { argument, kind, dirFd, dirPath, start, filesystem: await inspectFilesystem(dirFd) };
  } catch (error) {
    await closeFd(dirFd);
    throw error;
  }
}
