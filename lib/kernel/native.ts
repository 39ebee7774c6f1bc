import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/**
 * The addon's functions (native/syscalls.h, walk.h), each off the event loop, most of them one system call. A number is the call's
 * value or -errno; arrays and buffers come back only on success. Nobody but lib/kernel calls these.
 */
export interface Native {
  openat2(
    dirFd: number,
    path: Buffer,
    flags: number | bigint,
    mode: number,
    resolve: number,
  ): Promise<number>;
  openByHandle(mountFd: number, inode: number, generation: number, flags: number): Promise<number>;
  getdents(fd: number, capacity: number): Promise<Buffer | number>;
  fiemap(
    fd: number,
    start: number | bigint,
    length: number | bigint,
    flags: number,
    limit: number | bigint,
  ): Promise<BigUint64Array | number>;
  fsmap(
    fd: number,
    device: number | bigint,
    start: number | bigint,
    end: number | bigint,
  ): Promise<BigUint64Array | number>;
  moveExtents(
    fd: number,
    donorFd: number,
    origStart: number,
    donorStart: number,
    blocks: number,
  ): Promise<[number, number]>;
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<number>;
  fadvise(fd: number, offset: number, length: number, advice: number): Promise<number>;
  readahead(fd: number, offset: number, length: number, step: number): Promise<number>;
  syncFileRange(fd: number, offset: number, length: number, flags: number): Promise<number>;
  setSignal(fd: number, signal: number): Promise<number>;
  setLease(fd: number, type: number): Promise<number>;
  getLease(fd: number): Promise<number>;
  getFlags(fd: number): Promise<number>;
  getVersion(fd: number): Promise<number>;
  setFlags(fd: number, flags: number): Promise<number>;
  statfs(fd: number): Promise<BigUint64Array | number>;
  mincore(fd: number, offset: number, length: number): Promise<Buffer | number>;
  readThrough(fd: number, offset: number, length: number): Promise<number>;
  flock(fd: number, operation: number): Promise<number>;
  setIoPriority(thread: number, priority: number): Promise<number>;
  getIoPriority(thread: number): Promise<number>;
  filesystemUuid(fd: number): Promise<Buffer | number>;
  tuneSuperblock(fd: number): Promise<BigUint64Array | number>;
  /** native/walk.h, ReadDirectories. */
  readDirectories(
    fds: Int32Array,
    offsets: Uint32Array,
    names: Buffer,
    flags: number,
    resolve: number,
    capacity: number,
    deviceFd: number,
  ): Promise<{ directories: Int32Array; entries: Uint32Array; names: Buffer; bytesRead: number }>;
  /** native/walk.h, InspectNames. */
  inspectNames(
    fds: Int32Array,
    offsets: Uint32Array,
    names: Buffer,
    flags: number,
    resolve: number,
    statFirst: boolean,
    maxExtents: number,
  ): Promise<{ records: Uint32Array; extents: BigUint64Array }>;
  /** native/walk.h, InspectHandles. */
  inspectHandles(
    mountFd: number,
    inodes: Uint32Array,
    generations: Uint32Array,
    flags: number,
    maxExtents: number,
  ): Promise<{ records: Uint32Array; extents: BigUint64Array }>;
  close(fd: number): Promise<number>;
  closeAll(fds: Int32Array): Promise<number>;
  /** Whether calls made from here on wait to be sent together. */
  gather(on: boolean): void;
  /** Sends the calls that wait, so many a trip to a worker thread. */
  sendGathered(most: number): void;
  mallopt(parameter: number, value: number): number;
  /** Sizes, offsets and request numbers as the compiler that built the addon saw them. */
  layout(): Record<string, number>;
}

let addon: Native | undefined;

/** The addon, loaded at the first call, so that `--help` and `--version` never pay for it. */
export function native(): Native {
  // Two folders up is the package, from lib/kernel as from dist/kernel. Importing the loader would take thrice as long.
  addon ??= (createRequire(import.meta.url)('node-gyp-build') as (folder: string) => unknown)(
    fileURLToPath(new URL('../../', import.meta.url)),
  ) as Native;
  return addon;
}

/** Quick calls a trip: enough that the trip is not felt, few enough that several threads have something to do. */
const TOGETHER = 32;
let waiting = false;

/**
 * Makes a call that hardly takes longer than the way to a worker thread and back. Those that are made before the event
 * loop goes on, for a batch of small files say, share the way; what each answers is its own.
 */
export function quick<T>(call: (addon: Native) => T): T {
  const calls = native();
  calls.gather(true);
  try {
    return call(calls);
  } finally {
    calls.gather(false);
    if (!waiting) {
      waiting = true;
      // Behind everything that is ready to run now.
      process.nextTick(() => {
        waiting = false;
        calls.sendGathered(TOGETHER);
      });
    }
  }
}
