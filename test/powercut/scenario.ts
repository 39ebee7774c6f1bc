import { randomUUID } from 'node:crypto';
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { AT_FDCWD, closeFd, O, openAt } from '../../lib/kernel/handle.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';
import { encodeRecord, MARK, RECORD } from './record.ts';

const MiB = 1024 * 1024;

/** Bytes of the filesystem, and of the device: behind it are the marks of what was acknowledged, and the mover's notes. */
export const FILESYSTEM = 64 * MiB;
export const DEVICE = FILESYSTEM + MiB;
export const MARKS = { offset: FILESYSTEM, length: 64 * MARK };
export const NOTE = MARKS.offset + MARKS.length;

export const MOVERS = ['ext4-defrag', 'no-barrier', 'e4defrag'] as const;
export type Mover = (typeof MOVERS)[number];
export const DATA = ['ordered', 'writeback'] as const;
export const BLOCK_SIZES = [1024, 4096] as const;

/** A filesystem, and what happens on it. */
export interface Scenario {
  readonly mover: Mover;
  readonly data: (typeof DATA)[number];
  readonly blockSize: (typeof BLOCK_SIZES)[number];
}

export const nameOf = ({ mover, data, blockSize }: Scenario): string => `${mover}-${data}-${blockSize}`;

/** Of each file its number, after the way in which it is synced; nobody writes to those that are called still. */
const WRITTEN = ['fdatasync-1', 'fsync-2', 'dsync-3', 'direct-4', 'msync-5'];
const STILL = [20, 21, 22, 23].map((file) => `still-${file}`);
const CHURN = 'churn-100';
/** In bytes: each file's size, and the length of its fragments. */
const FILE = { size: 2 * MiB, fragment: 16 * 1024 };

export const numberOf = (name: string): number => Number(/-(\d+)$/.exec(name)?.[1]);
/** Files that hold records from the beginning, in every slot. */
export const BASE_FILES = [...WRITTEN, ...STILL];
export const SLOTS = FILE.size / RECORD;

/** Makes the device's image with fragmented files of records. */
export async function makeImage(image: string, { blockSize }: Scenario): Promise<void> {
  const mountPoint = `/tmp/ext4-defrag-powercut-${randomUUID()}`;
  await writeFile(image, '');
  await truncate(image, DEVICE);
  await execa('mkfs.ext4', [
    ...['-q', '-F', '-b', String(blockSize), '-J', 'size=4', '-m', '0'],
    ...['-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard', image, `${FILESYSTEM / 1024}k`],
  ]);
  await mkdir(mountPoint);
  try {
    await execa('mount', ['-o', 'loop', image, mountPoint]);
    try {
      for (const name of BASE_FILES) await makeFile(join(mountPoint, name), mountPoint, blockSize);
    } finally {
      await execa('umount', [mountPoint]);
    }
  } finally {
    await rm(mountPoint, { recursive: true });
  }
}

async function makeFile(path: string, folder: string, blockSize: number): Promise<void> {
  const file = numberOf(path);
  const slots = Array.from({ length: SLOTS }, (_, slot) => encodeRecord({ file, slot, sequence: 0 }));
  await writeFile(path, Buffer.concat(slots));
  const [fd, dirFd] = await Promise.all(
    [path, folder].map((name) => openAt(AT_FDCWD, Buffer.from(name), name === path ? O.RDWR : O.RDONLY)),
  );
  await fragmentFile(fd, dirFd, bytes(blockSize), () => blocks(FILE.fragment / blockSize));
  await Promise.all([closeFd(fd), closeFd(dirFd)]);
}

/** What the guest does with one disk: the applications work, the mover comes and goes, the applications end. */
export function guestLines({ mover, data }: Scenario, disk: number, seed: number): string {
  const [device, folder] = [`/dev/extra${disk}`, `/scratch/disk${disk}`];
  const names = [...WRITTEN, CHURN].join(' ');
  return [
    `mkdir -p ${folder} && mount -o data=${data} ${device} ${folder}`,
    `build/test/records ${device} ${MARKS.offset} ${seed + disk} ${folder} ${names} & records${disk}=$!`,
    `tsx test/powercut/mover.ts ${mover} ${folder} ${device} ${NOTE}`,
    `kill -TERM $records${disk}; wait $records${disk}`,
    `umount ${folder}`,
  ].join(' && ');
}
