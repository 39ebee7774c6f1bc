import { readFile } from 'node:fs/promises';
import { fallocate, openTemporary } from '../kernel/allocate.ts';
import { FADV, fadvise } from '../kernel/cache.ts';
import { errorCode, type SystemError } from '../kernel/errors.ts';
import { closeFd, fsyncFd, readFd, writeFd } from '../kernel/handle.ts';
import { moveExtents } from '../kernel/moveExtent.ts';
import { blocks, bytes, toBytes, type Bytes } from '../layout/units.ts';
import { kernelName, UnsupportedTarget, type Filesystem } from '../scan/filesystem.ts';

/** What trying it on scratch files showed. */
export interface ProbeResult {
  /** Whether the fast_commit feature is at work; undefined where /proc does not tell. */
  readonly fastCommit: boolean | undefined;
}

/**
 * Tries EXT4_IOC_MOVE_EXT with two scratch files in `dirFd`: whether it is to be had here at all, from unequal
 * offsets, and leaves the content alone.
 *
 * @throws UnsupportedTarget saying what is missing
 */
export async function probe(filesystem: Filesystem, dirFd: number, page: Bytes): Promise<ProbeResult> {
  const perPage = Math.max(1, page / filesystem.blockSize);
  const count = blocks(4 * perPage);
  const size = toBytes(count, filesystem.blockSize);
  const fds: number[] = [];
  try {
    const orig = await openTemporary(dirFd);
    fds.push(orig);
    const donor = await openTemporary(dirFd);
    fds.push(donor);
    const content = Buffer.alloc(size, 'ext4-defrag');
    // What the allocator chooses when it is written comes from blocks that are kept for small files from then on, and
    // nobody else can have those at their places.
    await fallocate(orig, 0, bytes(0), size);
    await writeFd(orig, content);
    const commitsBefore = await fastCommits(filesystem.id);
    await fsyncFd(orig);
    // Without a journal the kernel does not try again when a page's buffers are still held.
    await fadvise(orig, bytes(0), size, FADV.DONTNEED);
    const commitsAfter = await fastCommits(filesystem.id);
    await fallocate(donor, 0, bytes(0), bytes(2 * size));
    const { moved, error } = await moveExtents(orig, donor, blocks(0), blocks(perPage), count);
    if (error !== undefined) throw new UnsupportedTarget(explain(error));
    if (moved !== count || !(await readFd(orig, size, 0)).equals(content)) {
      throw new UnsupportedTarget(
        `exchanging ${count} blocks of a scratch file did ${moved}, or changed its content; nothing else is touched; give this kernel's version in a report`,
      );
    }
    return { fastCommit: commitsBefore === undefined ? undefined : commitsBefore !== commitsAfter };
  } catch (error) {
    throw error instanceof UnsupportedTarget ? error : new UnsupportedTarget(explainScratch(error));
  } finally {
    await Promise.all(fds.map(closeFd));
  }
}

function explain(error: SystemError): string {
  switch (error.code) {
    case 'EOPNOTSUPP':
    case 'ENOTTY':
      return `the kernel does not exchange blocks on this filesystem (EXT4_IOC_MOVE_EXT: ${error.code}); use Linux 6.1 or later`;
    default:
      return `a trial exchange with two scratch files failed: ${error.message}`;
  }
}

function explainScratch(error: unknown): string {
  switch (errorCode(error)) {
    case 'EACCES':
    case 'EPERM':
      return 'no temporary file may be made here; run as root, or name a directory that you may write';
    case 'EROFS':
      return 'it is mounted read-only; remount it read-write first';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'there is no space for two scratch files of a few blocks; make some space';
    case 'EOPNOTSUPP':
      return 'the kernel preallocates no blocks here, as on a filesystem without extents (ext3): convert it first';
    default:
      return `no scratch file could be made: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Fast commits done and found impossible: both stay 0 without the feature. */
async function fastCommits(id: string): Promise<string | undefined> {
  const name = await kernelName(id);
  const text = await readFile(`/proc/fs/ext4/${name}/fc_info`, 'utf8').catch(() => undefined);
  return text?.match(/\d+ (?:commits|ineligible)/g)?.join();
}
