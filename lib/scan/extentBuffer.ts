import { grown } from '../layout/grown.ts';
import type { ExtentVisitor } from '../ext4/tables.ts';

/** Is told of each extent of a file, in logical order, and of its fragments. */
export interface LayoutVisitor {
  /** Whether anything is to be told of a file. */
  readonly wants: (inode: number) => boolean;
  readonly extent: (inode: number, physical: number, length: number) => void;
  /** @param mapped blocks: holes are not among them */
  readonly fragment: (inode: number, mapped: number) => void;
}

/** The extents of a stretch of the inode tables, as columns, until it is known of all files what to make of them. */
export class ExtentBuffer {
  #count = 0;
  #inode = new Uint32Array(1024);
  #logical = new Float64Array(1024);
  #physical = new Float64Array(1024);
  #length = new Float64Array(1024);

  readonly add: ExtentVisitor = (inode, logical, physical, length) => {
    if (this.#count === this.#inode.length) this.#grow();
    const row = this.#count++;
    this.#inode[row] = inode;
    this.#logical[row] = logical;
    this.#physical[row] = physical;
    this.#length[row] = length;
  };

  /** Tells of what was added, file by file, and forgets it. */
  drain(visitor: LayoutVisitor): void {
    const rows = this.#inOrder();
    let mapped = 0;
    for (let at = 0; at < rows.length; at++) {
      const row = rows[at];
      const inode = this.#inode[row];
      if (!visitor.wants(inode)) continue;
      visitor.extent(inode, this.#physical[row], this.#length[row]);
      mapped += this.#length[row];
      if (at + 1 < rows.length && this.#continues(row, rows[at + 1])) continue;
      visitor.fragment(inode, mapped);
      mapped = 0;
    }
    this.#count = 0;
  }

  /** The rule of `continues` in layout/fragments.ts. */
  #continues(row: number, next: number): boolean {
    const step = this.#physical[next] - this.#physical[row];
    return (
      this.#inode[next] === this.#inode[row] &&
      (step === this.#length[row] || step === this.#logical[next] - this.#logical[row])
    );
  }

  #inOrder(): Uint32Array {
    const rows = Uint32Array.from({ length: this.#count }, (_, row) => row);
    const compare = (a: number, b: number) =>
      this.#inode[a] - this.#inode[b] || this.#logical[a] - this.#logical[b];
    // Nearly always they came so.
    return rows.every((row) => row === 0 || compare(row - 1, row) <= 0) ? rows : rows.sort(compare);
  }

  #grow(): void {
    const capacity = this.#inode.length * 2;
    this.#inode = grown(this.#inode, new Uint32Array(capacity));
    this.#logical = grown(this.#logical, new Float64Array(capacity));
    this.#physical = grown(this.#physical, new Float64Array(capacity));
    this.#length = grown(this.#length, new Float64Array(capacity));
  }
}
