import { FileColumns } from '../ext4/files.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import type { ExtentTable } from '../layout/extents.ts';
import { countFragments } from '../layout/fragments.ts';
import { toBlocks } from '../layout/units.ts';
import { inDirectoryOrder } from '../move/directoryOrder.ts';
import { hasItsName, Scanner, type ScannedFile, type ScanOptions } from '../scan/scan.ts';
import { TableScan, type FileNames } from '../scan/tableScan.ts';
import type { Target } from '../scan/targets.ts';
import { clip } from './plan.ts';
import { CLUSTER, groupsOf, ORDER_RUN } from './arrange.ts';
import type { OrderList, OrderOptions } from './orderList.ts';

const SLASH = 0x2f;

/** Files that are to lie one behind the other. */
export interface Group {
  /** Of their directory, or of the list that names them. */
  readonly path: Buffer;
  /** In order. */
  readonly files: readonly ScannedFile[];
  /** They are to be in as few runs as possible, whatever has to be moved. */
  readonly whole: boolean;
}

/** Which files are to lie one behind the other. */
export interface GroupOptions extends OrderOptions {
  /**
   * Also pack the small files of each directory together, in the order in which reading the directory answers their
   * names, where they do not lie so already. Files that are contiguous by themselves are moved for that.
   */
  readonly cluster?: boolean | undefined;
}

/** The files' layouts up to the end of each: what is preallocated behind it cannot be exchanged. */
export const layoutsOf = ({ files }: Group): ExtentTable[] =>
  files.map(({ extents, size, target }) => clip(extents, toBlocks(size, target.filesystem.blockSize)));

/**
 * The groups of a target, those of the order list first; a file is in one of them only. Ends early and quietly when the
 * signal is aborted.
 *
 * @param tables the target is a whole filesystem, whose inode tables can be read
 */
export async function* groupsIn(
  target: Target,
  tables: boolean,
  order: OrderList | undefined,
  options: ScanOptions & GroupOptions,
): AsyncGenerator<Group, void, void> {
  const listed = new Set<number>();
  if (order !== undefined) {
    for await (const group of orderGroups(order, target, options)) {
      for (const { inode } of group.files) listed.add(inode);
      yield group;
    }
  }
  if (!options.cluster) return;
  for await (const group of clusterGroups(target, tables, options)) {
    const files = group.files.filter(({ inode }) => !listed.has(inode));
    if (files.length > 1) yield { ...group, files };
  }
}

/** The files of an order list, as far as they can be moved. */
async function* orderGroups(
  list: OrderList,
  target: Target,
  options: ScanOptions,
): AsyncGenerator<Group, void, void> {
  const files: ScannedFile[] = [];
  for await (const file of list.filesOf(target, options)) if (canBeMoved(file)) files.push(file);
  for (const some of groupsOf(files, ORDER_RUN))
    yield { path: list.path ?? target.argument, files: some, whole: true };
}

/** The small files of each directory, in the order in which reading it answers their names. */
async function* clusterGroups(
  target: Target,
  tables: boolean,
  options: ScanOptions,
): AsyncGenerator<Group, void, void> {
  const directories = tables ? directoriesInTables(target, options) : directoriesOnWalk(target, options);
  for await (const files of directories) {
    if (files.length < 2) continue;
    const inOrder = await inDirectoryOrder(files.map((file) => ({ file })));
    const ofSome = groupsOf(
      inOrder.map(({ file }) => file),
      CLUSTER.run,
    );
    for (const some of ofSome) {
      if (some.length > 1) yield { path: directoryOf(some[0].path), files: some, whole: false };
    }
  }
}

function canBeMoved({ immovable, extents, size, target }: ScannedFile): boolean {
  if (immovable !== undefined || extents.count === 0) return false;
  // What is preallocated behind the end cannot be moved, and would be torn off where it lies beside the rest.
  const kept = clip(extents, toBlocks(size, target.filesystem.blockSize));
  return extents.end === kept.end || countFragments(extents) > countFragments(kept);
}

const isSmall = (file: ScannedFile): boolean => file.size <= CLUSTER.file && canBeMoved(file);

const directoryOf = (path: Buffer): Buffer => path.subarray(0, Math.max(1, path.lastIndexOf(SLASH)));

/** The small files of one directory after the other. A directory is complete when something beside it is met. */
async function* directoriesOnWalk(
  target: Target,
  options: ScanOptions,
): AsyncGenerator<ScannedFile[], void, void> {
  /** From the root down, each below the one before. */
  const open: { readonly prefix: string; readonly files: ScannedFile[] }[] = [];
  for await (const item of new Scanner(options, false).scan(target)) {
    if (item.kind !== 'file') continue;
    const name = item.relative.toString('latin1');
    while (open.length > 0 && !name.startsWith(open[open.length - 1].prefix)) yield open.pop()!.files;
    if (!isSmall(item)) continue;
    const prefix = name.slice(0, name.lastIndexOf('/') + 1);
    if (open.at(-1)?.prefix !== prefix) open.push({ prefix, files: [] });
    open[open.length - 1].files.push(item);
  }
  for (const { files } of open.reverse()) yield files;
}

/** The same of a whole filesystem, without a walk: what files there are is in the inode tables, and where, in all directories. */
async function* directoriesInTables(
  target: Target,
  options: ScanOptions,
): AsyncGenerator<ScannedFile[], void, void> {
  const { signal } = options;
  const tables = await TableScan.openWhole(target, new Scanner(options, false), options);
  if (typeof tables === 'string') {
    yield* directoriesOnWalk(target, options);
    return;
  }
  try {
    const small = await smallFiles(tables);
    const wanted = tables.inodeSet();
    for (let row = 0; row < small.count; row++) wanted.add(small.inode[row]);
    const names = await tables
      .names((inode) => wanted.has(inode))
      .catch((error: unknown) => {
        if (isSystemFailure(error)) return undefined;
        throw error;
      });
    if (names === undefined) return;
    for (const rows of byDirectory(small, names)) {
      if (signal?.aborted) return;
      const files: ScannedFile[] = [];
      for await (const { item } of tables.inspect(rows.map((row) => small.at(row)))) {
        if (item.kind !== 'file' || item.handle === undefined || !isSmall(item)) continue;
        const { inode } = item;
        const file = {
          ...item,
          relative: names.relativePath(inode),
          path: names.pathOf(target, inode),
          handle: { ...item.handle, parent: names.parentOf(inode) },
        };
        // Who excludes files does so by their names, and it may have got another since.
        if ((options.exclude ?? []).length === 0 || (await hasItsName(file))) files.push(file);
      }
      yield files;
    }
  } finally {
    await tables.close();
  }
}

async function smallFiles(tables: TableScan): Promise<FileColumns> {
  const small = new FileColumns(0);
  for await (const { contiguous, confirmed } of tables.batches()) {
    for (let row = 0; row < contiguous.count; row++) {
      if (contiguous.size[row] <= CLUSTER.file) small.copy(contiguous, row);
    }
    for (const { inode, handle, size } of confirmed) {
      if (size <= CLUSTER.file) small.push(inode, handle?.generation ?? 0, size, 0, 0, 1);
    }
  }
  return small;
}

/** The rows of the files of each directory that has several, by inode number. */
function* byDirectory(files: FileColumns, names: FileNames): Iterable<number[]> {
  // 0 is no inode's number.
  const parents = Uint32Array.from(
    files.inode.subarray(0, files.count),
    (inode) => names.parentOf(inode) ?? 0,
  );
  const order = Uint32Array.from(parents.keys()).sort(
    (a, b) => parents[a] - parents[b] || files.inode[a] - files.inode[b],
  );
  for (let first = 0; first < order.length;) {
    let end = first + 1;
    while (end < order.length && parents[order[end]] === parents[order[first]]) end++;
    if (parents[order[first]] !== 0 && end - first > 1) yield [...order.subarray(first, end)];
    first = end;
  }
}
