// ext4 images made without root and without mounting them.
import { truncate, writeFile } from 'node:fs/promises';
import { runProgram } from './host.ts';
import { treeSize } from './tree.ts';

export interface Ext4Image {
  readonly image: string;
  /** The folder whose content the image gets; none for an empty one. */
  readonly from?: string;
  /** How much room is left in it; sparse, so it costs the host nothing. */
  readonly freeBytes: number;
  readonly label: string;
}

export async function makeExt4({ image, from, freeBytes, label }: Ext4Image): Promise<void> {
  const content = from === undefined ? { bytes: 0, files: 0 } : await treeSize(from);
  // 3 % and 32 MiB: room for inode tables, group descriptors, the journal and half-filled blocks.
  const size =
    Math.ceil((content.bytes * 1.03 + content.files * 4096 + freeBytes + 32 * 2 ** 20) / 4096) * 4096;
  await writeFile(image, '');
  await truncate(image, size);
  await runProgram(`making the ${label} disk`, 'mke2fs', [
    ...['-q', '-F', '-t', 'ext4', '-b', '4096', '-m', '0', '-L', label],
    ...['-N', String(content.files + 65_536)],
    // With these the image stays sparse, here and while it is mounted.
    ...['-E', 'root_owner=0:0,lazy_itable_init=1,nodiscard'],
    ...(from === undefined ? [] : ['-d', from]),
    image,
  ]);
}
