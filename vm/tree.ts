// Folders that become disks.
import { constants, existsSync } from 'node:fs';
import { copyFile, lstat, mkdir, readdir, readlink, symlink } from 'node:fs/promises';
import { join } from 'node:path';

export async function treeSize(folder: string): Promise<{ bytes: number; files: number }> {
  let bytes = 0;
  const names = await readdir(folder, { recursive: true });
  for (const name of names) bytes += (await lstat(join(folder, name))).size;
  return { bytes, files: names.length };
}

/** Copies a tree except what `leaveOut` names; by reflink where the filesystem can. Sockets and such are not copied. */
export async function copyTree(
  from: string,
  to: string,
  leaveOut: (path: string) => boolean,
  path = '',
): Promise<void> {
  await mkdir(join(to, path), { recursive: true });
  for (const entry of await readdir(join(from, path), { withFileTypes: true })) {
    const inside = join(path, entry.name);
    if (leaveOut(inside)) continue;
    if (entry.isDirectory()) await copyTree(from, to, leaveOut, inside);
    else if (entry.isSymbolicLink()) await symlink(await readlink(join(from, inside)), join(to, inside));
    else if (entry.isFile()) await copyFile(join(from, inside), join(to, inside), constants.COPYFILE_FICLONE);
  }
}

/** Copies one file to the same path below `root`, with the folders above it. */
export async function copyInto(root: string, from: string, path = from): Promise<void> {
  const target = join(root, path);
  if (existsSync(target)) return;
  await mkdir(join(target, '..'), { recursive: true });
  await copyFile(from, target, constants.COPYFILE_FICLONE);
}
