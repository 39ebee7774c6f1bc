import type { SystemError } from '../kernel/errors.ts';
import { DT } from '../kernel/handle.ts';
import {
  closeAll,
  ENTRY_WORDS,
  inspectList,
  isDirectory,
  readDirectories,
  type Inspected,
  type Listing,
  type NameList,
} from '../kernel/inspect.ts';
import { filesAtOnce } from '../kernel/openFiles.ts';
import { bytes, type Bytes } from '../layout/units.ts';
import { Anchor, Anchors } from './anchors.ts';
import { CONFINED } from './confined.ts';
import { SparseInodeSet } from './inodeSet.ts';
import type { Reason } from './reasons.ts';

/**
 * A path below the walk's root, as latin1: a byte per character. Such strings are put together several times as fast
 * as Buffers, and lose nothing of a name that is not UTF-8.
 */
export type BytePath = string;

/** A name that was met: what it is, or why nobody looked or could. */
export interface Walked {
  readonly relative: BytePath;
  readonly found: Inspected | SystemError | Reason;
}

/** Answers why a name is not to be looked at, or undefined; `kind` is DT_*. */
export type Judge = (relative: BytePath, kind: number) => Reason | undefined;

/** Calls that read directories at a time, as many as libuv has threads; and directories in each. */
const READS = 4;
const DIRECTORIES_A_READ = Math.ceil(filesAtOnce(READS * 32) / READS);
/** Bytes of entries read of one directory at a time: some thousand names. */
const DIRECTORY_READ = bytes(64 * 1024);
/** Calls that look at files at a time, before more directories are read; and files in each. */
const INSPECTIONS = 6;
const NAMES_AN_INSPECTION = 128;
/** Where a path gets longer than that, it goes on from an {@link Anchor}. At most PATH_MAX less a name. */
const LONGEST_PATH = 2048;

/** A directory to be read. */
class Directory {
  readonly relative: BytePath;
  readonly #prefix: BytePath;
  /** Where `path` begins: at the root when undefined. */
  readonly anchor: Anchor | undefined;
  readonly path: BytePath;
  /** Where it was read in part: its descriptor stands where it goes on. */
  fd: number | undefined;
  #asAnchor: Anchor | undefined;

  constructor(relative: BytePath, anchor?: Anchor, path = relative) {
    this.relative = relative;
    this.#prefix = relative === '' ? '' : `${relative}/`;
    this.anchor = anchor;
    this.path = path;
  }

  below(name: BytePath): BytePath {
    return this.#prefix + name;
  }

  child(name: BytePath): Directory {
    const relative = this.below(name);
    if (this.path === '') return new Directory(relative, this.anchor, name);
    if (this.path.length + 1 + name.length <= LONGEST_PATH) {
      return new Directory(relative, this.anchor, `${this.path}/${name}`);
    }
    return new Directory(relative, (this.#asAnchor ??= new Anchor(this.anchor, this.path)), name);
  }
}

interface Reading {
  readonly directories: readonly Directory[];
  readonly listing: Listing;
}

/** Descriptors of directories read in one call, closed when the files in them have been looked at. */
interface Opened {
  readonly fds: number[];
  users: number;
}

/** A name that is to be inspected. */
interface File {
  readonly relative: BytePath;
  readonly directory: Directory;
  /** DT_*. */
  readonly kind: number;
}

/** Files that one call looks at. */
interface Inspection {
  readonly files: readonly File[];
  readonly list: NameList;
  readonly opened: Opened;
  /** Whether it still has to be found out which are files: where the directory does not tell. */
  readonly statFirst: boolean;
  /** Undefined until it is asked for. */
  answer: Promise<Inspected[]> | undefined;
}

/** Where a walk begins. */
export interface WalkRoot {
  readonly rootFd: number;
  /** The filesystem's block device, where it may be read: directories that are not cached are found faster. */
  readonly deviceFd: number | undefined;
  /** Of the filesystem. */
  readonly blockSize: Bytes;
}

/**
 * Everything below an open directory, the files inspected, a batch at a time: depth first, a directory's names by
 * inode number. Symbolic links are not followed and other mounts not entered. How much is held at a time does not
 * depend on the size of the tree: a directory's next names are read when what lies below the last ones is done.
 *
 * The order is that of the tree alone: calls that run side by side are answered in the order in which they were made.
 */
export async function* walk(
  { rootFd, deviceFd, blockSize }: WalkRoot,
  judge: Judge,
  signal: AbortSignal | undefined,
): AsyncGenerator<Walked[], void, void> {
  const run = new Walk({ rootFd, deviceFd, blockSize }, judge);
  try {
    while (!signal?.aborted) {
      const batch = await run.next();
      if (batch === undefined) return;
      if (batch.length > 0) yield batch;
    }
  } finally {
    await run.close();
  }
}

class Walk {
  readonly #rootFd: number;
  readonly #deviceFd: number | undefined;
  readonly #blockSize: Bytes;
  readonly #judge: Judge;
  readonly #anchors: Anchors;
  /** Directories to read, the next one last. */
  readonly #pending: Directory[] = [new Directory('')];
  readonly #readings: Promise<Reading>[] = [];
  readonly #inspections: Inspection[] = [];
  /** Directories by inode number. */
  readonly #met = new SparseInodeSet();
  /** The device had to be asked for the directories last read. */
  #cold = true;
  /** Descriptors being closed. */
  readonly #closing = new Set<Promise<unknown>>();

  constructor({ rootFd, deviceFd, blockSize }: WalkRoot, judge: Judge) {
    this.#rootFd = rootFd;
    this.#deviceFd = deviceFd;
    this.#blockSize = blockSize;
    this.#judge = judge;
    this.#anchors = new Anchors(rootFd);
  }

  /** The next names, perhaps none; undefined at the end. */
  async next(): Promise<Walked[] | undefined> {
    while (
      this.#readings.length < READS &&
      this.#pending.length > 0 &&
      this.#inspections.length < INSPECTIONS
    ) {
      // Few directories are shared out among the threads.
      const count = Math.min(Math.ceil(this.#pending.length / READS), DIRECTORIES_A_READ);
      this.#readings.push(this.#read(this.#pending.splice(-count).reverse()));
    }
    this.#startInspections();
    const inspection = this.#inspections.at(0);
    if (
      inspection !== undefined &&
      (this.#readings.length === 0 || this.#inspections.length >= INSPECTIONS)
    ) {
      const inspected = (await inspection.answer) ?? [];
      this.#inspections.shift();
      return this.#inspected(inspection, inspected);
    }
    const reading = this.#readings.shift();
    if (reading === undefined) return undefined;
    const { directories, listing } = await reading;
    this.#cold = listing.bytesRead > 0;
    return this.#listed(directories, listing);
  }

  /** Waits for what is under way, and closes everything. */
  async close(): Promise<void> {
    // The files of a directory that is read in parts are looked at through the descriptor that its next reading answers.
    const inspections = this.#inspections.splice(0);
    await Promise.allSettled(inspections.flatMap(({ answer }) => answer ?? []));
    for (const { opened } of inspections) this.#close(opened.fds.splice(0));
    const readings = await Promise.allSettled(this.#readings.splice(0));
    for (const reading of readings) {
      if (reading.status === 'fulfilled') {
        this.#close(reading.value.listing.directories.flatMap(({ fd }) => fd ?? []));
      }
    }
    this.#close(this.#pending.splice(0).flatMap(({ fd }) => fd ?? []));
    await Promise.all(this.#closing);
    await this.#anchors.close();
  }

  #close(fds: readonly number[]): void {
    if (fds.length === 0) return;
    const closing: Promise<unknown> = closeAll(fds).then(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  async #read(directories: readonly Directory[]): Promise<Reading> {
    const fds = new Int32Array(directories.length);
    const offsets = new Uint32Array(directories.length);
    const broken = new Map<number, SystemError>();
    let names = '';
    for (const [i, { fd, anchor, path }] of directories.entries()) {
      offsets[i] = names.length;
      if (fd === undefined) names += path === '' ? '.' : path;
      names += '\0';
      if (fd !== undefined) fds[i] = fd;
      else if (anchor === undefined) fds[i] = this.#rootFd;
      else {
        fds[i] = await this.#anchors.use(anchor).catch((error: unknown) => {
          broken.set(i, error as SystemError);
          return -1;
        });
      }
    }
    try {
      const list = { fds, offsets, names: Buffer.from(names, 'latin1') };
      // What is cached need not be read ahead, and finding out where it lies would cost a twentieth of all.
      const deviceFd = this.#cold ? this.#deviceFd : undefined;
      const listing = await readDirectories(list, DIRECTORY_READ, CONFINED, deviceFd);
      if (broken.size === 0) return { directories, listing };
      const found = listing.directories.map((directory, i) => {
        const error = broken.get(i);
        return error === undefined ? directory : { ...directory, error };
      });
      return { directories, listing: { ...listing, directories: found } };
    } finally {
      for (const { fd, anchor } of directories) {
        if (fd === undefined && anchor !== undefined) this.#anchors.release(anchor);
      }
    }
  }

  /** Takes in what directories hold: directories to read, files to inspect, and names to leave alone. */
  #listed(directories: readonly Directory[], { directories: listed, entries, names }: Listing): Walked[] {
    const aside: Walked[] = [];
    const below: Directory[] = [];
    const opened: Opened = { fds: [], users: 0 };
    const text = names.toString('latin1');
    let files = new FileList();
    let at = 0;
    let offset = 0;
    for (const [i, directory] of directories.entries()) {
      const { fd, error, more, count } = listed[i];
      for (const end = at + count * ENTRY_WORDS; at < end; at += ENTRY_WORDS) {
        const [kind, length] = [entries[at + 1], entries[at + 2]];
        const name = text.substring(offset, offset + length);
        const relative = directory.below(name);
        const reason = this.#judge(relative, kind);
        if (reason !== undefined) aside.push({ relative, found: reason });
        // A copy of the name, since a part of `text` would keep all of it.
        else if (kind === DT.DIRECTORY) {
          // One that was met before has moved meanwhile, or the filesystem is damaged and gives it two names.
          if (!this.#met.add(entries[at])) aside.push({ relative, found: 'hard-link' });
          else below.push(directory.child(names.toString('latin1', offset, offset + length)));
        } else {
          files.push({ relative, directory, kind }, fd as number, offset);
          if (files.count === NAMES_AN_INSPECTION) {
            this.#inspect(files.files, files.list(names), opened);
            files = new FileList();
          }
        }
        offset += length + 1;
      }
      if (error !== undefined) aside.push({ relative: directory.relative, found: error });
      if (more) {
        directory.fd = fd;
        below.push(directory);
      } else if (fd !== undefined) opened.fds.push(fd);
    }
    if (files.count > 0) this.#inspect(files.files, files.list(names), opened);
    if (opened.users === 0) {
      // Nothing of this reading needs them, but files of an earlier part of a directory may still be waiting.
      const last = this.#inspections.at(-1);
      if (last === undefined) this.#close(opened.fds);
      else last.opened.fds.push(...opened.fds);
    }
    for (const directory of below.reverse()) this.#pending.push(directory);
    return aside;
  }

  #inspect(files: readonly File[], list: NameList, opened: Opened): void {
    opened.users++;
    const statFirst = files.some(({ kind }) => kind !== DT.REGULAR);
    this.#inspections.push({ files, list, opened, statFirst, answer: undefined });
  }

  /** Only so many at a time: each may bring very many extents, and a stop waits for all of them. */
  #startInspections(): void {
    for (const inspection of this.#inspections.slice(0, INSPECTIONS)) {
      if (inspection.answer !== undefined) continue;
      inspection.answer = inspectList(inspection.list, this.#blockSize, CONFINED, inspection.statFirst);
      // It is awaited when its turn comes; a failure before that is not unhandled.
      inspection.answer.catch(() => undefined);
    }
  }

  /** Takes in what files are. */
  #inspected({ files, list, opened }: Inspection, answers: readonly Inspected[]): Walked[] {
    const done = answers.length;
    if (done < files.length) {
      // There were very many extents: the rest comes next.
      const rest = { ...list, fds: list.fds.subarray(done), offsets: list.offsets.subarray(done) };
      this.#inspect(files.slice(done), rest, opened);
      this.#inspections.unshift(this.#inspections.pop() as Inspection);
    }
    if (--opened.users === 0) this.#close(opened.fds);
    const walked: Walked[] = [];
    for (const [i, found] of answers.entries()) {
      const { relative, directory } = files[i];
      if (found.kind === 'inode' && isDirectory(found.mode)) {
        // Not every directory tells what its names are (mke2fs -O ^filetype).
        const reason = this.#judge(relative, DT.DIRECTORY);
        if (reason !== undefined) walked.push({ relative, found: reason });
        else if (!this.#met.add(found.inode)) walked.push({ relative, found: 'hard-link' });
        else this.#pending.push(directory.child(relative.slice(relative.lastIndexOf('/') + 1)));
      } else walked.push({ relative, found });
    }
    return walked;
  }
}

/** Files to be inspected in one call, as it is filled. */
class FileList {
  readonly files: File[] = [];
  readonly #fds = new Int32Array(NAMES_AN_INSPECTION);
  readonly #offsets = new Uint32Array(NAMES_AN_INSPECTION);

  get count(): number {
    return this.files.length;
  }

  push(file: File, fd: number, offset: number): void {
    this.#fds[this.count] = fd;
    this.#offsets[this.count] = offset;
    this.files.push(file);
  }

  list(names: Buffer): NameList {
    return { fds: this.#fds.subarray(0, this.count), offsets: this.#offsets.subarray(0, this.count), names };
  }
}
