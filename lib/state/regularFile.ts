import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SystemError } from '../kernel/errors.ts';
import { O } from '../kernel/handle.ts';

const EINVAL = 22;
const ELOOP = 40;

/**
 * The content of a regular file. Nothing else is opened, wherever a link leads to: opening a pipe lets its writer go on,
 * and opening a device may do anything, as with a watchdog's.
 *
 * @param flags more of O_*
 * @returns undefined when it has more than `most` bytes
 * @throws a system error; EINVAL for what is no regular file, ELOOP for a link where O_NOFOLLOW is among the flags
 */
export async function readRegularFile(
  path: string | Buffer,
  most: number,
  flags = 0,
): Promise<Buffer | undefined> {
  const file = await openRegularFile(path, flags);
  try {
    const info = await file.stat();
    if (info.size > most) return undefined;
    // No more than that, should it be growing.
    const buffer = Buffer.allocUnsafe(info.size);
    let length = 0;
    for (let read = -1; read !== 0 && length < buffer.length; length += read) {
      read = (await file.read(buffer, length, buffer.length - length, length)).bytesRead;
    }
    return buffer.subarray(0, length);
  } finally {
    await file.close();
  }
}

async function openRegularFile(path: string | Buffer, flags: number): Promise<FileHandle> {
  const named = await open(path, O.PATH | flags);
  try {
    const info = await named.stat();
    if (info.isSymbolicLink()) throw new SystemError(ELOOP, 'open', path.toString());
    if (!info.isFile()) throw new SystemError(EINVAL, 'open', path.toString());
    // Who has a lease on it is not waited for.
    return await open(`/proc/self/fd/${named.fd}`, O.RDONLY | O.NONBLOCK);
  } finally {
    await named.close();
  }
}

/**
 * Puts a new file in the place of the old one, or of none, in one step.
 *
 * @param mode its permissions, whatever the umask; for its owner only unless something else is asked for
 * @throws a system error; what was there is there still
 */
export async function replaceFile(path: string, content: string, mode = 0o600): Promise<void> {
  const { randomBytes } = await import('node:crypto');
  const temporary = join(dirname(path), `.ext4-defrag-${randomBytes(12).toString('hex')}.tmp`);
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      await file.writeFile(content);
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    // The first error is the one to tell of.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}
