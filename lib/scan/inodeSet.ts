/** A set of inodes: a bit for each that the filesystem can have. */
export class InodeSet {
  readonly #bits: Uint8Array;

  /** @param inodesCount of the filesystem: the highest number. What is added beyond is forgotten. */
  constructor(inodesCount: number) {
    this.#bits = new Uint8Array((inodesCount >>> 3) + 1);
  }

  has(inode: number): boolean {
    return (this.#bits[inode >>> 3] & (1 << (inode & 7))) !== 0;
  }

  add(inode: number): void {
    this.#bits[inode >>> 3] |= 1 << (inode & 7);
  }
}

/** A page is 4 KiB and has a bit for 32 Ki inodes. */
const PAGE_BITS = 15;

/** A set of inodes where nobody knows how many there are: pages of bits. A Set ends at 2^24 elements. */
export class SparseInodeSet {
  readonly #pages = new Map<number, Uint8Array>();

  /** @returns whether it was not in the set before */
  add(inode: number): boolean {
    const number = inode >>> PAGE_BITS;
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Uint8Array(2 ** (PAGE_BITS - 3))));
    const at = (inode & (2 ** PAGE_BITS - 1)) >>> 3;
    const bit = 1 << (inode & 7);
    const isNew = (page[at] & bit) === 0;
    page[at] |= bit;
    return isNew;
  }
}
