import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocks, bytes } from '../../lib/layout/units.ts';
import type { Run } from '../../lib/place/assign.ts';
import { byStretch, slotFor, windowBlocks, type Site, type Slot } from '../../lib/place/exact.ts';
import { FreeMap, usualGeometry } from '../../lib/place/freeMap.ts';
import { seedOf, wholeSeed } from '../../lib/place/longRun.ts';

const siteAt = (side: 'before' | 'behind', start: number, length: number, logical = 0): Site =>
  ({
    start: blocks(start),
    length: blocks(length),
    [side]: { fd: 3, logical: blocks(logical) },
  }) as unknown as Site;

/** A block size, blocks a page, and a site somewhere on a filesystem of such. */
const placed = fc
  .record({
    blockSize: fc.constantFrom(1024, 2048, 4096),
    side: fc.constantFrom('before' as const, 'behind' as const),
    start: fc.integer({ min: 1, max: 1_000_000 }),
    length: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 100_000 })),
    logical: fc.integer({ min: 0, max: 100_000 }),
    from: fc.integer({ min: 0, max: 1_000_000 }),
  })
  .map(({ blockSize, side, start, length, logical, from }) => ({
    from,
    site: siteAt(side, start, length, logical),
    options: {
      blockSize: bytes(blockSize),
      blocksPerPage: 4096 / blockSize,
      geometry: usualGeometry(bytes(blockSize)),
    },
  }));

/** What the kernel makes of requests in a hole (ext4_mb_normalize_request): windows, cut off at what is mapped. */
function* requests(slot: Slot, site: Site, window: number): Iterable<{ from: number; to: number }> {
  const mapped = new Set<number>(slot.standIns);
  const end = slot.logical + site.length;
  for (let at = slot.logical as number; at < end;) {
    let from = Math.floor(at / window) * window;
    let to = from + window;
    for (const block of mapped) {
      if (block < at) from = Math.max(from, block + 1);
      else to = Math.min(to, block);
    }
    yield { from, to };
    at = to;
  }
}

describe('where a site comes in a temporary file', () => {
  test('the requests cover it exactly, and none goes over the border of block groups', () => {
    fc.assert(
      fc.property(placed, ({ site, from, options }) => {
        const slot = slotFor(site, from, options);
        fc.pre(typeof slot !== 'string');
        const window = windowBlocks(options.blockSize);
        const { firstDataBlock, blocksPerGroup } = options.geometry;
        const group = (logical: number) =>
          Math.floor((site.start + logical - slot.logical - firstDataBlock) / blocksPerGroup);
        const all = [...requests(slot, site, window)];
        expect(all[0].from).toBe(slot.logical);
        expect(all[all.length - 1].to).toBe(slot.logical + site.length);
        for (const { from: first, to } of all) expect(group(to - 1)).toBe(group(first));
      }),
    );
  });

  test('the borrowed block is beside it, where the kernel can exchange it, and a hole is before it', () => {
    fc.assert(
      fc.property(placed, ({ site, from, options }) => {
        const slot = slotFor(site, from, options);
        fc.pre(typeof slot !== 'string');
        const owner = 'before' in site ? site.before : site.behind;
        expect(slot.anchor).toBe('before' in site ? slot.logical - 1 : slot.logical + site.length);
        expect(slot.standIns).toContain(slot.anchor);
        expect(Math.abs(slot.anchor - owner.logical) % options.blocksPerPage).toBe(0);
        const first = Math.min(slot.logical, ...slot.standIns);
        expect(first).toBeGreaterThan(from);
        expect(slot.end).toBeGreaterThan(Math.max(slot.logical + site.length - 1, ...slot.standIns));
      }),
    );
  });

  const options4k = { blockSize: bytes(4096), blocksPerPage: 1, geometry: usualGeometry(bytes(4096)) };

  test('within a block group one stand-in is enough', () => {
    for (const length of [1, 64, 2047, 2048, 2049, 30_000]) {
      for (const side of ['before', 'behind'] as const) {
        expect(slotFor(siteAt(side, 1000, length), 0, options4k)).toMatchObject({
          standIns: [expect.any(Number)],
        });
      }
    }
  });

  test('with blocks as large as pages the neighbour before always does', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 200_000 }), fc.nat(), (start, length, at) => {
        expect(slotFor(siteAt('before', start + 1, length, at), 0, options4k)).not.toBeTypeOf('string');
      }),
    );
  });

  test.each([
    {
      what: 'the neighbour behind, over a border',
      site: siteAt('behind', 32_700, 200),
      options: options4k,
      why: /over the border of block groups, and only the block behind/,
    },
    {
      what: 'blocks smaller than pages',
      site: siteAt('behind', 100, 3, 0),
      options: { blockSize: bytes(1024), blocksPerPage: 4, geometry: usualGeometry(bytes(1024)) },
      why: /blocks are smaller than pages/,
    },
    {
      what: 'groups of an unusual size',
      site: siteAt('before', 9_900, 200),
      options: { ...options4k, geometry: { firstDataBlock: 0, blocksPerGroup: 10_000 } },
      why: /block groups of an unusual size/,
    },
  ])('is refused: $what', ({ site, options, why }) => {
    expect(slotFor(site, 0, options)).toMatch(why);
  });
});

describe('what was got', () => {
  const runAt = (donorFd: number, start: number, physical: number, length: number): Run => ({
    donorFd,
    start: blocks(start),
    physical: blocks(physical),
    length: blocks(length),
  });
  const stretchOf = (start: number, length: number) => ({ start: blocks(start), length: blocks(length) });

  test('a run is cut where stretches begin and end', () => {
    expect(byStretch([runAt(3, 0, 90, 130)], [stretchOf(200, 50), stretchOf(100, 20)])).toEqual({
      got: [[runAt(3, 110, 200, 20)], [runAt(3, 10, 100, 20)]],
      elsewhere: [runAt(3, 0, 90, 10), runAt(3, 30, 120, 80)],
    });
  });

  test('every block is in its stretch, or in none, and keeps its logical number', () => {
    const disjoint = fc
      .array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 30 })), { maxLength: 20 })
      .map((pairs) => {
        let at = 0;
        return pairs.map(([gap, length]) => {
          at += gap + length;
          return stretchOf(at - length, length);
        });
      });
    fc.assert(
      fc.property(disjoint, disjoint, (held, stretches) => {
        const runs = held.map(({ start, length }, i) => runAt(i, 1000 + start, start, length));
        const { got, elsewhere } = byStretch(runs, stretches.toReversed());
        const expected = (inside: (block: number) => boolean) =>
          runs
            .flatMap((run) =>
              Array.from({ length: run.length }, (_, i) => [run.donorFd, run.start + i, run.physical + i]),
            )
            .filter(([, , block]) => inside(block));
        const all = (some: readonly Run[]) =>
          some
            .flatMap((run) =>
              Array.from({ length: run.length }, (_, i) => [run.donorFd, run.start + i, run.physical + i]),
            )
            .sort((a, b) => a[2] - b[2]);
        const isIn = (block: number, { start, length }: { start: number; length: number }) =>
          block >= start && block < start + length;
        expect(all(elsewhere)).toEqual(expected((block) => !stretches.some((one) => isIn(block, one))));
        for (const [i, stretch] of stretches.toReversed().entries())
          expect(all(got[i])).toEqual(expected((block) => isIn(block, stretch)));
      }),
    );
  });
});

describe('what a long run is grown from', () => {
  const geometry = usualGeometry(bytes(4096));
  const seed = (start: number, length: number) =>
    seedOf({ start: blocks(start), length: blocks(length) }, geometry);

  test('the longest part in one block group, not longer than an extent', () => {
    expect(seed(30_000, 10_000)).toEqual({ start: 32_768, length: 7232 });
    expect(seed(10_000, 30_000)).toEqual({ start: 10_000, length: 22_768 });
    expect(seed(30_000, 100_000)).toEqual({ start: 32_768, length: 32_767 });
  });

  test('is asked for with what is free before it in its group, as the allocator finds it', () => {
    const free = FreeMap.of([{ start: 35_001, length: 63_303 }], geometry);
    const whole = (start: number, length: number, most = 2048) =>
      wholeSeed({ start: blocks(start), length: blocks(length) }, free, most);
    expect(whole(36_864, 28_672)).toEqual({ start: 35_001, length: 30_535 });
    // It begins with its group, or there is no room for as much before it in the file.
    expect(whole(65_536, 32_767)).toEqual({ start: 65_536, length: 32_767 });
    expect(whole(36_864, 28_672, 1863)).toEqual({ start: 36_864, length: 28_672 });
    // More than one allocation can get.
    expect(whole(36_864, 30_905)).toEqual({ start: 36_864, length: 30_905 });
  });
});
