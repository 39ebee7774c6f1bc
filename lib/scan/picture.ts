import type { FileLayout } from '../ext4/files.ts';
import { fsmap, type FsmapTable } from '../kernel/fsmap.ts';
import { closeFd, filesystemUuid } from '../kernel/handle.ts';
import type { ExtentTable } from '../layout/extents.ts';
import { countFragments, fragmentLengths, idealFragments } from '../layout/fragments.ts';
import { SizeClasses } from '../layout/sizeClasses.ts';
import { blocks } from '../layout/units.ts';
import { FreeMap } from '../place/freeMap.ts';
import { named, type ScanningEvent } from '../report/events.ts';
import { printable, printableText } from '../report/names.ts';
import { CellGrid, totalsOf, type BlockRange } from '../report/picture/cells.ts';
import { encodeCells, encodeRanges } from '../report/picture/codec.ts';
import { Painter } from '../report/picture/painter.ts';
import {
  isFragmented,
  PICTURE_FORMAT,
  PICTURE_VERSION,
  type FileSums,
  type Picture,
  type PicturedFile,
} from '../report/picture/picture.ts';
import { Greatest } from '../report/worst.ts';
import { ExtentBuffer } from './extentBuffer.ts';
import type { Reason } from './reasons.ts';
import { generationOf, Scanner, type ScannedFile } from './scan.ts';
import { Tally } from './session.ts';
import { settle } from './space.ts';
import { TableScan } from './tableScan.ts';
import { openWhole, type Target } from './targets.ts';

/** Extents of all named files together. More would make a page slow that is to show them. */
const MOST_EXTENTS = 300_000;

export interface PictureOptions {
  /** How many of the most fragmented files are named. */
  readonly top: number;
  /** Files that are named as well, however they lie. */
  readonly also?: readonly Pick<PicturedFile, 'inode' | 'generation'>[];
  readonly signal?: AbortSignal | undefined;
}

/** A picture, and what its named files are called, by inode. */
export interface Taken {
  readonly picture: Picture;
  readonly paths: ReadonlyMap<number, Buffer>;
}

/** A file that is to be named. */
type Identified = Pick<FileLayout, 'inode' | 'generation'>;

/**
 * Takes a picture of the filesystem that a target is on, or of where it lies when it is a file. It changes nothing, but
 * has the journal committed: what is being freed is free then. Without privilege it is not known whose blocks are.
 *
 * @returns undefined when the signal was aborted, and a reason when the file has no layout
 * @throws a system error when the filesystem or its device cannot be read
 */
export async function* takePicture(
  target: Target,
  options: PictureOptions,
): AsyncGenerator<ScanningEvent, Taken | Reason | undefined, void> {
  await settle(target);
  if (target.kind === 'file') return pictureOfFile(target);
  const whole = await openWhole(target);
  if (typeof whole === 'string') return pictureOfFreeSpace(target, whole);
  try {
    const tables = await TableScan.openWhole(whole, new Scanner({}, false), options);
    if (typeof tables === 'string') return await pictureOfFreeSpace(whole, tables);
    try {
      return yield* new WholePicture(whole, tables, options).take();
    } finally {
      await tables.close();
    }
  } finally {
    if (whole.dirFd !== target.dirFd) await closeFd(whole.dirFd);
  }
}

/** What the filesystem itself shows to everybody. */
class Ground {
  readonly grid: CellGrid;
  readonly painter: Painter;
  readonly #target: Target;
  readonly #map: FreeMap;

  static async read(target: Target): Promise<Ground> {
    return new Ground(target, await fsmap(target.dirFd, target.filesystem.blockSize));
  }

  private constructor(target: Target, records: FsmapTable) {
    const { geometry } = target.filesystem;
    this.#target = target;
    this.#map = FreeMap.ofColumns(records.free(), geometry);
    this.grid = new CellGrid(Math.max(1, records.end));
    this.painter = new Painter(this.grid);
    for (const { start, length, use } of records) {
      if (use !== 'data') this.painter.paint(use, { start, end: start + length });
    }
    // With blocks of 1 KiB the first is the boot block's, of which the filesystem does not tell.
    if (geometry.firstDataBlock > 0)
      this.painter.paint('metadata', { start: 0, end: geometry.firstDataBlock });
  }

  async picture(of: Pick<Picture, 'kind' | 'unknown' | 'files' | 'named'>): Promise<Picture> {
    const { argument, filesystem, dirFd } = this.#target;
    const { blockSize, device, mountPoint } = filesystem;
    const sizes = new SizeClasses();
    for (const length of this.#map.length) sizes.add(length * blockSize);
    const counts = this.painter.finish();
    return {
      format: PICTURE_FORMAT,
      version: PICTURE_VERSION,
      time: Math.floor(Date.now() / 1000),
      name: printable(named(argument)),
      device: printableText(device),
      mountPoint: printable(named(mountPoint)),
      uuid: (await filesystemUuid(dirFd)) ?? null,
      blockSize,
      blocks: this.grid.blocks,
      cells: encodeCells(this.grid, counts),
      totals: totalsOf(counts),
      free: { runs: this.#map.count, longest: this.#map.longestRun, sizes: sizes.classes },
      ...of,
    };
  }
}

async function pictureOfFreeSpace(target: Target, unknown: string): Promise<Taken> {
  const ground = await Ground.read(target);
  const about = { kind: 'filesystem', unknown: printableText(unknown), files: null, named: [] } as const;
  return { picture: await ground.picture(about), paths: new Map() };
}

async function pictureOfFile(target: Target): Promise<Taken | Reason> {
  const ground = await Ground.read(target);
  const item = await firstOf(new Scanner({}, false).scan(target));
  if (item.kind === 'failed') throw item.error;
  if (item.kind === 'skip') return item.reason;
  const generation = (await generationOf(item)) ?? 0;
  const file = pictureFile(item, printable(named(target.argument)), generation, MOST_EXTENTS);
  const sums = new SumsOfFiles(target);
  sums.add(file);
  for (const length of fragmentLengths(item.extents)) sums.addFragment(length);
  for (const range of rangesOf(item.extents)) {
    ground.painter.paint(isFragmented(file) ? 'fragmented' : 'contiguous', range);
  }
  const picture = await ground.picture({ kind: 'file', unknown: null, files: sums.sums, named: [file] });
  return { picture, paths: new Map([[file.inode, target.argument]]) };
}

async function firstOf<T>(items: AsyncIterable<T>): Promise<T> {
  for await (const item of items) return item;
  throw new Error('there is none');
}

/** Extents as stretches of the device, those that lie end to end as one. */
function* rangesOf({ count, physical, length }: ExtentTable): Iterable<BlockRange> {
  for (let i = 0; i < count;) {
    const start = physical[i];
    let end = start + length[i++];
    while (i < count && physical[i] === end) end += length[i++];
    yield { start, end };
  }
}

function pictureFile(
  { extents, inode, size, target }: ScannedFile,
  name: string,
  generation: number,
  most: number,
): PicturedFile {
  const ranges = [...rangesOf(extents)];
  return {
    name,
    inode,
    generation,
    size,
    blocks: extents.blocks,
    fragments: countFragments(extents),
    idealFragments: idealFragments(extents.blocks, target.filesystem.longestRun),
    extents: encodeRanges(ranges.slice(0, most)),
    extentsLeftOut: Math.max(0, ranges.length - most),
  };
}

/** What files come to. */
class SumsOfFiles {
  readonly #sizes = new SizeClasses();
  readonly #blockSize: number;
  readonly #sum = { count: 0, fragmented: 0, fragments: 0, idealFragments: 0 };

  constructor({ filesystem }: Target) {
    this.#blockSize = filesystem.blockSize;
  }

  add(file: Pick<PicturedFile, 'fragments' | 'idealFragments'>): void {
    this.#sum.count++;
    if (isFragmented(file)) this.#sum.fragmented++;
    this.#sum.fragments += file.fragments;
    this.#sum.idealFragments += file.idealFragments;
  }

  addFragment(mapped: number): void {
    this.#sizes.add(mapped * this.#blockSize);
  }

  get sums(): FileSums {
    return { ...this.#sum, sizes: this.#sizes.classes };
  }
}

/** A picture of a whole filesystem whose inode tables can be read. */
class WholePicture {
  readonly #target: Target;
  readonly #tables: TableScan;
  readonly #options: PictureOptions;
  readonly #sums: SumsOfFiles;
  readonly #worst: Greatest<Identified & { readonly excess: number }>;
  readonly #paths = new Map<number, Buffer>();

  constructor(target: Target, tables: TableScan, options: PictureOptions) {
    this.#target = target;
    this.#tables = tables;
    this.#options = options;
    this.#sums = new SumsOfFiles(target);
    this.#worst = new Greatest(options.top, ({ excess }) => excess);
  }

  async *take(): AsyncGenerator<ScanningEvent, Taken | undefined, void> {
    const ground = await Ground.read(this.#target);
    yield* this.#paintFiles(ground.painter);
    const named = this.#options.signal?.aborted ? [] : await this.#nameFiles();
    if (this.#options.signal?.aborted) return undefined;
    const files = this.#sums.sums;
    return {
      picture: await ground.picture({ kind: 'filesystem', unknown: null, files, named }),
      paths: this.#paths,
    };
  }

  async *#paintFiles(painter: Painter): AsyncGenerator<ScanningEvent, void, void> {
    const { longestRun } = this.#target.filesystem;
    const tally = new Tally();
    const buffer = new ExtentBuffer();
    let fragmentedFiles = 0;
    for await (const { files, done, total } of this.#tables.unconfirmed(buffer.add)) {
      const kinds = new Map<number, 'contiguous' | 'fragmented'>();
      for (let row = 0; row < files.count; row++) {
        const [inode, fragments] = [files.inode[row], files.fragments[row]];
        const layout = { fragments, idealFragments: idealFragments(blocks(files.blocks[row]), longestRun) };
        this.#sums.add(layout);
        kinds.set(inode, isFragmented(layout) ? 'fragmented' : 'contiguous');
        if (!isFragmented(layout)) continue;
        fragmentedFiles++;
        const excess = layout.fragments - layout.idealFragments;
        this.#worst.add({ inode, generation: files.generation[row], excess });
      }
      // A tree that does not hold together is nobody's here.
      buffer.drain({
        wants: (inode) => kinds.has(inode),
        extent: (inode, start, length) => painter.paint(kinds.get(inode)!, { start, end: start + length }),
        fragment: (_, mapped) => this.#sums.addFragment(mapped),
      });
      tally.files += files.count;
      const { seconds } = tally;
      yield {
        type: 'scanning',
        inodes: done,
        inodesTotal: total,
        files: tally.files,
        fragmentedFiles,
        seconds,
      };
    }
  }

  /** The worst files and those asked for, as the kernel shows them now. */
  async #nameFiles(): Promise<PicturedFile[]> {
    const wanted = new Map<number, number>();
    for (const { inode, generation } of this.#worst.items) wanted.set(inode, generation);
    for (const { inode, generation } of this.#options.also ?? []) wanted.set(inode, generation);
    if (wanted.size === 0) return [];
    const names = await this.#tables.names((inode) => wanted.has(inode));
    const files: PicturedFile[] = [];
    let left = MOST_EXTENTS;
    const list = Array.from(wanted, ([inode, generation]) => ({ inode, generation }));
    for await (const { inode, item } of this.#tables.inspect(list)) {
      // What is gone by now, or may not be moved, is none of the files that somebody wants to see.
      if (item.kind !== 'file') continue;
      const name = printable(named(names.relativePath(inode)));
      const file = pictureFile(item, name, wanted.get(inode)!, left);
      this.#paths.set(inode, names.pathOf(this.#target, inode));
      left = Math.max(0, left - item.extents.count);
      files.push(file);
    }
    return files.sort((a, b) => b.fragments - b.idealFragments - (a.fragments - a.idealFragments));
  }
}
