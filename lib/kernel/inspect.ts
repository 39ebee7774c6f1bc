import { ExtentTable } from '../layout/extents.ts';
import { bytes, type Bytes } from '../layout/units.ts';
import { SystemError } from './errors.ts';
import { O } from './handle.ts';
import { native } from './native.ts';

/** What fstat, FS_IOC_GETFLAGS and FIEMAP say of an inode. */
export interface InspectedInode {
  readonly kind: 'inode';
  readonly inode: number;
  readonly size: Bytes;
  /** st_blocks is not 0; blocks whose allocation is delayed count. */
  readonly hasBlocks: boolean;
  readonly links: number;
  /** st_mode, the type included; see {@link isRegular}. */
  readonly mode: number;
  /** FS_IOC_GETFLAGS; 0 unless it is a regular file. */
  readonly flags: number;
  /** In blocks, unmerged; undefined unless it is a regular file with blocks. */
  readonly extents: ExtentTable | undefined;
}

export interface InspectionError {
  readonly kind: 'error';
  readonly error: SystemError;
}

export type Inspected = InspectedInode | InspectionError;

const S_IFMT = 0o170000;

export const isRegular = (mode: number): boolean => (mode & S_IFMT) === 0o100000;
export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === 0o040000;

/** Names, each below a directory of its own: name `i` is in `names` from `offsets[i]` on, up to a NUL. */
export interface NameList {
  readonly fds: Int32Array;
  readonly offsets: Uint32Array;
  readonly names: Buffer;
}

/** O_NONBLOCK: what was a file when its directory was read may be a FIFO by now. */
const OPEN_FLAGS = O.RDONLY | O.NONBLOCK | O.NOFOLLOW;

/** A call ends early after so many extents: 8 MiB of them. */
const EXTENTS_A_CALL = 256 * 1024;

/** native/walk.h: kRecordWords and RecordWord. */
const RECORD_WORDS = 11;
const WORD = {
  ERRNO: 0,
  CALL: 1,
  INODE: 2,
  MODE: 3,
  LINKS: 4,
  SIZE_LOW: 5,
  SIZE_HIGH: 6,
  BLOCKS_LOW: 7,
  BLOCKS_HIGH: 8,
  FLAGS: 9,
  EXTENTS: 10,
} as const;

/** native/walk.h: InspectionCall. */
const CALLS = [
  '',
  'openat2',
  'open_by_handle_at',
  'stat',
  'ioctl(FS_IOC_GETFLAGS)',
  'ioctl(FS_IOC_FIEMAP)',
] as const;

/**
 * Opens names and answers what they are and how they lie, in the order of the list. Where there are very many extents
 * the answer is shorter than the list; it is never empty, and the caller asks for the rest.
 *
 * @param resolve RESOLVE_*
 * @param statFirst nothing but regular files is opened, as far as that can be known before; a tenth slower
 */
export async function inspectList(
  { fds, offsets, names }: NameList,
  blockSize: Bytes,
  resolve: number,
  statFirst: boolean,
): Promise<Inspected[]> {
  return decode(
    await native().inspectNames(fds, offsets, names, OPEN_FLAGS, resolve, statFirst, EXTENTS_A_CALL),
    blockSize,
  );
}

/**
 * Opens those names of one directory that are regular files and answers what they are and how they lie, an element
 * for each name.
 *
 * @param resolve RESOLVE_*
 */
export async function inspectNames(
  dirFd: number,
  names: readonly Buffer[],
  blockSize: Bytes,
  resolve: number,
): Promise<Inspected[]> {
  const offsets = new Uint32Array(names.length);
  for (let i = 1; i < names.length; i++) offsets[i] = offsets[i - 1] + names[i - 1].length + 1;
  const text = Buffer.concat(names.flatMap((name) => [name, NUL]));
  const fds = new Int32Array(names.length).fill(dirFd);
  return all(names.length, (from) =>
    inspectList(
      { fds: fds.subarray(from), offsets: offsets.subarray(from), names: text },
      blockSize,
      resolve,
      true,
    ),
  );
}

const NUL = Buffer.from([0]);

/**
 * Opens inodes by number and generation, whatever their names are, and answers what they are and how they lie, an
 * element for each. Needs CAP_DAC_READ_SEARCH.
 *
 * @param mountFd any open file or directory of the filesystem, not with O_PATH
 * @param generations another than the inode's is ESTALE, 0 too, as is an inode without a name
 */
export function inspectHandles(
  mountFd: number,
  inodes: Uint32Array,
  generations: Uint32Array,
  blockSize: Bytes,
): Promise<Inspected[]> {
  return all(inodes.length, async (from) => {
    const rest = [inodes.subarray(from), generations.subarray(from)] as const;
    return decode(await native().inspectHandles(mountFd, ...rest, OPEN_FLAGS, EXTENTS_A_CALL), blockSize);
  });
}

async function all(count: number, some: (from: number) => Promise<Inspected[]>): Promise<Inspected[]> {
  const answers: Inspected[] = [];
  while (answers.length < count) for (const answer of await some(answers.length)) answers.push(answer);
  return answers;
}

function decode(
  { records, extents }: { records: Uint32Array; extents: BigUint64Array },
  blockSize: Bytes,
): Inspected[] {
  const halves = new Uint32Array(extents.buffer, extents.byteOffset, extents.length * 2);
  const answers: Inspected[] = [];
  let first = 0;
  for (let at = 0; at < records.length; at += RECORD_WORDS) {
    if (records[at + WORD.ERRNO] !== 0) {
      const error = new SystemError(records[at + WORD.ERRNO], CALLS[records[at + WORD.CALL]]);
      answers.push({ kind: 'error', error });
      continue;
    }
    const mode = records[at + WORD.MODE];
    const hasBlocks = records[at + WORD.BLOCKS_LOW] !== 0 || records[at + WORD.BLOCKS_HIGH] !== 0;
    const count = records[at + WORD.EXTENTS];
    answers.push({
      kind: 'inode',
      inode: records[at + WORD.INODE],
      size: bytes(records[at + WORD.SIZE_HIGH] * 2 ** 32 + records[at + WORD.SIZE_LOW]),
      hasBlocks,
      links: records[at + WORD.LINKS],
      mode,
      flags: records[at + WORD.FLAGS],
      extents:
        hasBlocks && isRegular(mode) ? ExtentTable.decodeHalves(halves, first, count, blockSize) : undefined,
    });
    first += count;
  }
  return answers;
}

/** Entries of a directory, by inode number: entry `i` is words `3 * i` on of {@link Listing.entries}. */
export interface ListedDirectory {
  /** Open, for the caller to close; undefined where it could not be opened. */
  readonly fd: number | undefined;
  /** Why it was not opened, or not read to the end. */
  readonly error: SystemError | undefined;
  /** There are more entries; reading goes on at the descriptor. */
  readonly more: boolean;
  /** How many of the listing's entries are its own. */
  readonly count: number;
}

/** What several directories hold, one after the other. */
export interface Listing {
  readonly directories: readonly ListedDirectory[];
  /** Three words an entry: inode number, {@link DT} and the length of the name. */
  readonly entries: Uint32Array;
  /** The names of all entries in that order, each with a NUL behind it. */
  readonly names: Buffer;
  /** From devices, where the kernel counts that: 0 when all was cached. */
  readonly bytesRead: Bytes;
}

export const ENTRY_WORDS = 3;

/**
 * Opens directories and reads them, each up to about `capacity` bytes of entries; an empty name reads on at the
 * descriptor itself. The caller closes what was opened.
 *
 * @param resolve RESOLVE_*
 * @param deviceFd the filesystem's block device, through which the directories are read ahead; without it the kernel
 *   reads them block by block
 */
export async function readDirectories(
  { fds, offsets, names }: NameList,
  capacity: Bytes,
  resolve: number,
  deviceFd: number | undefined,
): Promise<Listing> {
  const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
  const device = deviceFd ?? -1;
  const answer = await native().readDirectories(fds, offsets, names, flags, resolve, capacity, device);
  const directories: ListedDirectory[] = [];
  for (let at = 0; at < answer.directories.length; at += 3) {
    const [fd, state, count] = answer.directories.subarray(at, at + 3);
    directories.push({
      fd: fd < 0 ? undefined : fd,
      error:
        fd < 0
          ? new SystemError(fd, 'openat2')
          : state < 0
            ? new SystemError(state, 'getdents64')
            : undefined,
      more: state > 0,
      count,
    });
  }
  const { entries, bytesRead } = answer;
  return { directories, entries, names: answer.names, bytesRead: bytes(bytesRead) };
}

/** Closes descriptors that were only read from. */
export async function closeAll(fds: readonly number[]): Promise<void> {
  if (fds.length > 0) await native().closeAll(Int32Array.from(fds));
}
