// Where one file lies, by the system call itself: a line for each extent, as filefrag -v has them.
//
//   node examples/extents.mjs FILE
import { open, statfs } from 'node:fs/promises';
import { bytes, countFragments, EXTENT_FLAG, fiemap, FIEMAP_FLAG_SYNC, mergeExtents } from 'ext4-defrag';

const [path] = process.argv.slice(2);
if (path === undefined) {
  console.error('extents: name a file');
  process.exit(2);
}

const blockSize = bytes((await statfs(path)).bsize);
const file = await open(path);
try {
  const extents = mergeExtents(await fiemap(file.fd, blockSize, { flags: FIEMAP_FLAG_SYNC }));
  for (const { logical, physical, length, flags } of extents) {
    console.log(`${logical}\t${physical}\t${length}${flags & EXTENT_FLAG.UNWRITTEN ? '\tunwritten' : ''}`);
  }
  console.log(`${extents.count} extents, ${countFragments(extents)} fragments`);
} finally {
  await file.close();
}
