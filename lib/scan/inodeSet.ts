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
