// How files and free space of a lab lie, and what a run made of that.
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { execa } from 'execa';
import { fiemap, FIEMAP_FLAG_SYNC } from '../../lib/kernel/fiemap.ts';
import { fsmap } from '../../lib/kernel/fsmap.ts';
import { mergeExtents, type ExtentTable } from '../../lib/layout/extents.ts';
import { countFragments, fragmentLengths, fragmentStarts } from '../../lib/layout/fragments.ts';
import type { Bytes } from '../../lib/layout/units.ts';
import { MiB, type Lab } from './lab.ts';

/** Bytes of a fragment that is as good as a whole file: the default of `defrag`, on devices that do not turn. */
const LONG_ENOUGH = 8 * MiB;

/** Until then what was freed can be neither seen nor allocated. */
export const commit = (lab: Lab) => execa('sync', ['-f', lab.mountPoint]);

/** How a filesystem's files and free space lie. */
export interface Layout {
  /** By name, merged. */
  readonly files: ReadonlyMap<string, ExtentTable>;
  /** Bytes of files. */
  readonly bytes: number;
  /** Those in fragments that are neither a whole file nor long enough. */
  readonly fragmentedBytes: number;
  readonly free: { readonly bytes: number; readonly runs: number; readonly longest: number };
}

/** A file's extents, merged, all of it written out. */
export async function extentsOf(lab: Lab, name: string): Promise<ExtentTable> {
  const fd = openSync(lab.path(name), 'r');
  try {
    return mergeExtents(await fiemap(fd, lab.blockSize, { flags: FIEMAP_FLAG_SYNC }));
  } finally {
    closeSync(fd);
  }
}

export async function layoutOf(lab: Lab, names: readonly string[]): Promise<Layout> {
  const { blockSize } = lab;
  const files = new Map<string, ExtentTable>();
  const sum = { bytes: 0, fragmentedBytes: 0 };
  for (const name of names) {
    const extents = await extentsOf(lab, name);
    files.set(name, extents);
    sum.bytes += extents.blocks * blockSize;
    sum.fragmentedBytes += count(inShortFragments(extents, blockSize)) * blockSize;
  }
  return { ...sum, files, free: await freeSpace(lab) };
}

const count = (marks: Uint8Array): number => marks.reduce((sum, mark) => sum + mark, 0);

/** For each logical block whether it lies in a fragment that is neither the whole file nor long enough: 1 or 0. */
function inShortFragments(extents: ExtentTable, blockSize: Bytes): Uint8Array {
  const marks = new Uint8Array(extents.end);
  const starts = fragmentStarts(extents);
  const lengths = fragmentLengths(extents, starts);
  if (lengths.length < 2) return marks;
  for (const [fragment, length] of lengths.entries()) {
    if (length * blockSize >= LONG_ENOUGH) continue;
    for (let i = starts[fragment]; i < starts[fragment + 1]; i++) {
      marks.fill(1, extents.logical[i], extents.logical[i] + extents.length[i]);
    }
  }
  return marks;
}

/** Files that have a fragment which is too short. */
export function* shortFiles(
  { files }: Pick<Layout, 'files'>,
  blockSize: Bytes,
): Generator<string, void, void> {
  for (const [name, extents] of files) if (inShortFragments(extents, blockSize).includes(1)) yield name;
}

/** 1 for each block of the device that is committed as free, and 0 for each other. */
export async function freeMap(lab: Lab): Promise<Uint8Array> {
  await commit(lab);
  const fd = openSync(lab.mountPoint, 'r');
  const records = await fsmap(fd, lab.blockSize);
  closeSync(fd);
  // An end that is in use, so that every run ends.
  const map = new Uint8Array(records.end + 1);
  for (const { start, length, use } of records) if (use === 'free') map.fill(1, start, start + length);
  return map;
}

/** Lengths in bytes of the runs of blocks that are free. */
export async function freeRuns(lab: Lab): Promise<number[]> {
  const map = await freeMap(lab);
  const lengths: number[] = [];
  for (let at = map.indexOf(1); at >= 0;) {
    const end = map.indexOf(0, at);
    lengths.push((end - at) * lab.blockSize);
    at = map.indexOf(1, end);
  }
  return lengths;
}

async function freeSpace(lab: Lab): Promise<Layout['free']> {
  const map = await freeMap(lab);
  const free = { bytes: count(map) * lab.blockSize, runs: 0, longest: 0 };
  for (let at = map.indexOf(1); at >= 0;) {
    const end = map.indexOf(0, at);
    free.runs++;
    free.longest = Math.max(free.longest, (end - at) * lab.blockSize);
    at = map.indexOf(1, end);
  }
  return free;
}

/** What became of a layout. */
export interface Change {
  /** The share of the formerly fragmented bytes that now lie in fragments that are long enough or a whole file. */
  readonly cured: number;
  /** How many files have fewer fragments. */
  readonly improved: number;
  /** Files that have more of them. */
  readonly worse: readonly string[];
}

export function changeOf(
  before: Pick<Layout, 'files'>,
  after: Pick<Layout, 'files'>,
  blockSize: Bytes,
): Change {
  let [fragmented, cured, improved] = [0, 0, 0];
  const worse: string[] = [];
  for (const [name, was] of before.files) {
    const is = after.files.get(name)!;
    const [wasShort, isShort] = [inShortFragments(was, blockSize), inShortFragments(is, blockSize)];
    for (const [block, mark] of wasShort.entries()) {
      fragmented += mark;
      cured += mark & (isShort[block] ^ 1);
    }
    const gain = countFragments(was) - countFragments(is);
    if (gain > 0) improved++;
    if (gain < 0) worse.push(name);
  }
  return { cured: cured / fragmented, improved, worse };
}

/**
 * What defragmenting must leave as it is, for each file: content, size, times and mode. Reads everything; MD5 because it
 * is fast without support by the processor, and nobody forges these files.
 */
export function contentsOf(lab: Lab, names: readonly string[]): Map<string, string> {
  const buffer = Buffer.alloc(MiB);
  return new Map(
    names.map((name) => {
      const hash = createHash('md5');
      const fd = openSync(lab.path(name), 'r');
      const { size, mtimeNs, ctimeNs, mode } = fstatSync(fd, { bigint: true });
      for (let read = readSync(fd, buffer); read > 0; read = readSync(fd, buffer)) {
        hash.update(buffer.subarray(0, read));
      }
      closeSync(fd);
      return [name, `${hash.digest('hex')} ${size} ${mtimeNs} ${ctimeNs} ${mode}`];
    }),
  );
}
