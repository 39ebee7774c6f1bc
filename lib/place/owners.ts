/** A stretch of blocks, and the regular file whose they are. */
export interface OwnedExtent {
  readonly inode: number;
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
}

/** More extents than that are not kept: of a larger filesystem only the first part of the device is known. */
const MOST_EXTENTS = 4_000_000;
/** Blocks whose extents are kept together: few enough to go through them all, enough that most have only one place. */
const BUCKET = 2048;

/**
 * Which regular file owns which blocks of a filesystem, which ext4 itself keeps no record of. Every block has one owner:
 * what is said last of it holds. What is known may be out of date, so whoever acts on it asks the file first.
 */
export class OwnerMap {
  /** Extents by the stretches of the device that they touch. */
  readonly #buckets = new Map<number, OwnedExtent[]>();
  readonly #most: number;
  #count = 0;
  /** Blocks behind are not looked at. */
  #to: number;

  /**
   * @param blocksCount of the filesystem; without it everything is kept
   * @param most extents to keep
   */
  constructor(blocksCount = Infinity, most = blocksCount === Infinity ? Infinity : MOST_EXTENTS) {
    this.#to = blocksCount;
    this.#most = most;
  }

  /** How many extents are known. */
  get count(): number {
    return this.#count;
  }

  /** Notes that a file has blocks. */
  set(extent: OwnedExtent): void {
    if (extent.physical + extent.length > this.#to) return;
    this.clear(extent.physical, extent.length);
    this.#add(this.#joined(extent));
    while (this.#count > this.#most) this.#confine(Math.ceil(this.#to / 2));
  }

  /** An extent with what lies right before and behind it in its file and on the device: together they are one. */
  #joined(extent: OwnedExtent): OwnedExtent {
    let { logical, physical, length } = extent;
    for (const known of this.within(Math.max(0, physical - 1), physical + length + 1)) {
      const isSame = known.inode === extent.inode && known.physical - known.logical === physical - logical;
      if (!isSame) continue;
      this.#remove(known);
      if (known.physical < physical) ({ logical, physical } = known);
      length += known.length;
    }
    return { inode: extent.inode, logical, physical, length };
  }

  /** Notes that blocks are no file's. */
  clear(physical: number, length: number): void {
    const end = physical + length;
    for (const known of this.within(physical, end)) {
      this.#remove(known);
      // What lies on either side stays.
      this.#add(part(known, known.physical, Math.min(physical, known.physical + known.length)));
      this.#add(part(known, Math.max(end, known.physical), known.physical + known.length));
    }
  }

  /** The extents that touch blocks `from` to `to`, in the order of the device. */
  within(from: number, to: number): OwnedExtent[] {
    const found = new Set<OwnedExtent>();
    for (let bucket = bucketOf(from); bucket <= bucketOf(to - 1); bucket++) {
      for (const extent of this.#buckets.get(bucket) ?? []) {
        if (extent.physical < to && extent.physical + extent.length > from) found.add(extent);
      }
    }
    return [...found].sort((a, b) => a.physical - b.physical);
  }

  /** All extents, each once, in no order. */
  *[Symbol.iterator](): Iterator<OwnedExtent> {
    for (const [bucket, extents] of this.#buckets) {
      for (const extent of extents) if (bucketOf(extent.physical) === bucket) yield extent;
    }
  }

  /** Forgets what lies from a block on, now and later: there is too much of it. */
  #confine(to: number): void {
    for (const extent of [...this]) if (extent.physical + extent.length > to) this.#remove(extent);
    this.#to = to;
  }

  #add(extent: OwnedExtent): void {
    if (extent.length <= 0) return;
    this.#count++;
    for (let bucket = bucketOf(extent.physical); bucket <= lastBucketOf(extent); bucket++) {
      const extents = this.#buckets.get(bucket);
      if (extents === undefined) this.#buckets.set(bucket, [extent]);
      else extents.push(extent);
    }
  }

  #remove(extent: OwnedExtent): void {
    this.#count--;
    for (let bucket = bucketOf(extent.physical); bucket <= lastBucketOf(extent); bucket++) {
      const extents = this.#buckets.get(bucket)!;
      extents.splice(extents.indexOf(extent), 1);
    }
  }
}

const bucketOf = (block: number): number => Math.floor(block / BUCKET);
const lastBucketOf = ({ physical, length }: OwnedExtent): number => bucketOf(physical + length - 1);

const part = (extent: OwnedExtent, from: number, to: number): OwnedExtent => ({
  inode: extent.inode,
  logical: extent.logical + (from - extent.physical),
  physical: from,
  length: to - from,
});
