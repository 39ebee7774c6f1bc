import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocks } from '../../lib/layout/units.ts';
import { Shelves } from '../../lib/place/bins.ts';
import type { FreeRuns } from '../../lib/place/freeMap.ts';
import { OwnerMap, type OwnedExtent } from '../../lib/place/owners.ts';
import { Tokens, TOKENS } from '../../lib/place/tokens.ts';
import { Terrain } from '../../lib/place/window.ts';

const extent = (inode: number, logical: number, physical: number, length: number): OwnedExtent => ({
  inode,
  logical,
  physical,
  length,
});

describe('OwnerMap', () => {
  test('answers the extents that touch a stretch, in the order of the device, each once', () => {
    const owners = new OwnerMap(100_000);
    const [long, short] = [extent(12, 0, 1000, 5000), extent(13, 7, 900, 10)];
    owners.set(long);
    owners.set(short);
    expect(owners.within(0, 900)).toEqual([]);
    expect(owners.within(909, 1001)).toEqual([short, long]);
    expect(owners.within(5999, 9000)).toEqual([long]);
    expect(owners.within(6000, 9000)).toEqual([]);
    expect(owners.count).toBe(2);
  });

  test('what is said last of a block holds, and what lies on either side stays', () => {
    const owners = new OwnerMap(100_000);
    owners.set(extent(12, 100, 1000, 50));
    owners.set(extent(13, 0, 1010, 5));
    owners.clear(1040, 100);
    expect(owners.within(0, 5000)).toEqual([
      extent(12, 100, 1000, 10),
      extent(13, 0, 1010, 5),
      extent(12, 115, 1015, 25),
    ]);
  });

  test('a block has one owner, whatever is said in which order', () => {
    const change = fc.record({
      inode: fc.integer({ min: 0, max: 5 }),
      physical: fc.integer({ min: 0, max: 6000 }),
      length: fc.integer({ min: 1, max: 3000 }),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
        const owners = new OwnerMap(100_000);
        const model = new Map<number, string>();
        for (const { inode, physical, length } of changes) {
          // Inode 0 stands for nobody.
          if (inode === 0) owners.clear(physical, length);
          else owners.set(extent(inode, physical * 2, physical, length));
          for (let i = 0; i < length; i++) {
            if (inode === 0) model.delete(physical + i);
            else model.set(physical + i, `${inode}:${physical * 2 + i}`);
          }
        }
        const found = new Map<number, string>();
        for (const { inode, logical, physical, length } of owners.within(0, 10_000)) {
          for (let i = 0; i < length; i++) found.set(physical + i, `${inode}:${logical + i}`);
        }
        expect(found).toEqual(new Map([...model].sort(([a], [b]) => a - b)));
        expect([...owners]).toHaveLength(owners.count);
      }),
    );
  });

  test('what lies in the rear is forgotten when there is too much, now and later', () => {
    const owners = new OwnerMap(400, 3);
    for (const [i, physical] of [0, 95, 150, 350].entries()) owners.set(extent(12 + i, 0, physical, 10));
    expect([...owners].map(({ inode }) => inode)).toEqual([12, 13, 14]);
    owners.set(extent(20, 0, 195, 10));
    expect([...owners].map(({ inode }) => inode)).toEqual([12, 13, 14]);
    owners.set(extent(21, 0, 20, 10));
    expect([...owners].map(({ inode }) => inode)).toEqual([12, 21]);
  });

  test('what lies end to end in a file and on the device is one', () => {
    const owners = new OwnerMap(100_000);
    owners.set(extent(12, 0, 1000, 10));
    owners.set(extent(12, 20, 1020, 10));
    owners.set(extent(12, 10, 1010, 10));
    owners.set(extent(12, 40, 1030, 10));
    expect(owners.within(0, 5000)).toEqual([extent(12, 0, 1000, 30), extent(12, 40, 1030, 10)]);
  });
});

const freeRuns = (...runs: [start: number, length: number][]): FreeRuns => ({
  count: runs.length,
  start: runs.map(([start]) => start),
  length: runs.map(([, length]) => length),
});

function ownersOf(...extents: OwnedExtent[]): OwnerMap {
  const owners = new OwnerMap(100_000);
  for (const each of extents) owners.set(each);
  return owners;
}

const nobody = new Set<number>();

describe('packing into free runs', () => {
  test('takes the shortest room that holds a thing, the longest things first', () => {
    const free = freeRuns([0, 10], [100, 7], [200, 30]);
    expect(new Shelves(free).pack([5, 30, 7, 3, 2], 1000, 1001)).toEqual({
      // 30 fills its run, 7 too; 5, 3 and 2 share the one of 10.
      bins: [[1], [2], [0, 3, 4]],
      unplaced: [],
    });
  });

  test('does without what is free in the window, and says what fits nowhere', () => {
    const shelves = new Shelves(freeRuns([0, 10], [100, 7], [200, 30]));
    // Of the longest run ten blocks lie before the window, or behind it.
    expect(shelves.pack([10, 10, 10], 210, 300).unplaced).toEqual([2]);
    expect(shelves.pack([10, 10, 10], 150, 220).unplaced).toEqual([2]);
    expect(shelves.pack([8, 20, 6], 205, 300)).toEqual({ bins: [[0], [2]], unplaced: [1] });
    expect(shelves.pack([8, 20, 6], 210, 300)).toEqual({ bins: [[0], [2]], unplaced: [1] });
    expect(shelves.pack([8, 20, 6], 230, 300).unplaced).toEqual([]);
  });

  test('cuts nothing, fills no run beyond its end, and leaves out only what fits into no whole run left', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 30 });
    fc.assert(
      fc.property(lengths, lengths, (things, runs) => {
        const free = freeRuns(...runs.map((length, i): [number, number] => [i * 100, length]));
        const { bins, unplaced } = new Shelves(free).pack(things, 10_000, 10_001);
        expect([...bins.flat(), ...unplaced].sort((a, b) => a - b)).toEqual([...things.keys()]);
        const sums = bins.map((bin) => bin.reduce((sum, i) => sum + things[i], 0)).sort((a, b) => b - a);
        const longestFirst = runs.toSorted((a, b) => b - a);
        // The fullest bins fit into the longest runs, each into one of its own.
        for (const [i, sum] of sums.entries()) expect(sum).toBeLessThanOrEqual(longestFirst[i]);
        const rest = longestFirst.slice(bins.length);
        for (const i of unplaced) if (bins.length === 0) expect(Math.max(0, ...rest)).toBeLessThan(things[i]);
      }),
    );
  });
});

describe('the cheapest window', () => {
  // 0–99 somebody's that cannot move, then files and free blocks in turn, then a long free run.
  const owners = ownersOf(extent(12, 0, 100, 30), extent(13, 0, 160, 10), extent(14, 0, 190, 30));
  const free = freeRuns([130, 30], [170, 20], [220, 380]);
  const terrain = new Terrain(600, free, owners);

  test('is where the fewest blocks have to go, and nothing in it is cut in two', () => {
    expect(terrain.cheapest({ length: 80, mostCost: 80, immovable: nobody })?.cost).toBe(0);
    const full = new Terrain(250, freeRuns([130, 30], [170, 20], [220, 30]), owners);
    const window = full.cheapest({ length: 60, mostCost: 60, immovable: nobody });
    expect(window).toMatchObject({ start: 130, length: 60, cost: 10, extents: [{ inode: 13 }] });
  });

  test('counts whole extents, also where they reach beyond it', () => {
    const full = new Terrain(250, freeRuns([130, 30], [170, 20], [220, 30]), owners);
    expect(full.cheapest({ length: 64, mostCost: 64, immovable: nobody })?.cost).toBe(30);
    expect(full.cheapest({ length: 64, mostCost: 29, immovable: nobody })).toBeUndefined();
  });

  test('holds nothing that cannot move', () => {
    const full = new Terrain(250, freeRuns([130, 30], [170, 20], [220, 30]), owners);
    expect(full.cheapest({ length: 60, mostCost: 90, immovable: new Set([13]) })?.start).not.toBe(130);
    expect(full.cheapest({ length: 151, mostCost: 1000, immovable: nobody })).toBeUndefined();
    // Blocks of which nothing is known.
    expect(
      new Terrain(250, freeRuns([130, 29]), owners).cheapest({ length: 60, mostCost: 90, immovable: nobody }),
    ).toBeUndefined();
  });

  test('holds nothing that finds no place elsewhere in one piece', () => {
    const long = ownersOf(extent(12, 0, 0, 100), extent(13, 0, 100, 40));
    const demands = { length: 128, mostCost: 1000, immovable: nobody };
    expect(
      new Terrain(300, freeRuns([140, 99], [250, 50]), long).cheapest({ ...demands, length: 230 }),
    ).toBeUndefined();
    expect(new Terrain(300, freeRuns([140, 160]), long).cheapest(demands)).toBeDefined();
    // One run of that length is not enough for two such extents.
    const two = ownersOf(extent(12, 0, 0, 100), extent(13, 0, 100, 100));
    const short = freeRuns(
      [200, 110],
      ...Array.from({ length: 40 }, (_, i): [number, number] => [400 + 4 * i, 2]),
    );
    expect(
      new Terrain(600, short, two).cheapest({ length: 192, mostCost: 1000, immovable: nobody })?.extents ??
        [],
    ).not.toHaveLength(2);
  });
});

describe('Tokens', () => {
  const piece = (donorFd: number, start: number, physical: number, length: number) => ({
    donorFd,
    start: blocks(start),
    physical: blocks(physical),
    length: blocks(length),
  });

  test('pieces of several files that lie end to end are one run', () => {
    const tokens = new Tokens([piece(8, 100, 1010, 5), piece(7, 0, 1000, 10), piece(7, 40, 1020, 1)]);
    expect(tokens.runs).toEqual([piece(TOKENS, 1000, 1000, 15), piece(TOKENS, 1020, 1020, 1)]);
  });

  test('what is assigned to a run is exchanged with its pieces', () => {
    const tokens = new Tokens([piece(7, 0, 1000, 10), piece(8, 100, 1010, 5), piece(9, 3, 1015, 8)]);
    const assigned = { ...piece(TOKENS, 1008, 1008, 10), logical: blocks(50), donor: blocks(1008) };
    expect(tokens.segments(assigned)).toEqual([
      { donorFd: 7, donor: 8, logical: 50, physical: 1008, length: 2 },
      { donorFd: 8, donor: 100, logical: 52, physical: 1010, length: 5 },
      { donorFd: 9, donor: 3, logical: 57, physical: 1015, length: 3 },
    ]);
  });
});
