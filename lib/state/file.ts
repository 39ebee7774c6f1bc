import { randomBytes } from 'node:crypto';
import { constants, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorCode, SystemError } from '../kernel/errors.ts';
import { decode, encode, MOST_BYTES, type Remembered } from './format.ts';

/** Nothing waits for a pipe's other end or takes a terminal, and a link, which a new file would replace, is refused. */
const FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_NOFOLLOW;
const EINVAL = 22;

/** What every state file begins with, of whatever version. */
const HEAD = '{"format":';

/** A file that somebody named by mistake: it is left alone. In the shape of a system error. */
export class ForeignFile extends Error {
  override readonly name = 'ForeignFile';
  readonly code = 'EEXIST';
  readonly errno = -17;
}

/**
 * @returns what a state file says by UUID, nothing when there is none, or why what it says is of no use
 * @throws a system error when it cannot be read; EINVAL for what is no regular file, such as /dev/null; ForeignFile
 */
export async function readStateFile(path: string): Promise<Map<string, Remembered> | string> {
  try {
    const content = await readContent(path);
    if (content === undefined) return 'is too large';
    if (content.length > 0 && content.toString('latin1', 0, HEAD.length) !== HEAD) {
      throw new ForeignFile(
        `${JSON.stringify(path)} is not a file that this program wrote: it stays as it is`,
      );
    }
    return decode(content) ?? 'is not of a form that this version knows';
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return new Map<string, Remembered>();
    throw error;
  }
}

async function readContent(path: string): Promise<Buffer | undefined> {
  const file = await open(path, FLAGS);
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new SystemError(EINVAL, 'open', path);
    if (info.size > MOST_BYTES) return undefined;
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
 * Puts a new state file in the place of the old one, or of none, in one step.
 *
 * @param filesystems by UUID
 * @throws a system error; what was there is there still
 */
export async function writeStateFile(
  path: string,
  filesystems: ReadonlyMap<string, Remembered>,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = join(dirname(path), `.ext4-defrag-${randomBytes(12).toString('hex')}.tmp`);
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      await file.writeFile(encode(filesystems));
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
