import { isSystemFailure } from '../kernel/errors.ts';
import { toBytes, blocks, bytes } from '../layout/units.ts';
import { named, type MapEvent, type MappedFileEvent, type MappingEvent } from '../report/events.ts';
import { CellGrid, coarser, KINDS } from '../report/picture/cells.ts';
import { decodeCells, decodeRanges } from '../report/picture/codec.ts';
import { mismatch, type Picture } from '../report/picture/picture.ts';
import { DEFAULT_TOP, PAGE_TOP } from '../report/worst.ts';
import { takePicture, type Taken } from './picture.ts';
import { checkReplaceable, readPicture, UnfitFile, writePage, writePicture } from './pictureFiles.ts';
import { eachOpened, listOf, Tally, type TargetPath } from './session.ts';
import type { Target } from './targets.ts';

/** Of an event: enough for any terminal. */
const EVENT_CELLS = 4096;

/** What {@link map} can be told. */
export interface MapOptions {
  /** How many of the most fragmented files are named (10, and 100 with `html` or `output`). */
  readonly top?: number | undefined;
  /** Where to write a page that shows the map. With this and the next two there can be one target only. */
  readonly html?: string | undefined;
  /** Where to write the map for `compare`. */
  readonly output?: string | undefined;
  /** A file that an earlier run has written by `output`, for the page to show both. */
  readonly compare?: string | undefined;
  /** Ends the run; what was asked for is not written then. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Shows where everything lies on the filesystem of each target, or where it lies that is a file. It changes nothing, but
 * has the journal committed. Without privilege it is not known whose blocks are. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list, RangeError for several targets and one file to write them into; whatever
 *   is wrong with a target or a file is an event
 */
export async function* map(
  targets: Iterable<TargetPath>,
  options: MapOptions = {},
): AsyncGenerator<MappingEvent, void, void> {
  const { html, output, compare, signal } = options;
  let paths = listOf(targets);
  if (paths.length > 1 && (html ?? output ?? compare) !== undefined) {
    throw new RangeError('a page, and a file to compare with, is of one target');
  }
  const tally = new Tally();
  let maps = 0;
  let before: Picture | undefined;
  // What is wrong with one of these files shows before a long scan.
  const checks: [path: string | undefined, check: (path: string) => Promise<void>][] = [
    [html, checkReplaceable],
    [output, checkReplaceable],
    [compare, async (path) => void (before = await readPicture(path))],
  ];
  for (const [path, check] of checks) {
    if (path === undefined) continue;
    try {
      await check(path);
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      yield tally.fail(Buffer.from(path), error);
      paths = [];
    }
  }
  yield* eachOpened(paths, signal, tally, async function* (target) {
    const top = options.top ?? ((html ?? output) === undefined ? DEFAULT_TOP : PAGE_TOP);
    const taken = yield* takePicture(target, { top, also: before?.named ?? [], signal });
    if (taken === undefined) return;
    if (typeof taken === 'string') {
      yield tally.skip(target.argument, taken);
      return;
    }
    maps++;
    yield* events(target, taken, options.top ?? DEFAULT_TOP);
    const write = async function* (path: string, writing: () => ReturnType<typeof writePicture>) {
      try {
        yield await writing();
      } catch (error) {
        if (!isSystemFailure(error)) throw error;
        yield tally.fail(Buffer.from(path), error);
      }
    };
    if (output !== undefined) yield* write(output, () => writePicture(output, taken.picture));
    if (html === undefined) return;
    const why = before && mismatch(before, taken.picture);
    if (why !== undefined) yield tally.fail(Buffer.from(compare!), new UnfitFile(why));
    else yield* write(html, () => writePage(html, taken.picture, before ?? null));
  });
  yield {
    type: 'summary',
    command: 'map',
    maps,
    skipped: tally.skipped,
    failed: tally.failed,
    unsupported: tally.unsupported,
    interrupted: signal?.aborted ?? false,
    seconds: tally.seconds,
  };
}

/** A picture for everybody who does not look at it as a page. */
function* events(
  target: Target,
  { picture, paths }: Taken,
  top: number,
): Iterable<MapEvent | MappedFileEvent> {
  const { kind, blockSize, blocks: total, unknown, totals, free, files } = picture;
  const { device, mountPoint } = target.filesystem;
  const grid = new CellGrid(total);
  const cells = new CellGrid(total, EVENT_CELLS);
  const counts = coarser(decodeCells(grid, picture.cells), cells.count);
  const columns = Object.fromEntries(KINDS.map((one) => [one, Array.from(counts[one])])) as unknown;
  const inBytes = (count: number) => toBytes(blocks(count), bytes(blockSize));
  yield {
    type: 'map',
    ...named(target.argument),
    kind,
    device,
    mountPoint: mountPoint.toString(),
    blockSize,
    blocks: total,
    unknown,
    blocksPerCell: cells.blocksPerCell,
    cells: columns as MapEvent['cells'],
    totals,
    free: {
      source: 'fsmap',
      bytes: inBytes(totals.free),
      runs: free.runs,
      largestRun: inBytes(free.longest),
      histogram: free.sizes,
    },
    files,
  };
  for (const file of picture.named.slice(0, kind === 'file' ? 1 : top)) {
    const { inode, size, blocks: mapped, fragments, idealFragments } = file;
    yield {
      type: 'mappedFile',
      ...named(paths.get(inode)!),
      inode,
      size,
      blocks: mapped,
      fragments,
      idealFragments,
      extents: decodeRanges(file.extents, total).map(({ start, end }) => [start, end - start] as const),
    };
  }
}
