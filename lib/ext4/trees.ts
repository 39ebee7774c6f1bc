import type { CountedRun } from '../layout/runCounter.ts';
import { RunCounter } from '../layout/runCounter.ts';
import { checkNode, entryCount, firstLogical, MAX_DEPTH, visitChildren, visitExtents } from './extentTree.ts';
import { grown } from '../layout/grown.ts';
import { FileColumns } from './files.ts';
import type { Superblock } from './superblock.ts';

/** Blocks of extent trees that are still to be read, in the order of their files and logical blocks. */
export class NodeList {
  count = 0;
  block = new Float64Array(0);
  /** The logical block that the node must start with. */
  logical = new Uint32Array(0);
  /** The row of its file. */
  file = new Uint32Array(0);

  push(block: number, logical: number, file: number): void {
    const row = this.count++;
    if (row === this.block.length) {
      const capacity = Math.max(64, row * 2);
      this.block = grown(this.block, new Float64Array(capacity));
      this.logical = grown(this.logical, new Uint32Array(capacity));
      this.file = grown(this.file, new Uint32Array(capacity));
    }
    this.block[row] = block;
    this.logical[row] = logical;
    this.file[row] = file;
  }
}

/**
 * Files whose extent tree has blocks of its own, while these are being read. A file is counted from its leaves in
 * logical order, whatever order they are read in.
 */
export class DeepFiles {
  readonly files = new FileColumns(0);
  /** For each depth of a tree, the nodes below the roots of that depth. */
  readonly below: readonly NodeList[] = Array.from({ length: MAX_DEPTH + 1 }, () => new NodeList());
  /** Rows of files whose tree does not hold together. */
  readonly #broken = new Set<number>();
  readonly #counter = new RunCounter();
  /** The file that the counter is at, and the logical block that its last extent ends before. */
  #current = -1;
  #end = 0;

  /** Nodes that wait to be read; those below them are not known yet. */
  get pending(): number {
    return this.below.reduce((sum, list) => sum + list.count, 0);
  }

  /** The next leaf, files one after the other and each in logical order; undefined for one that was not sound. */
  addLeaf(file: number, leaf: CountedRun | undefined): void {
    if (file !== this.#current) {
      this.#current = file;
      this.#end = 0;
      this.#counter.reset();
    }
    if (leaf === undefined || leaf.firstLogical < this.#end) return this.breakFile(file);
    this.#counter.addCounted(leaf);
    this.#end = leaf.lastLogical + leaf.lastLength;
    this.files.blocks[file] = this.#counter.blocks;
    this.files.fragments[file] = this.#counter.fragments;
  }

  breakFile(file: number): void {
    this.#broken.add(file);
  }

  /** Hands every file over: to `sound`, or to `doubtful` where its tree does not hold together. */
  finish(sound: FileColumns, doubtful: FileColumns): void {
    for (let row = 0; row < this.files.count; row++) {
      const broken = this.#broken.has(row);
      if (broken) this.files.blocks[row] = this.files.fragments[row] = 0;
      (broken ? doubtful : sound).copy(this.files, row);
    }
  }
}

/** Whether a block that was read is the node that `list` expects in `row`, at this level above the leaves. */
function isExpected(
  view: DataView,
  at: number,
  list: NodeList,
  row: number,
  level: number,
  superblock: Superblock,
): boolean {
  return (
    checkNode(view, at, superblock.blockSize, superblock) === level &&
    entryCount(view, at) > 0 &&
    firstLogical(view, at) === list.logical[row]
  );
}

/**
 * The leaf that `list` expects in `row`, counted; undefined when the block is not that leaf.
 *
 * @param visit is told of each extent
 */
export function countLeaf(
  view: DataView,
  at: number,
  list: NodeList,
  row: number,
  superblock: Superblock,
  visit?: (logical: number, physical: number, length: number) => void,
): CountedRun | undefined {
  if (!isExpected(view, at, list, row, 0, superblock)) return undefined;
  const counter = new RunCounter();
  let [firstPhysical, lastLogical, lastPhysical, lastLength] = [-1, 0, 0, 0];
  visitExtents(view, at, (logical, physical, length) => {
    counter.add(logical, physical, length);
    visit?.(logical, physical, length);
    if (firstPhysical < 0) firstPhysical = physical;
    lastLogical = logical;
    lastPhysical = physical;
    lastLength = length;
  });
  const { blocks, fragments } = counter;
  const first = list.logical[row];
  return { firstLogical: first, firstPhysical, lastLogical, lastPhysical, lastLength, blocks, fragments };
}

/** The nodes below the index block that `list` expects in `row`; undefined when the block is not that node. */
export function listChildren(
  view: DataView,
  at: number,
  list: NodeList,
  row: number,
  level: number,
  superblock: Superblock,
): NodeList | undefined {
  if (!isExpected(view, at, list, row, level, superblock)) return undefined;
  const children = new NodeList();
  visitChildren(view, at, (logical, block) => children.push(block, logical, list.file[row]));
  return children;
}
