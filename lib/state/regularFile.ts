import { randomBytes } from 'node:crypto';
import { constants, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SystemError } from '../kernel/errors.ts';

/** Nothing waits for a pipe's other end or takes a terminal. */
const FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
const EINVAL = 22;

/**
 * The content of a regular file.
 *
 * @param flags more of O_*
 * @returns undefined when it has more than `most` bytes
 * @throws a system error; EINVAL for what is no regular file
 */
export async function readRegularFile(
  path: string | Buffer,
  most: number,
  flags = 0,
): Promise<Buffer | undefined> {
  const file = await open(path, FLAGS | flags);
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new SystemError(EINVAL, 'open', path.toString());
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

/**
 * Puts a new file in the place of the old one, or of none, in one step.
 *
 * @param mode its permissions, whatever the umask; for its owner only unless something else is asked for
 * @throws a system error; what was there is there still
 */
export async function replaceFile(path: string, content: string, mode = 0o600): Promise<void> {
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
