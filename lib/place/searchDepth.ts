import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errorCode, isSystemFailure } from '../kernel/errors.ts';
import { filesystemUuid } from '../kernel/handle.ts';
import { kernelName, type Filesystem } from '../scan/filesystem.ts';

/** The value lives as long as the mount does, so what is noted of it belongs where nothing outlives the system. */
const FOLDER = '/run/ext4-defrag';

/** Free extents that the allocator looks at before it takes the best so far: all there are. It is 200 otherwise. */
const RAISED = 10_000_000;

/** Raises under way in this process, by tunable. */
const raises = new Map<string, { count: number; readonly before: number; readonly record: string }>();

const putBackAll = () => {
  for (const [tunable, { before, record }] of raises) {
    putBack(tunable, before);
    rmSync(record, { force: true });
  }
};

/**
 * mb_max_to_scan of a mounted ext4 (Documentation/ABI/testing/sysfs-fs-ext4): how hard the allocator looks for a long
 * run. It is raised only while something is allocated, since it counts for everybody who writes to the filesystem.
 *
 * It is put back whatever happens: when the work fails, when the process exits, and, after it was killed, by
 * {@link restoreLeftOver}, for which the old value is noted in /run before the new one is set.
 */
export class SearchDepth {
  readonly #tunable: string;
  readonly #record: string;

  /**
   * @param fd any open file or directory of the filesystem
   * @returns undefined where there is nothing to raise, or it may not be
   */
  static async of(filesystem: Pick<Filesystem, 'id'>, fd: number): Promise<SearchDepth | undefined> {
    if (process.geteuid?.() !== 0) return undefined;
    const [name, uuid] = await Promise.all([kernelName(filesystem.id), filesystemUuid(fd)]);
    if (name === undefined || uuid === undefined) return undefined;
    const tunable = `/sys/fs/ext4/${name}/mb_max_to_scan`;
    if (readNumber(tunable) === undefined) return undefined;
    return new SearchDepth(tunable, join(FOLDER, `mb_max_to_scan-${name}-${uuid}`));
  }

  private constructor(tunable: string, record: string) {
    this.#tunable = tunable;
    this.#record = record;
  }

  /** Does something while the allocator looks at all there is. Where that cannot be had it does it all the same. */
  async raisedDuring<T>(work: () => Promise<T>): Promise<T> {
    const raised = this.#raise();
    try {
      return await work();
    } finally {
      if (raised) this.#lower();
    }
  }

  // Without a pause between what is noted and what is set: nobody else of this process can come in between.
  #raise(): boolean {
    const running = raises.get(this.#tunable);
    if (running !== undefined) {
      running.count++;
      return true;
    }
    try {
      this.restore();
      const before = readNumber(this.#tunable);
      if (before === undefined || before >= RAISED) return false;
      writeRecord(this.#record, before);
      // Before it is set: an exit between the two finds nothing to do.
      if (raises.size === 0) process.on('exit', putBackAll);
      raises.set(this.#tunable, { count: 1, before, record: this.#record });
      writeFileSync(this.#tunable, String(RAISED), EXISTING);
      return true;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      this.#forget();
      return false;
    }
  }

  #lower(): void {
    const running = raises.get(this.#tunable);
    if (running === undefined || --running.count > 0) return;
    putBack(this.#tunable, running.before);
    this.#forget();
  }

  #forget(): void {
    if (!raises.delete(this.#tunable)) return;
    if (raises.size === 0) process.off('exit', putBackAll);
    rmSync(this.#record, { force: true });
  }

  /** As {@link restoreLeftOver}. */
  restore(): boolean {
    if (folderIsOurs()) rmSync(unfinished(this.#record), { force: true });
    const before = readRecord(this.#record);
    if (before === undefined) return false;
    const done = putBack(this.#tunable, before);
    rmSync(this.#record, { force: true });
    return done;
  }
}

/**
 * Puts back what a run on the filesystem raised that was killed: if it is still what that run set it to. To be called
 * under the filesystem's lock, since a run at work has raised it as well.
 *
 * @param fd any open file or directory of the filesystem
 * @returns whether something was put back
 */
export async function restoreLeftOver(filesystem: Pick<Filesystem, 'id'>, fd: number): Promise<boolean> {
  const depth = await SearchDepth.of(filesystem, fd);
  return depth?.restore() ?? false;
}

/** Sets a tunable to what it was, unless somebody has set it to another value meanwhile. */
function putBack(tunable: string, before: number): boolean {
  try {
    if (readNumber(tunable) !== RAISED) return false;
    writeFileSync(tunable, String(before), EXISTING);
    return true;
  } catch (error) {
    // It went with its mount.
    if (isSystemFailure(error)) return false;
    throw error;
  }
}

/** Nothing is made where nothing is. */
const EXISTING = { flag: 'r+' } as const;

/** @returns undefined when it cannot be read, or says something else */
function readNumber(path: string): number | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const text = readFileSync(fd, 'latin1').trim();
      return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (isSystemFailure(error)) return undefined;
    throw error;
  }
}

const readRecord = (path: string): number | undefined => (folderIsOurs() ? readNumber(path) : undefined);

/** What a record is called before it says all it is to say. One name, so that what a killed run left is found. */
const unfinished = (path: string): string => `${path}.new`;

/**
 * In one step, so that a record says what was or is not there.
 *
 * @throws a system error
 */
function writeRecord(path: string, before: number): void {
  try {
    mkdirSync(FOLDER, { mode: 0o700 });
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
  if (!folderIsOurs()) throw new ForeignFolder(`${FOLDER} is not a folder that only root can write to`);
  const temporary = unfinished(path);
  try {
    writeFileSync(temporary, `${before}\n`, { flag: 'wx', mode: 0o600 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** In the shape of a system error, since that is what it is to the caller. */
class ForeignFolder extends Error {
  override readonly name = 'ForeignFolder';
  readonly code = 'EPERM';
  readonly errno = -1;
}

/** Whether nobody else can have put something into the folder, or made it a link. */
function folderIsOurs(): boolean {
  const info = lstatSync(FOLDER, { throwIfNoEntry: false });
  return info !== undefined && info.isDirectory() && info.uid === 0 && (info.mode & 0o022) === 0;
}
