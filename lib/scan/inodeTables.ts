import type { DirectoryColumns } from '../ext4/directories.ts';
import { FileColumns } from '../ext4/files.ts';
import {
  initializedInodes,
  noInodes,
  readInodes,
  SMALL_GAP,
  tableReads,
  type ExtentVisitor,
  type InodeCounts,
  type InodeStretch,
} from '../ext4/tables.ts';
import { countLeaf, DeepFiles, listChildren, NodeList } from '../ext4/trees.ts';
import type { Superblock } from '../ext4/superblock.ts';
import type { CountedRun } from '../layout/runCounter.ts';
import type { DeviceRange, Ext4Device } from './device.ts';

/** What a stretch of the scan found. The columns are the receiver's to keep. */
export interface InodeBatch {
  /** Regular files with extents, in no order that means anything. */
  readonly files: FileColumns;
  /**
   * Files whose extent tree does not hold together: damaged, or changed while it was read; and those without one, mapped
   * by indirect blocks. They have no blocks and no fragments here; FIEMAP will tell.
   */
  readonly doubtful: FileColumns;
  /** Since the scan's start. */
  readonly counts: Readonly<InodeCounts>;
  /** Inodes gone over since the scan's start, of `total`. Files with deep trees among them may still be to come. */
  readonly done: number;
  readonly total: number;
}

export interface InodeScanOptions {
  /** Gets all directories, and where their entries lie. */
  readonly directories?: DirectoryColumns | undefined;
  /** Is told of every extent of the regular files, those of files that turn out damaged among them. */
  readonly extents?: ExtentVisitor | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes of one read of the tables: some thousand inodes, in a time in which nobody gets impatient. */
const TABLE_READ = 2 * 1024 * 1024;
/** Tree blocks are read in batches of so many, in the order in which they lie on the device. */
const NODE_BATCH = 16_384;
/** The same for blocks that point on: each may bring hundreds more. */
const INDEX_BATCH = 256;
const NODE_READ = 512 * 1024;

/**
 * Finds every regular file of a filesystem from its inode tables, without opening any and without a name: what is
 * on the device, in device order. Ends early and quietly when the signal is aborted.
 *
 * The answer is nearly current for a mounted filesystem, and may be stale or torn (see {@link Ext4Device}): good to
 * choose candidates, which are then opened by handle and confirmed by FIEMAP and statx. A file that is unlinked and
 * still open is not found, nor is what delayed allocation has not placed yet.
 *
 * @throws a system error when the device cannot be read
 */
export async function* scanInodeTables(
  device: Ext4Device,
  { signal, directories, extents }: InodeScanOptions = {},
): AsyncGenerator<InodeBatch, void, void> {
  const { superblock, groups } = device;
  const counts = noInodes();
  const trees = new TreeReader(device, signal, extents);
  let total = 0;
  for (let group = 0; group < groups.count; group++) total += initializedInodes(superblock, groups, group);
  let done = 0;
  let deep = new DeepFiles();
  const reads = tableReads(superblock, groups, TABLE_READ);
  for await (const { range, bytes } of device.readAll(reads, TABLE_READ)) {
    if (signal?.aborted) return;
    const found = noFinds();
    const sink = { ...found, directories, extents, deep, counts };
    for (const stretch of range.inodes) {
      const count = wholeInodes(stretch, bytes, superblock);
      readInodes(bytes, stretch.offset, stretch.firstInode, count, superblock, sink);
      done += stretch.count;
    }
    if (deep.pending >= NODE_BATCH) {
      await trees.finish(deep, found.files, found.doubtful);
      deep = new DeepFiles();
      if (signal?.aborted) return;
    }
    yield { ...found, counts: { ...counts }, done, total };
  }
  const rest = noFinds();
  await trees.finish(deep, rest.files, rest.doubtful);
  if (!signal?.aborted) yield { ...rest, counts: { ...counts }, done, total };
}

/** {@link scanInodeTables} for who wants only what is gathered on the way. */
export async function readAllTables(device: Ext4Device, options: InodeScanOptions): Promise<void> {
  const batches = scanInodeTables(device, options);
  while (!(await batches.next()).done);
}

const noFinds = () => ({ files: new FileColumns(0), doubtful: new FileColumns(0) });

/** Inodes of a stretch that were read: a device that shrank under the scan answers fewer. */
function wholeInodes({ offset, count }: InodeStretch, bytes: DataView, { inodeSize }: Superblock): number {
  return Math.max(0, Math.min(count, Math.floor((bytes.byteLength - offset) / inodeSize)));
}

/** Reads the blocks of extent trees. */
class TreeReader {
  readonly #device: Ext4Device;
  readonly #signal: AbortSignal | undefined;
  readonly #extents: ExtentVisitor | undefined;
  /**
   * How many more blocks may be read. Every node has one owner, so more of them than blocks are trees that share
   * nodes, and those could keep us busy for ever.
   */
  #budget: number;

  constructor(device: Ext4Device, signal: AbortSignal | undefined, extents: ExtentVisitor | undefined) {
    this.#device = device;
    this.#signal = signal;
    this.#extents = extents;
    this.#budget = device.superblock.blocksCount;
  }

  /** Reads what is missing of the files' trees and hands all of them over. */
  async finish(deep: DeepFiles, sound: FileColumns, doubtful: FileColumns): Promise<void> {
    for (const [depth, nodes] of deep.below.entries()) await this.#read(nodes, depth - 1, deep);
    deep.finish(sound, doubtful);
  }

  /** Goes over nodes that lie `level` above the leaves: batch by batch, so that no tree is ever held whole. */
  async #read(nodes: NodeList, level: number, deep: DeepFiles): Promise<void> {
    const size = level === 0 ? NODE_BATCH : INDEX_BATCH;
    for (let from = 0; from < nodes.count && !this.#signal?.aborted; from += size) {
      const to = Math.min(from + size, nodes.count);
      if (level === 0) await this.#leaves(nodes, from, to, deep);
      else await this.#read(await this.#children(nodes, from, to, level, deep), level - 1, deep);
    }
  }

  async #leaves(nodes: NodeList, from: number, to: number, deep: DeepFiles): Promise<void> {
    const { superblock } = this.#device;
    const leaves = await this.#inDeviceOrder<CountedRun>(nodes, from, to, (bytes, at, row) =>
      countLeaf(bytes, at, nodes, row, superblock, this.#visitorFor(deep.files.inode[nodes.file[row]])),
    );
    leaves.forEach((leaf, i) => deep.addLeaf(nodes.file[from + i], leaf));
  }

  #visitorFor(inode: number) {
    const extents = this.#extents;
    return (
      extents &&
      ((logical: number, physical: number, length: number) => extents(inode, logical, physical, length))
    );
  }

  async #children(nodes: NodeList, from: number, to: number, level: number, deep: DeepFiles) {
    const { superblock } = this.#device;
    const lists = await this.#inDeviceOrder<NodeList>(nodes, from, to, (bytes, at, row) =>
      listChildren(bytes, at, nodes, row, level, superblock),
    );
    const all = new NodeList();
    lists.forEach((list, i) => {
      if (list === undefined) return deep.breakFile(nodes.file[from + i]);
      for (let row = 0; row < list.count; row++) all.push(list.block[row], list.logical[row], list.file[row]);
    });
    return all;
  }

  /** Reads rows of a list in the order of their blocks, and answers what `parse` made of each in the list's. */
  async #inDeviceOrder<T>(
    nodes: NodeList,
    from: number,
    to: number,
    parse: (bytes: DataView, at: number, row: number) => T | undefined,
  ): Promise<(T | undefined)[]> {
    const { blockSize } = this.#device.superblock;
    const answers = new Array<T | undefined>(to - from).fill(undefined);
    if (to - from > this.#budget) return answers;
    this.#budget -= to - from;
    for await (const { range, bytes } of this.#device.readAll(
      nodeReads(nodes, from, to, blockSize),
      NODE_READ,
    )) {
      if (this.#signal?.aborted) break;
      for (const row of range.rows) {
        const at = nodes.block[row] * blockSize - range.position;
        if (at + blockSize <= bytes.byteLength) answers[row - from] = parse(bytes, at, row);
      }
    }
    return answers;
  }
}

interface NodeRead extends DeviceRange {
  readonly rows: readonly number[];
}

/** Reads that cover the blocks of rows `from` to `to`, in device order, near ones together. */
function* nodeReads(
  { block }: NodeList,
  from: number,
  to: number,
  blockSize: number,
): Generator<NodeRead, void, void> {
  const rows = Uint32Array.from({ length: to - from }, (_, i) => from + i).sort(
    (a, b) => block[a] - block[b],
  );
  let read = { position: 0, length: 0, rows: [] as number[] };
  for (const row of rows) {
    const position = block[row] * blockSize;
    const length = position + blockSize - read.position;
    if (length > NODE_READ || length - read.length > SMALL_GAP + blockSize) {
      if (read.rows.length > 0) yield read;
      read = { position, length: blockSize, rows: [row] };
    } else {
      read.rows.push(row);
      read.length = length;
    }
  }
  if (read.rows.length > 0) yield read;
}
