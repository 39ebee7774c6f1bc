import { constants, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode } from '../kernel/errors.ts';
import { decode, encode, MOST_BYTES, type Remembered } from './format.ts';
import { readRegularFile, replaceFile } from './regularFile.ts';

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
    // A link, which a new file would replace, is refused.
    const content = await readRegularFile(path, MOST_BYTES, constants.O_NOFOLLOW);
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
  await replaceFile(path, encode(filesystems));
}
