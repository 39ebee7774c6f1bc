// Filesystems that lose power later: made here, at full speed, and moved in the guest.
import { closeSync, openSync } from 'node:fs';
import { mkdir, rm, rmdir, truncate, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { closeFd, O, openAt, AT_FDCWD } from '../../lib/kernel/handle.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';

const MiB = 1024 * 1024;
/** Of the filesystem; behind it is room for the marks of test/support/records.c. */
export const FILESYSTEM = 96 * MiB;
export const DISK = FILESYSTEM + 2 * MiB;
/** As in test/support/records.c. */
export const FILES = { written: 5, appended: 4, all: 25 };

export const RECORDS = fileURLToPath(new URL('../../build/test/records', import.meta.url));

/** Blocks of the fragments: more of them than an inode holds, so that trees are deep (kernel-facts 1.3). */
const RUN = 4;

/** Makes a disk with files in fragments, each block of which says where it belongs. */
export async function makeDisk(image: string, blockSize: number): Promise<void> {
  const mountPoint = `${image}.mnt`;
  await writeFile(image, '');
  await truncate(image, DISK);
  const options = ['-b', String(blockSize), '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0'];
  await execa('mkfs.ext4', ['-q', '-F', ...options, image, `${FILESYSTEM / 1024}k`]);
  await mkdir(mountPoint);
  await execa('mount', ['-o', 'loop', image, mountPoint]);
  try {
    await execa(RECORDS, ['make', mountPoint, String(blockSize)]);
    const dirFd = await openAt(AT_FDCWD, Buffer.from(mountPoint), O.RDONLY);
    for (let i = 0; i < FILES.all; i++) {
      if (i === FILES.appended) continue;
      const fd = openSync(`${mountPoint}/file${i}`, 'r+');
      await fragmentFile(fd, dirFd, bytes(blockSize), () => blocks(RUN * (4096 / blockSize)));
      closeSync(fd);
    }
    await closeFd(dirFd);
  } finally {
    await execa('umount', [mountPoint]);
    await rmdir(mountPoint);
  }
  await rm(`${image}.log`, { force: true });
  await writeFile(`${image}.log`, '');
}
