import { grown } from '../layout/grown.ts';

/** A file as its inode and its extent tree on the device show it. */
export interface FileLayout {
  readonly inode: number;
  readonly generation: number;
  /** In bytes. */
  readonly size: number;
  /** Blocks mapped: holes and delayed allocations are not among them, preallocations behind the end are. */
  readonly blocks: number;
  readonly fragments: number;
  /** Of the extent tree: 0 when it is all in the inode. */
  readonly depth: number;
  /** Of the inode, as FS_IOC_GETFLAGS answers them. */
  readonly flags: number;
  readonly links: number;
}

/** Files as columns of numbers, since a filesystem has millions of them. Iterating makes an object for each. */
export class FileColumns implements Iterable<FileLayout> {
  count = 0;
  inode: Uint32Array;
  generation: Uint32Array;
  size: Float64Array;
  blocks: Float64Array;
  fragments: Uint32Array;
  depth: Uint8Array;
  flags: Uint32Array;
  links: Uint16Array;

  constructor(capacity: number) {
    this.inode = new Uint32Array(capacity);
    this.generation = new Uint32Array(capacity);
    this.size = new Float64Array(capacity);
    this.blocks = new Float64Array(capacity);
    this.fragments = new Uint32Array(capacity);
    this.depth = new Uint8Array(capacity);
    this.flags = new Uint32Array(capacity);
    this.links = new Uint16Array(capacity);
  }

  /** Adds a file whose blocks and fragments are not counted yet. @returns its row */
  push(inode: number, generation: number, size: number, depth: number, flags: number, links: number): number {
    const row = this.count++;
    if (row === this.inode.length) this.#grow();
    this.inode[row] = inode;
    this.generation[row] = generation;
    this.size[row] = size;
    this.blocks[row] = 0;
    this.fragments[row] = 0;
    this.depth[row] = depth;
    this.flags[row] = flags;
    this.links[row] = links;
    return row;
  }

  /** Adds a row of another table. */
  copy(from: FileColumns, row: number): void {
    const at = this.push(
      from.inode[row],
      from.generation[row],
      from.size[row],
      from.depth[row],
      from.flags[row],
      from.links[row],
    );
    this.blocks[at] = from.blocks[row];
    this.fragments[at] = from.fragments[row];
  }

  at(row: number): FileLayout {
    return {
      inode: this.inode[row],
      generation: this.generation[row],
      size: this.size[row],
      blocks: this.blocks[row],
      fragments: this.fragments[row],
      depth: this.depth[row],
      flags: this.flags[row],
      links: this.links[row],
    };
  }

  *[Symbol.iterator](): Iterator<FileLayout> {
    for (let row = 0; row < this.count; row++) yield this.at(row);
  }

  #grow(): void {
    const capacity = Math.max(64, this.inode.length * 2);
    this.inode = grown(this.inode, new Uint32Array(capacity));
    this.generation = grown(this.generation, new Uint32Array(capacity));
    this.size = grown(this.size, new Float64Array(capacity));
    this.blocks = grown(this.blocks, new Float64Array(capacity));
    this.fragments = grown(this.fragments, new Uint32Array(capacity));
    this.depth = grown(this.depth, new Uint8Array(capacity));
    this.flags = grown(this.flags, new Uint32Array(capacity));
    this.links = grown(this.links, new Uint16Array(capacity));
  }
}
