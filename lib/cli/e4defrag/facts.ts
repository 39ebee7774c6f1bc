import { fiemap, FIEMAP_FLAG_SYNC } from '../../kernel/fiemap.ts';
import { AT_FDCWD, closeFd, O, openAt } from '../../kernel/handle.ts';
import type { ExtentTable } from '../../layout/extents.ts';
import { bytes } from '../../layout/units.ts';
import { check } from '../../scan/check.ts';
import type { FileEvent, Named } from '../../report/events.ts';
import type { E4defragFacts } from '../../report/e4defrag.ts';

/** The longest extent that ext4 can store is 32768 blocks long, an unwritten one a block less. */
const LONGEST_EXTENT = 32_767;

export const pathOf = ({ path, pathBytes }: Named): string | Buffer => pathBytes ?? path;

/** A file's extents as FIEMAP tells them, unmerged: e4defrag counts those. */
export async function rawExtents(file: Named, blockSize: number): Promise<ExtentTable> {
  const fd = await openAt(AT_FDCWD, Buffer.from(pathOf(file)), O.RDONLY | O.NONBLOCK | O.NOFOLLOW);
  try {
    return await fiemap(fd, bytes(blockSize), { flags: FIEMAP_FLAG_SYNC });
  } finally {
    await closeFd(fd);
  }
}

/** The facts of a checked file. Only where an extent may be as long as can be does merging change the count. */
export async function factsOf(file: FileEvent, blockSize: number): Promise<E4defragFacts> {
  const { extents, idealFragments: best, blocks } = file;
  if (blocks < LONGEST_EXTENT) return { now: extents, best, blocks };
  const raw = await rawExtents(file, blockSize).catch(() => undefined);
  return { now: raw?.count ?? extents, best, blocks };
}

/** The facts of a file that a run left alone and told nothing of; undefined when it has no layout to speak of. */
export async function lookAt(file: Named, blockSize: number): Promise<E4defragFacts | undefined> {
  for await (const event of check([pathOf(file)])) {
    if (event.type === 'file') return factsOf(event, blockSize);
  }
  return undefined;
}
