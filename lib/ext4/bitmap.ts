import { blocks, type Blocks } from '../layout/units.ts';
import { baseMetadataBlocks, blocksInGroup, GROUP_FLAG, groupFirstBlock, type GroupTable } from './groups.ts';
import type { Superblock } from './superblock.ts';

/** Clusters of a group, a begun one counting whole. */
export function clustersInGroup(superblock: Superblock, group: number): number {
  return Math.ceil(blocksInGroup(superblock, group) / superblock.blocksPerCluster);
}

const ALL_ONES = 0xffff_ffff;
const trailingZeros = (word: number): number => 31 - Math.clz32(word & -word);

/**
 * Calls `visit` for every run of clear bits among the first `bits` of a bitmap, in order. Goes by words of 32 bits,
 * since most of a bitmap is all ones or all zeros.
 *
 * @throws RangeError when the bitmap is not whole words or has fewer bits
 */
export function clearRuns(
  bitmap: Uint8Array,
  bits: number,
  visit: (start: number, length: number) => void,
): void {
  if (bitmap.length % 4 !== 0 || bits > bitmap.length * 8) throw new RangeError('the bitmap is cut off');
  const view = new DataView(bitmap.buffer, bitmap.byteOffset, bitmap.length);
  let start = -1;
  for (let base = 0; base < bits; base += 32) {
    let word = view.getUint32(base / 8, true);
    if (bits - base < 32) word = (word | (ALL_ONES << (bits - base))) >>> 0;
    if (start < 0 ? word === ALL_ONES : word === 0) continue;
    for (let at = 0; at < 32;) {
      // What ends the current stretch: the next clear bit outside a run, the next set bit within one.
      const ends = (start < 0 ? ~word : word) >>> at;
      if (ends === 0) break;
      at += trailingZeros(ends);
      if (start < 0) start = base + at;
      else {
        visit(start, base + at - start);
        start = -1;
      }
    }
  }
  if (start >= 0) visit(start, bits - start);
}

/**
 * Calls `visit` for every run of free blocks of a group, in order. A run that goes on in the next group is two.
 *
 * @param bitmap the group's block bitmap; it is not looked at where the group has none yet (BLOCK_UNINIT)
 */
export function freeRuns(
  superblock: Superblock,
  groups: GroupTable,
  group: number,
  bitmap: Uint8Array,
  visit: (start: Blocks, length: Blocks) => void,
): void {
  const { blocksPerCluster, blocksCount } = superblock;
  const first = groupFirstBlock(superblock, group);
  const uninit = (groups.flags[group] & GROUP_FLAG.BLOCK_UNINIT) !== 0;
  const used = uninit ? initialBitmap(superblock, groups, group) : bitmap;
  clearRuns(used, clustersInGroup(superblock, group), (start, length) => {
    const from = first + start * blocksPerCluster;
    const end = Math.min(first + (start + length) * blocksPerCluster, blocksCount);
    visit(blocks(from), blocks(end - from));
  });
}

/** The bitmap that an untouched group would have: only its own metadata is used (ext4_init_block_bitmap). */
function initialBitmap(superblock: Superblock, groups: GroupTable, group: number): Uint8Array {
  const { blockSize, blocksPerCluster, inodeTableBlocks } = superblock;
  const bitmap = new Uint8Array(blockSize);
  const first = groupFirstBlock(superblock, group);
  const end = first + blocksInGroup(superblock, group);
  const use = (start: number, length: number) => {
    // With flex_bg the metadata may lie in another group.
    for (let block = Math.max(start, first); block < Math.min(start + length, end); block++) {
      const bit = Math.floor((block - first) / blocksPerCluster);
      bitmap[bit >>> 3] |= 1 << (bit & 7);
    }
  };
  use(first, baseMetadataBlocks(superblock, group));
  use(groups.blockBitmap[group], 1);
  use(groups.inodeBitmap[group], 1);
  use(groups.inodeTable[group], inodeTableBlocks);
  return bitmap;
}
