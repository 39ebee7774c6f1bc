import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { clearRuns, clustersInGroup, freeRuns } from '../../lib/ext4/bitmap.ts';
import { GROUP_FLAG, GroupTable } from '../../lib/ext4/groups.ts';
import { RO_COMPAT, type Superblock } from '../../lib/ext4/superblock.ts';
import { makeSuperblock } from '../support/ext4.ts';

type Run = [start: number, length: number];

function runsOf(bitmap: Uint8Array, bits: number): Run[] {
  const runs: Run[] = [];
  clearRuns(bitmap, bits, (start, length) => runs.push([start, length]));
  return runs;
}

/** The same, one bit at a time. */
function runsByBit(bitmap: Uint8Array, bits: number): Run[] {
  const runs: Run[] = [];
  for (let bit = 0; bit < bits; bit++) {
    if ((bitmap[bit >> 3] >> (bit & 7)) & 1) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === bit) last[1]++;
    else runs.push([bit, 1]);
  }
  return runs;
}

describe('runs of clear bits', () => {
  test('are those found bit by bit, whatever the bytes, the length and the alignment', () => {
    const byte = fc.oneof(fc.constant(0), fc.constant(255), fc.nat(255));
    const words = fc.array(fc.tuple(byte, byte, byte, byte), { minLength: 1, maxLength: 24 });
    fc.assert(
      fc.property(words, fc.nat(3), fc.nat(31), (quads, shift, short) => {
        const bytes = quads.flat();
        const bitmap = new Uint8Array(bytes.length + shift).subarray(shift);
        bitmap.set(bytes);
        const bits = bytes.length * 8 - short;
        expect(runsOf(bitmap, bits)).toEqual(runsByBit(bitmap, bits));
      }),
      { numRuns: 2000 },
    );
  });

  test('nothing, everything, and the borders of words', () => {
    expect(runsOf(new Uint8Array(8).fill(255), 64)).toEqual([]);
    expect(runsOf(new Uint8Array(8), 64)).toEqual([[0, 64]]);
    expect(runsOf(new Uint8Array(8), 33)).toEqual([[0, 33]]);
    expect(runsOf(Uint8Array.of(0xff, 0xff, 0xff, 0x7f, 0xfe, 0xff, 0xff, 0xff), 64)).toEqual([[31, 2]]);
    expect(runsOf(Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0), 64)).toEqual([
      [0, 32],
      [33, 31],
    ]);
    expect(runsOf(new Uint8Array(4), 0)).toEqual([]);
  });

  test('a bitmap that is too short is the caller’s mistake', () => {
    expect(() => runsOf(new Uint8Array(4), 33)).toThrow(RangeError);
    expect(() => runsOf(new Uint8Array(5), 8)).toThrow(RangeError);
  });
});

describe('free blocks of a group', () => {
  const groupsAt = (superblock: Superblock, block: number) => {
    const groups = new GroupTable(superblock.groupsCount);
    groups.blockBitmap.fill(block);
    groups.inodeBitmap.fill(block + 1);
    groups.inodeTable.fill(block + 2);
    return groups;
  };
  const free = (superblock: Superblock, groups: GroupTable, group: number, bitmap = new Uint8Array(4096)) => {
    const runs: Run[] = [];
    freeRuns(superblock, groups, group, bitmap, (start, length) => runs.push([start, length]));
    return runs;
  };

  test('count from the group’s first block, and end with a short last group', () => {
    const superblock = makeSuperblock();
    const groups = groupsAt(superblock, 100);
    expect(free(superblock, groups, 2)).toEqual([[65536, 32768]]);
    expect(clustersInGroup(superblock, 3)).toBe(16384);
    expect(free(superblock, groups, 3)).toEqual([[98304, 16384]]);
  });

  test('bigalloc: a bit is a cluster, and the last one may stand out over the end', () => {
    const superblock = makeSuperblock((b) => {
      b.writeUInt32LE(6, 0x1c);
      b.writeUInt32LE(32768 * 16, 0x20);
      b.writeUInt32LE(RO_COMPAT.BIGALLOC, 0x64);
      b.writeUInt32LE(32768 * 16 + 1001, 0x4);
      b.writeUInt32LE(2 * 8192, 0x0);
    });
    const groups = groupsAt(superblock, 100);
    const bitmap = new Uint8Array(4096).fill(255);
    bitmap[0] = 0xf9;
    expect(free(superblock, groups, 0, bitmap)).toEqual([[16, 32]]);
    expect(clustersInGroup(superblock, 1)).toBe(63);
    expect(free(superblock, groups, 1)).toEqual([[32768 * 16, 1001]]);
  });

  test('a group without a bitmap yet uses its own metadata, and what lies elsewhere does not count', () => {
    const superblock = makeSuperblock();
    const groups = groupsAt(superblock, 32768 + 50);
    groups.flags.fill(GROUP_FLAG.BLOCK_UNINIT);
    const garbage = new Uint8Array(4096).fill(0x55);
    // Group 1 has a superblock and one block of descriptors, then from block 50 two bitmaps and 512 blocks of table.
    expect(free(superblock, groups, 1, garbage)).toEqual([
      [32768 + 2, 48],
      [32768 + 564, 32768 - 564],
    ]);
    expect(free(superblock, groups, 2, garbage)).toEqual([[65536, 32768]]);
  });
});
