import { constants } from 'node:fs';
import { open, readFile, readlink } from 'node:fs/promises';
import { release } from 'node:os';
import { Invalid } from '../ext4/invalid.ts';
import { parseKernelVersion, type KernelVersion } from '../ext4/safety.ts';
import {
  INCOMPAT,
  parseSuperblock,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
  type Features,
} from '../ext4/superblock.ts';
import { EXT4_SUPER_MAGIC, statFd, statFilesystem, superblockFeatures } from '../kernel/handle.ts';
import { longestRun } from '../layout/fragments.ts';
import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import { usualGeometry, type Geometry } from '../place/freeMap.ts';
import { deviceName, mountOf, parseMounts, type Mount } from './mounts.ts';

/** A mounted ext4 and what is known of it. */
export interface Filesystem {
  /** "major:minor", as in st_dev. */
  readonly id: string;
  /** The block device's path. */
  readonly device: string;
  readonly mountPoint: Buffer;
  readonly readOnly: boolean;
  readonly blockSize: Bytes;
  readonly rotational: boolean;
  readonly kernel: KernelVersion;
  readonly options: ReadonlySet<string> | undefined;
  readonly features: Features | undefined;
  /** As the superblock says, or as it usually is where that cannot be read. */
  readonly geometry: Geometry;
  /** The longest contiguous run that data can have. */
  readonly longestRun: Blocks;
}

/** A target that cannot be worked on at all: the message says why, the command exits 3. */
export class UnsupportedTarget extends Error {
  override readonly name = 'UnsupportedTarget';
  readonly code = 'EXT4_DEFRAG_UNSUPPORTED';
}

/** What this process sees mounted. */
export const readMounts = async (): Promise<Mount[]> => parseMounts(await readFile('/proc/self/mountinfo'));

/** The mount of a block device, by its major and minor number. */
export async function findMount(device: bigint): Promise<Mount | undefined> {
  return mountOf(await readMounts(), deviceName(device));
}

/**
 * The filesystem that an open file or directory is on.
 *
 * @throws UnsupportedTarget when it is not a mounted ext4
 */
export async function inspectFilesystem(fd: number): Promise<Filesystem> {
  const [stat, space, mounts] = await Promise.all([statFd(fd), statFilesystem(fd), readMounts()]);
  const id = deviceName(stat.dev);
  const mount = mountOf(mounts, id);
  if (space.magic !== EXT4_SUPER_MAGIC || (mount !== undefined && mount.type !== 'ext4')) {
    throw new UnsupportedTarget(
      `not an ext4 filesystem${mount ? ` (it is ${mount.type})` : ''}: name something on an ext4`,
    );
  }
  if (mount === undefined)
    throw new UnsupportedTarget(
      `no mount of device ${id} is visible here: run it where the filesystem is mounted`,
    );
  const [options, rotational, superblock] = await Promise.all([
    readOptions(id),
    readRotational(id),
    readSuperblock(mount.source, id, space.blockSize),
  ]);
  const { firstDataBlock, blocksPerGroup } = superblock ?? usualGeometry(space.blockSize);
  const features = superblock ?? (await superblockFeatures(fd));
  // mke2fs puts sixteen groups into a flex group.
  const usualFlex = features !== undefined && !(features.incompat & INCOMPAT.FLEX_BG) ? 1 : 16;
  return {
    id,
    device: mount.source,
    mountPoint: mount.mountPoint,
    readOnly: mount.readOnly,
    blockSize: space.blockSize,
    rotational,
    kernel: parseKernelVersion(release()),
    options,
    features,
    geometry: { firstDataBlock, blocksPerGroup },
    longestRun: longestRun(blocksPerGroup, superblock?.groupsPerFlex ?? usualFlex),
  };
}

/** The mount options in effect, which /proc/self/mountinfo shows only where they differ from the defaults. */
async function readOptions(id: string): Promise<ReadonlySet<string> | undefined> {
  const name = await kernelName(id);
  const text = name && (await readIfPossible(`/proc/fs/ext4/${name}/options`));
  return text ? new Set(text.toString().split('\n')) : undefined;
}

async function readRotational(id: string): Promise<boolean> {
  // A partition has no queue of its own; its disk is one folder up.
  for (const folder of ['queue', '../queue']) {
    const text = await readIfPossible(`/sys/dev/block/${id}/${folder}/rotational`);
    if (text !== undefined) return text.toString().trim() === '1';
  }
  return false;
}

/** The kernel's own name for a device, such as "dm-0", under which ext4 has its folders in /proc and /sys. */
export async function kernelName(id: string): Promise<string | undefined> {
  const link = await readlink(`/sys/dev/block/${id}`).catch(() => undefined);
  return link?.split('/').at(-1);
}

/** A count of blocks that a mounted ext4 shows in sysfs (Documentation/ABI/testing/sysfs-fs-ext4), where it does. */
export async function sysfsBlocks({ id }: Pick<Filesystem, 'id'>, name: string): Promise<Blocks | undefined> {
  const text = await readIfPossible(`/sys/fs/ext4/${await kernelName(id)}/${name}`);
  return text && blocks(Number(text.toString()));
}

/**
 * The superblock, through the block device: its page cache holds the mounted filesystem's own buffer. undefined
 * where the device may not be read, and where it is not that filesystem's: the path is from the time of the mount.
 */
async function readSuperblock(device: string, id: string, blockSize: Bytes) {
  const file = await open(device, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const info = await file.stat({ bigint: true });
    if (!info.isBlockDevice() || deviceName(info.rdev) !== id) return undefined;
    const buffer = Buffer.alloc(SUPERBLOCK_SIZE);
    await file.read(buffer, 0, SUPERBLOCK_SIZE, SUPERBLOCK_OFFSET);
    const superblock = parseSuperblock(buffer);
    return superblock instanceof Invalid || superblock.blockSize !== blockSize ? undefined : superblock;
  } catch {
    return undefined;
  } finally {
    await file.close();
  }
}

const readIfPossible = (path: string): Promise<Buffer | undefined> => readFile(path).catch(() => undefined);
