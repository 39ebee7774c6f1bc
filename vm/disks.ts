// The disks of one run.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeExt4 } from './ext4.ts';
import type { Disk } from './qemu.ts';
import { copyTree } from './tree.ts';

const scratchBytes = 16 * 2 ** 30;
const projectFreeBytes = 256 * 2 ** 20;
/** What is on the root disk already, what no test reads, and what lies between sources and addon. */
const leftOut = new Set([
  'node_modules',
  '.git',
  'coverage',
  ...['obj.target', 'obj', '.deps'].map((name) => join('build', 'Release', name)),
  join('build', 'node_gyp_bins'),
]);

/** The project's working tree as it is now, and the build results in it. */
export async function projectDisk(project: string, folder: string): Promise<Disk> {
  const tree = join(folder, 'project');
  const file = join(folder, 'project.ext4');
  await copyTree(project, tree, (path) => leftOut.has(path));
  await mkdir(join(tree, 'node_modules'));
  await makeExt4({ image: file, from: tree, freeBytes: projectFreeBytes, label: 'project' });
  await rm(tree, { recursive: true });
  return { serial: 'project', file, discardWrites: false };
}

/** Room for the images that tests make. It is sparse, and gone with the run's folder. */
export async function scratchDisk(folder: string): Promise<Disk> {
  const file = join(folder, 'scratch.ext4');
  await makeExt4({ image: file, freeBytes: scratchBytes, label: 'scratch' });
  return { serial: 'scratch', file, discardWrites: false };
}
