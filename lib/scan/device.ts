import { constants, open, read } from 'node:fs';
import { promisify } from 'node:util';
import { closeFd, statFd } from '../kernel/handle.ts';
import { descriptorBlock, descriptorBlockCount, GroupTable, parseDescriptors } from '../ext4/groups.ts';
import { unknownFormat } from '../ext4/features.ts';
import { Invalid } from '../ext4/invalid.ts';
import { deviceName } from './mounts.ts';
import { parseSuperblock, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, type Superblock } from '../ext4/superblock.ts';

/** A stretch of a device, in bytes. */
export interface DeviceRange {
  readonly position: number;
  readonly length: number;
}

/** Reads in flight: enough for a device to be busy while the last one is looked at, few enough for its memory. */
const IN_FLIGHT = 3;

/**
 * A block device, or an image file, read as ext4 without the filesystem's help. Reading is all that it can do.
 *
 * Reads are buffered. The page cache of a mounted filesystem's device holds the very blocks that the kernel changes,
 * so they are nearly current, but nothing keeps them from changing between two reads, or within one, and what is not
 * allocated yet is not in them. What is found here must be confirmed through the filesystem before anything is done.
 */
export class Ext4Device {
  readonly superblock: Superblock;
  readonly groups: GroupTable;
  readonly #fd: number;

  private constructor(fd: number, superblock: Superblock, groups: GroupTable) {
    this.#fd = fd;
    this.superblock = superblock;
    this.groups = groups;
  }

  /**
   * Opens a device and reads its superblock and group descriptors.
   *
   * @param id "major:minor" that it must have: a path is only a name
   * @returns why it is no ext4 that can be read, or the device, which the caller closes
   * @throws a system error when it cannot be opened or read
   */
  static async open(path: string, id?: string): Promise<Ext4Device | Invalid> {
    const fd = await promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (id !== undefined && deviceName((await statFd(fd)).rdev) !== id) {
        await closeFd(fd);
        return new Invalid('it is not the device that is mounted');
      }
      const superblock = await readSuperblock(fd);
      const groups = superblock instanceof Invalid ? superblock : await readGroups(fd, superblock);
      if (!(superblock instanceof Invalid) && !(groups instanceof Invalid)) {
        return new Ext4Device(fd, superblock, groups);
      }
      await closeFd(fd);
      return superblock instanceof Invalid ? superblock : (groups as Invalid);
    } catch (error) {
      await closeFd(fd);
      throw error;
    }
  }

  close(): Promise<void> {
    return closeFd(this.#fd);
  }

  /**
   * Reads ranges in their order, the next ones while the last is being looked at. The bytes are valid until the next
   * step only: their buffer is used again. They are fewer than asked for where the device ends.
   *
   * @param longest no range is longer, in bytes
   * @throws a system error, EIO for one
   */
  async *readAll<R extends DeviceRange>(
    ranges: Iterable<R>,
    longest: number,
  ): AsyncGenerator<{ range: R; bytes: DataView }, void, void> {
    // Not from Buffer's pool: blocks of their own, which are given back together.
    const free = Array.from({ length: IN_FLIGHT }, () => Buffer.allocUnsafeSlow(longest));
    const inFlight: { range: R; buffer: Buffer<ArrayBuffer>; result: Promise<number> }[] = [];
    const iterator = ranges[Symbol.iterator]();
    const start = () => {
      for (let buffer = free.pop(); buffer !== undefined; buffer = free.pop()) {
        const next = iterator.next();
        if (next.done) return;
        const range = next.value;
        const result = readFully(this.#fd, buffer, range);
        // It is awaited when its turn comes; a failure before that is not unhandled.
        result.catch(() => undefined);
        inFlight.push({ range, buffer, result });
      }
    };
    try {
      start();
      for (let head = inFlight.shift(); head !== undefined; head = inFlight.shift()) {
        const { range, buffer } = head;
        const length = await head.result;
        yield { range, bytes: new DataView(buffer.buffer, buffer.byteOffset, length) };
        free.push(buffer);
        start();
      }
    } finally {
      // The descriptor may be closed right after this.
      await Promise.allSettled(inFlight.map(({ result }) => result));
    }
  }
}

/** @returns how many bytes there were, fewer than asked for at the device's end */
async function readFully(fd: number, buffer: Buffer, { position, length }: DeviceRange): Promise<number> {
  let done = 0;
  while (done < length) {
    const { bytesRead } = await promisify(read)(fd, buffer, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function readSuperblock(fd: number): Promise<Superblock | Invalid> {
  const buffer = Buffer.alloc(SUPERBLOCK_SIZE);
  const length = await readFully(fd, buffer, { position: SUPERBLOCK_OFFSET, length: SUPERBLOCK_SIZE });
  const superblock = parseSuperblock(buffer.subarray(0, length));
  if (superblock instanceof Invalid) return superblock;
  // The kernel may know them; the tables may look different with them.
  const unknown = unknownFormat(superblock);
  if (unknown.length > 0)
    return new Invalid(`it has features that are not known here: ${unknown.join(', ')}`);
  // What would be allocated for the groups goes by the superblock's word, so it must be a device of that size.
  const end = superblock.blocksCount * superblock.blockSize;
  const last = await readFully(fd, Buffer.alloc(1), { position: end - 1, length: 1 });
  return last === 1 ? superblock : new Invalid('its filesystem is larger than the device');
}

async function readGroups(fd: number, superblock: Superblock): Promise<GroupTable | Invalid> {
  const groups = new GroupTable(superblock.groupsCount);
  const buffer = Buffer.alloc(superblock.blockSize);
  for (let index = 0; index < descriptorBlockCount(superblock); index++) {
    const position = descriptorBlock(superblock, index) * superblock.blockSize;
    const length = await readFully(fd, buffer, { position, length: buffer.length });
    const invalid = parseDescriptors(superblock, groups, index, buffer.subarray(0, length));
    if (invalid !== undefined) return invalid;
  }
  return groups;
}
