import { fallocate, openTemporary } from '../kernel/allocate.ts';
import { FADV, fadvise, readahead, SYNC_RANGE, syncFileRange } from '../kernel/cache.ts';
import { closeFd, fsyncFd, statFd } from '../kernel/handle.ts';
import { moveExtents } from '../kernel/moveExtent.ts';
import { blocks, bytes, toBlocks, toBytes, type Blocks, type Bytes } from '../layout/units.ts';

/**
 * The mover used backwards, to make fixtures: exchanges every other stretch of an open file with a second contiguous
 * area, so that it lies in fragments of exactly the lengths asked for. The content does not change.
 *
 * @param dirFd a directory of the file's filesystem
 * @param nextRun how long the next fragment shall be, asked anew for each
 */
export async function fragmentFile(
  fd: number,
  dirFd: number,
  blockSize: Bytes,
  nextRun: () => Blocks,
): Promise<void> {
  const size = bytes(Number((await statFd(fd)).size));
  const end = toBlocks(size, blockSize);
  const donor = await openTemporary(dirFd);
  try {
    await fallocate(donor, 0, bytes(0), toBytes(end, blockSize));
    await fsyncFd(fd);
    // Cold pages would be read one by one, and large folios be committed one by one.
    await fadvise(fd, bytes(0), bytes(0), FADV.DONTNEED);
    await readahead(fd, bytes(0), size, bytes(128 * 1024));
    for (let at = nextRun() as number; at < end;) {
      const count = blocks(Math.min(nextRun(), end - at));
      const { error } = await moveExtents(fd, donor, blocks(at), blocks(at), count);
      // A hole has nothing to exchange.
      if (error !== undefined && error.code !== 'ENODATA') throw error;
      at += count + nextRun();
    }
    await syncFileRange(fd, bytes(0), bytes(0), SYNC_RANGE.ALL);
    await fsyncFd(dirFd);
  } finally {
    await closeFd(donor);
  }
}
