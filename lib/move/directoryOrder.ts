import { closeFd, readEntries } from '../kernel/handle.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { openParent, type ScannedFile } from '../scan/scan.ts';

interface InDirectory {
  readonly file: ScannedFile;
}

/** Who goes through a directory of more names than these does not wait for the device alone. */
const MOST_NAMES = 100_000;

/**
 * Puts the files of each directory next to each other, in the order in which reading the directory answers their names:
 * what takes its places in this order is read in it by who goes through the directory.
 */
export async function inDirectoryOrder<F extends InDirectory>(candidates: readonly F[]): Promise<F[]> {
  const directories = new Map<string, F[]>();
  for (const candidate of candidates) {
    const key = directoryOf(candidate);
    const files = directories.get(key);
    if (files === undefined) directories.set(key, [candidate]);
    else files.push(candidate);
  }
  const groups = await Promise.all([...directories.values()].map((files) => sorted(files)));
  return groups.flat();
}

function directoryOf({ file: { handle, relative } }: InDirectory): string {
  if (handle !== undefined) return String(handle.parent);
  return relative.toString('latin1', 0, Math.max(0, relative.lastIndexOf(0x2f)));
}

async function sorted<F extends InDirectory>(files: F[]): Promise<F[]> {
  if (files.length === 1) return files;
  const fd = await openParent(files[0].file);
  if (fd === undefined) return files;
  const left = new Set(files.map(({ file }) => file.inode));
  const places = new Map<number, number>();
  try {
    for (let at = 0; left.size > 0 && at < MOST_NAMES;) {
      const entries = await readEntries(fd);
      if (entries.length === 0) break;
      for (const { inode } of entries) if (left.delete(inode)) places.set(inode, at++);
    }
  } catch (error) {
    // The order is only a help.
    if (!isSystemFailure(error)) throw error;
  } finally {
    await closeFd(fd);
  }
  const placeOf = ({ file }: F) => places.get(file.inode) ?? Infinity;
  return files.sort((a, b) => {
    const [first, second] = [placeOf(a), placeOf(b)];
    return first === second ? 0 : first - second;
  });
}
