import { constants } from 'node:fs';
import { access, lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode } from '../kernel/errors.ts';
import { named, type WrittenEvent } from '../report/events.ts';
import { pictureHtml } from '../report/page.ts';
import { escapeUnsafe } from '../report/json.ts';
import { parsePicture } from '../report/picture/parse.ts';
import type { Picture } from '../report/picture/picture.ts';
import { readRegularFile, replaceFile } from '../state/regularFile.ts';

/** Larger files are not read. The largest picture takes less than half of it. */
const MOST_BYTES = 64 * 1024 * 1024;

/** A file that is not what it should be. In the shape of a system error. */
export class UnfitFile extends Error {
  override readonly name = 'UnfitFile';
  readonly code = 'EINVAL';
  readonly errno = -22;
}

/**
 * Makes sure that a file can be put there, before a long run. A link is not followed, and nothing but a regular file is
 * replaced.
 *
 * @throws a system error
 */
export async function checkReplaceable(path: string): Promise<void> {
  const there = await lstat(path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (there?.isFile() === false) {
    throw new UnfitFile('it is no regular file, and stays as it is: give another name');
  }
  await access(dirname(path), constants.W_OK | constants.X_OK);
}

/**
 * A picture that `map -o` has written.
 *
 * @throws a system error, also for what is no such file
 */
export async function readPicture(path: string): Promise<Picture> {
  const content = await readRegularFile(path, MOST_BYTES);
  const picture = content === undefined ? 'it is too large' : parsePicture(content.toString());
  if (typeof picture === 'string') throw new UnfitFile(picture);
  return picture;
}

export const writePicture = (path: string, picture: Picture): Promise<WrittenEvent> =>
  write('scan', path, `${escapeUnsafe(JSON.stringify(picture))}\n`);

export const writePage = (path: string, now: Picture, before: Picture | null): Promise<WrittenEvent> =>
  write('page', path, pictureHtml(now, before));

async function write(what: WrittenEvent['what'], path: string, content: string): Promise<WrittenEvent> {
  await replaceFile(path, content);
  return { type: 'written', what, ...named(Buffer.from(path)), bytes: Buffer.byteLength(content) };
}
