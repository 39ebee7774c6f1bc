import { FileColumns } from '../ext4/files.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { countFragments, fragmentLengths, idealFragments } from '../layout/fragments.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import { e4defragScore } from '../layout/score.ts';
import { SizeClasses } from '../layout/sizeClasses.ts';
import { blocks, bytes, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import { FreeMap } from '../place/freeMap.ts';
import { named, type CheckEvent, type FileEvent } from '../report/events.ts';
import type { Filesystem } from './filesystem.ts';
import { freeSpaceOf, type FreeSpace } from './freeSpace.ts';
import { nameless, Scanner, type ScannedFile } from './scan.ts';
import {
  deviceProfileFor,
  eachTarget,
  listOf,
  Tally,
  type CommonOptions,
  type TargetPath,
} from './session.ts';
import type { FileNames, TableScan } from './tableScan.ts';
import { join, type Target } from './targets.ts';

/** What {@link check} can be told. */
export interface CheckOptions extends CommonOptions {
  /**
   * Of a whole filesystem whose inode tables are read, only so many of the files that gain most have an event each; the
   * summary counts all. To find the names of a few is quicker. Without it every fragmented file has one.
   */
  readonly top?: number | undefined;
}

/**
 * Looks at the layout of every file of the targets and writes nothing. Each file is one event; of a whole filesystem,
 * whose inode tables are read at once, only each fragmented file. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a target or a file is an event
 */
export async function* check(
  targets: Iterable<TargetPath>,
  options: CheckOptions = {},
): AsyncGenerator<CheckEvent, void, void> {
  const tally = new Tally();
  const paths = listOf(targets);
  const scanner = new Scanner(options, paths.length > 1);
  const totals = new Totals();
  yield* eachTarget(paths, options, tally, scanner, async function* (target, tables, walkReason) {
    const device = deviceProfileFor(target, options);
    if (tables !== undefined) {
      yield* checkTables(target, tables, device, tally, totals, options);
      return;
    }
    for await (const item of scanner.scan(target)) {
      if (item.kind === 'skip') yield tally.skip(item.path, item.reason);
      else if (item.kind === 'failed') yield tally.fail(item.path, item.error);
      else {
        tally.files++;
        yield totals.add(item, device);
      }
    }
    // The filesystem's own map shows whoever asks what is free.
    if (walkReason !== undefined)
      yield* freeSpaceEvent(target, tally, () => freeSpaceByFsmap(target, options));
  });
  yield {
    type: 'summary',
    command: 'check',
    files: tally.files,
    ...totals.sums,
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted: options.signal?.aborted ?? false,
    seconds: tally.seconds,
  };
}

/** What all files come to. */
class Totals {
  fragmentedFiles = 0;
  readonly #sizes = new SizeClasses();
  #fragments = 0;
  #idealFragments = 0;
  #blocks = 0;
  #bytes = 0;
  #readSeconds = 0;
  #idealReadSeconds = 0;

  add(file: ScannedFile, device: DeviceProfile): FileEvent {
    const { extents, target } = file;
    const { filesystem } = target;
    const { inode, size } = file;
    const [mapped, fragments] = [extents.blocks, countFragments(extents)];
    const layout = { inode, size, blocks: mapped, fragments, extents: extents.count };
    const event = describe(file.path, layout, filesystem, device);
    this.#add(event, toBytes(mapped, filesystem.blockSize));
    // Most files are in one piece.
    if (fragments === 1) this.#sizes.add(toBytes(mapped, filesystem.blockSize));
    else for (const length of fragmentLengths(extents)) this.#sizes.add(length * filesystem.blockSize);
    return event;
  }

  /** Files in one piece each, of which nobody wants to know more. */
  addContiguous(files: FileColumns, { blockSize, longestRun }: Filesystem, device: DeviceProfile): void {
    for (let row = 0; row < files.count; row++) {
      const mapped = blocks(files.blocks[row]);
      const size = toBytes(mapped, blockSize);
      const seconds = readSeconds(size, 1, device);
      this.#add(
        {
          blocks: mapped,
          fragments: 1,
          idealFragments: idealFragments(mapped, longestRun),
          readSeconds: seconds,
          idealReadSeconds: seconds,
        },
        size,
      );
      this.#sizes.add(size);
    }
  }

  #add(
    file: Pick<FileEvent, 'blocks' | 'fragments' | 'idealFragments' | 'readSeconds' | 'idealReadSeconds'>,
    size: Bytes,
  ): void {
    if (file.fragments > file.idealFragments) this.fragmentedFiles++;
    this.#fragments += file.fragments;
    this.#idealFragments += file.idealFragments;
    this.#blocks += file.blocks;
    this.#bytes += size;
    this.#readSeconds += file.readSeconds;
    this.#idealReadSeconds += file.idealReadSeconds;
  }

  get sums() {
    return {
      fragmentedFiles: this.fragmentedFiles,
      fragments: this.#fragments,
      idealFragments: this.#idealFragments,
      bytes: this.#bytes,
      score: e4defragScore(this.#fragments, this.#idealFragments, this.#blocks),
      readSeconds: this.#readSeconds,
      idealReadSeconds: this.#idealReadSeconds,
      fragmentSizes: this.#sizes.classes,
    };
  }
}

async function* checkTables(
  target: Target,
  tables: TableScan,
  device: DeviceProfile,
  tally: Tally,
  totals: Totals,
  { top = Infinity }: CheckOptions,
): AsyncGenerator<CheckEvent, void, void> {
  const { filesystem } = target;
  const fragmented = new FragmentedFiles();
  for await (const { contiguous, confirmed, failed, done, total } of tables.batches()) {
    tally.files += contiguous.count + confirmed.length;
    totals.addContiguous(contiguous, filesystem, device);
    for (const file of confirmed) {
      const event = totals.add(file, device);
      if (event.fragments > event.idealFragments) fragmented.add(file, event);
    }
    for (const { path, error } of failed) yield tally.fail(path, error);
    yield {
      type: 'scanning',
      inodes: done,
      inodesTotal: total,
      files: tally.files,
      fragmentedFiles: totals.fragmentedFiles,
      seconds: tally.seconds,
    };
  }
  for (const [reason, count] of tables.skipped()) tally.leave(reason, count);
  yield* freeSpaceEvent(target, tally, () => tables.freeSpace());
  const worst = fragmented.worst(top);
  let names: FileNames | undefined;
  try {
    names = await tables.namesOf(worst.map(({ inode }) => inode));
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    yield tally.fail(target.argument, error);
  }
  for (const layout of worst) {
    const path = names?.pathOf(target, layout.inode) ?? join(target.dirPath, nameless(layout.inode));
    yield describe(path, layout, filesystem, device);
  }
}

/** A block that cannot be read costs what it holds, and not what is known already. */
async function* freeSpaceEvent(
  target: Target,
  tally: Tally,
  read: () => Promise<FreeSpace | undefined>,
): AsyncGenerator<CheckEvent, void, void> {
  try {
    const free = await read();
    if (free !== undefined) yield { type: 'freeSpace', ...named(target.argument), ...free };
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    yield tally.fail(target.argument, error);
  }
}

async function freeSpaceByFsmap({ dirFd, filesystem }: Target, { signal }: CheckOptions) {
  if (signal?.aborted) return undefined;
  const { blockSize, geometry } = filesystem;
  return freeSpaceOf(await FreeMap.read(dirFd, blockSize, geometry), blockSize);
}

/** The layouts of many files, as columns, until their names are known. */
class FragmentedFiles {
  readonly #files = new FileColumns(0);
  readonly #extents: number[] = [];
  readonly #saved: number[] = [];

  add(file: ScannedFile, event: FileEvent): void {
    const row = this.#files.push(file.inode, 0, file.size, 0, 0, 1);
    this.#files.blocks[row] = event.blocks;
    this.#files.fragments[row] = event.fragments;
    this.#extents.push(event.extents);
    this.#saved.push(event.readSeconds - event.idealReadSeconds);
  }

  worst(most: number): Layout[] {
    const order = Uint32Array.from(this.#saved, (_, row) => row);
    order.sort((a, b) => this.#saved[b] - this.#saved[a] || a - b);
    return [...order.subarray(0, most)].map((row) => ({
      inode: this.#files.inode[row],
      size: bytes(this.#files.size[row]),
      blocks: blocks(this.#files.blocks[row]),
      fragments: this.#files.fragments[row],
      extents: this.#extents[row],
    }));
  }
}

interface Layout {
  readonly inode: number;
  readonly size: Bytes;
  readonly blocks: Blocks;
  readonly fragments: number;
  readonly extents: number;
}

function describe(
  path: Buffer,
  { inode, size, blocks: mapped, fragments, extents }: Layout,
  { blockSize, longestRun }: Filesystem,
  device: DeviceProfile,
): FileEvent {
  const ideal = idealFragments(mapped, longestRun);
  const read = toBytes(mapped, blockSize);
  const { path: text, pathBytes } = named(path);
  const event: FileEvent = {
    type: 'file',
    path: text,
    inode,
    size,
    blocks: mapped,
    extents,
    fragments,
    idealFragments: ideal,
    score: e4defragScore(fragments, ideal, mapped),
    readSeconds: readSeconds(read, fragments, device),
    idealReadSeconds: readSeconds(read, ideal, device),
  };
  // Spreading costs more than all the rest here, and is hardly ever needed.
  return pathBytes === undefined ? event : { ...event, pathBytes };
}
