import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cpio, fileMode, folderMode, linkMode } from './cpio.ts';
import type { Kernel } from './kernels.ts';
import { loadOrder } from './modules.ts';

/** What it takes to reach the disks and the host. What else a test wants, it loads with modprobe. */
const modules = [
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  'virtio_rng',
  'crc32c_generic',
  'crc32c_intel',
  'ext4',
];

const guestScript = (name: string) => readFile(new URL(`guest/${name}`, import.meta.url));

/** The initramfs with the job in it; a probe of the accelerator has none. */
export async function initramfs(kernel: Kernel, busybox: string, job?: string): Promise<Buffer> {
  const paths = loadOrder(await readFile(join(kernel.modules, 'modules.dep'), 'utf8'), modules);
  const inserted = await Promise.all(paths.map((path) => readFile(join(kernel.modules, path))));
  const numbered = inserted.map((data, index) => ({
    path: `modules/${String(index).padStart(2, '0')}-${paths[index]?.split('/').at(-1)}`,
    mode: fileMode,
    data,
  }));
  return cpio([
    ...['bin', 'dev', 'proc', 'sys', 'root', 'modules', 'vm'].map((path) => ({ path, mode: folderMode })),
    { path: 'bin/busybox', mode: fileMode, data: await readFile(busybox) },
    { path: 'bin/sh', mode: linkMode, data: 'busybox' },
    { path: 'init', mode: fileMode, data: await guestScript('init.sh') },
    { path: 'vm/run', mode: fileMode, data: await guestScript('run.sh') },
    ...numbered,
    ...(job === undefined ? [] : [{ path: 'vm/job', mode: fileMode, data: job }]),
  ]);
}
