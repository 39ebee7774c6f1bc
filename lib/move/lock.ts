import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd, O, openAt, openByHandle, statFd, tryLock } from '../kernel/handle.ts';
import { printableText } from '../report/names.ts';
import type { Filesystem } from '../scan/filesystem.ts';

const ROOT_INODE = 2;
/** Between two looks at a lock that another run holds, in milliseconds. */
const RETRY = 200;

/** Another run is at work on the filesystem. In the shape of a system error, since that is what it is to the caller. */
class FilesystemLocked extends Error {
  override readonly name = 'FilesystemLocked';
  readonly code = 'EWOULDBLOCK';
  readonly errno = -11;
  readonly syscall = 'flock';
}

/**
 * Keeps other runs off a filesystem: a lock on its root directory, which is the same one whatever the filesystem is
 * called, leaves no file behind and goes with this process.
 *
 * @param wait for another run to end, unless the signal is aborted
 * @returns what lets go of it; undefined when the signal ended the waiting
 * @throws FilesystemLocked saying who has it
 */
export async function lockFilesystem(
  filesystem: Filesystem,
  dirFd: number,
  wait: boolean,
  signal: AbortSignal | undefined,
): Promise<(() => Promise<void>) | undefined> {
  const fd = await openRoot(filesystem, dirFd);
  // A user of a part of a filesystem who cannot reach its root works without.
  if (fd === undefined) return () => Promise.resolve();
  try {
    while (!(await tryLock(fd))) {
      if (!wait) throw new FilesystemLocked(await explain(filesystem.id));
      if (signal?.aborted) {
        await closeFd(fd);
        return undefined;
      }
      await sleep(RETRY, undefined, { signal }).catch(() => undefined);
    }
  } catch (error) {
    await closeFd(fd);
    throw error;
  }
  return () => closeFd(fd);
}

async function openRoot({ mountPoint }: Filesystem, dirFd: number): Promise<number | undefined> {
  const flags = O.RDONLY | O.DIRECTORY;
  const byNumber = await openByHandle(dirFd, ROOT_INODE, 0, flags).catch(() => undefined);
  if (byNumber !== undefined) return byNumber;
  const fd = await openAt(dirFd, mountPoint, flags).catch(() => undefined);
  if (fd === undefined) return undefined;
  const [root, target] = [await statFd(fd), await statFd(dirFd)];
  if (root.dev === target.dev && root.ino === BigInt(ROOT_INODE)) return fd;
  await closeFd(fd);
  return undefined;
}

async function explain(id: string): Promise<string> {
  const holder = holderOf(await readFile('/proc/locks', 'latin1').catch(() => ''), id);
  const command = holder && (await readFile(`/proc/${holder}/cmdline`, 'latin1').catch(() => undefined));
  const who = command
    ? `process ${holder}: ${printableText(command.split('\0').join(' ').trim())}`
    : 'another process';
  return `another run is at work on this filesystem (${who}); wait for its end, or give --wait`;
}

/** The process that has the root directory of a filesystem locked, by /proc/locks (proc_locks(5)). */
export function holderOf(locks: string, id: string): number | undefined {
  const [major, minor] = id.split(':').map(Number);
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  const place = `${hex(major)}:${hex(minor)}:${ROOT_INODE}`;
  for (const line of locks.split('\n')) {
    const fields = line.trim().split(/\s+/);
    // "1: FLOCK ADVISORY WRITE 4711 07:00:2 0 EOF"; who waits for a lock has "->" behind the number.
    if (fields[1] === 'FLOCK' && fields[5] === place) return Number(fields[4]);
  }
  return undefined;
}
