import { SizeClasses } from '../../lib/layout/sizeClasses.ts';
import { CellGrid, totalsOf, type BlockRange, type Kind } from '../../lib/report/picture/cells.ts';
import { encodeCells, encodeRanges } from '../../lib/report/picture/codec.ts';
import { Painter } from '../../lib/report/picture/painter.ts';
import { PICTURE_FORMAT, PICTURE_VERSION, type Picture } from '../../lib/report/picture/picture.ts';

const BLOCK = 4096;

export interface FileSketch {
  readonly name: string;
  readonly inode: number;
  readonly ranges: readonly BlockRange[];
}

export interface Sketch {
  /** Of the device. */
  readonly blocks: number;
  readonly painted?: readonly (BlockRange & { readonly kind: Exclude<Kind, 'other'> })[];
  /** Each range is a fragment. */
  readonly files?: readonly FileSketch[];
  readonly unknown?: string;
}

/** A picture of what was never on a disk. */
export function sketch({ blocks, painted = [], files = [], unknown }: Sketch): Picture {
  const grid = new CellGrid(blocks);
  const painter = new Painter(grid);
  const [free, fragments] = [new SizeClasses(), new SizeClasses()];
  let [runs, longest] = [0, 0];
  for (const { kind, ...range } of painted) {
    painter.paint(kind, range);
    if (kind !== 'free') continue;
    const length = range.end - range.start;
    free.add(length * BLOCK);
    runs++;
    longest = Math.max(longest, length);
  }
  for (const { ranges } of files) {
    for (const range of ranges) {
      painter.paint(ranges.length > 1 ? 'fragmented' : 'contiguous', range);
      fragments.add((range.end - range.start) * BLOCK);
    }
  }
  const counts = painter.finish();
  const all = files.reduce((sum, { ranges }) => sum + ranges.length, 0);
  return {
    format: PICTURE_FORMAT,
    version: PICTURE_VERSION,
    time: 1_790_000_000,
    kind: 'filesystem',
    name: '/srv',
    device: '/dev/sdz1',
    mountPoint: '/srv',
    uuid: null,
    blockSize: BLOCK,
    blocks,
    unknown: unknown ?? null,
    cells: encodeCells(grid, counts),
    totals: totalsOf(counts),
    free: { runs, longest, sizes: free.classes },
    files:
      unknown === undefined
        ? {
            count: files.length,
            fragmented: files.filter(({ ranges }) => ranges.length > 1).length,
            fragments: all,
            idealFragments: files.length,
            sizes: fragments.classes,
          }
        : null,
    named: files.map(({ name, inode, ranges }) => {
      const mapped = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
      return {
        name,
        inode,
        generation: 7,
        size: mapped * BLOCK,
        blocks: mapped,
        fragments: ranges.length,
        idealFragments: 1,
        extents: encodeRanges(ranges),
        extentsLeftOut: 0,
      };
    }),
  };
}
