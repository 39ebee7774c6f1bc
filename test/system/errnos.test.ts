// What EXT4_IOC_MOVE_EXT answers when the filesystem is full, a quota is reached, a page is dirty, or a file is the
// quota's own or accessed by DAX. What every kernel refuses from its arguments alone is in binding.test.ts.
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { access, mkdtemp, open, readFile, rmdir, writeFile } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test, vi, type TestContext } from 'vitest';
import { blocks, bytes, fiemap, mergeExtents, moveExtents, type MoveResult } from '../../lib/index.ts';
import { atLeast, parseKernelVersion } from '../../lib/ext4/safety.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { readahead, SYNC_RANGE, syncFileRange } from '../../lib/kernel/cache.ts';
import { O } from '../../lib/kernel/handle.ts';
import { as, NOBODY } from '../support/as.ts';
import { IN_VM, MiB, type Lab, type LabOptions } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

/** Where each block of a file lies; nothing may be a hole. */
async function places(l: Lab, fd: number): Promise<number[]> {
  const map = await fiemap(fd, l.blockSize);
  return [...map].flatMap(({ physical, length }) => [...Array(length).keys()].map((i) => physical + i));
}

const extents = async (l: Lab, fd: number) => mergeExtents(await fiemap(fd, l.blockSize)).count;

const move = (orig: number, donor: number, count: number, start = 0): Promise<MoveResult> =>
  moveExtents(orig, donor, blocks(start), blocks(start), blocks(count));

/** A file of so many written blocks, all on the disk. */
async function written(l: Lab, name: string, count: number): Promise<number> {
  await writeFile(l.path(name), randomBytes(count * l.blockSize));
  const fd = await l.open(name);
  fsyncSync(fd);
  return fd;
}

/** An unwritten file that lies in as many extents as it has blocks: each block moved from it is an extent more. */
async function scattered(l: Lab, name: string, count: number): Promise<number> {
  const fd = await l.create(name);
  await fallocate(fd, 0, bytes(0), bytes(count * l.blockSize));
  await l.fragment(name, 1);
  expect(await extents(l, fd)).toBe(count);
  return fd;
}

/** Takes whatever blocks the kernel gives, also to root. */
async function fill(l: Lab): Promise<void> {
  const fd = await l.create('fill');
  let end = 0;
  for (let step = 4096; step >= 1;) {
    try {
      await fallocate(fd, 0, bytes(end * l.blockSize), bytes(step * l.blockSize));
      end += step;
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' });
      step = Math.floor(step / 2);
    }
  }
}

interface Outcome {
  readonly code: string | undefined;
  readonly exchanged: number;
}

/**
 * Whatever the attempt did: from the first block on, what it counts was exchanged and no block behind that, and the
 * file's content is the same, in the page cache and on the disk. The filesystem is mounted anew.
 */
async function partial(
  l: Lab,
  { name, orig, donor }: { name: string; orig: number; donor: number },
  attempt: () => Promise<MoveResult>,
): Promise<Outcome> {
  const content = await readFile(l.path(name));
  const [from, to] = [await places(l, orig), await places(l, donor)];
  const { moved, error } = await attempt();
  const [got, left] = [await places(l, orig), await places(l, donor)];
  const exchanged = got.filter((at, i) => at !== from[i]).length;
  expect(got).toEqual([...to.slice(0, exchanged), ...from.slice(exchanged)]);
  expect(left).toEqual([...from.slice(0, exchanged), ...to.slice(exchanged)]);
  expect(moved).toBe(exchanged);
  // Compared here, since a difference would be printed byte by byte.
  expect((await readFile(l.path(name))).equals(content)).toBe(true);
  await l.remount();
  expect((await readFile(l.path(name))).equals(content)).toBe(true);
  return { code: error?.code, exchanged };
}

/** Two files whose every exchanged block is one extent more in the first, of which the inode itself holds four. */
async function growing(l: Lab) {
  const donor = await scattered(l, 'donor', 64);
  const orig = await written(l, 'orig', 64);
  expect(await extents(l, orig)).toBe(1);
  return { name: 'orig', orig, donor };
}

describe('the extent tree must grow', () => {
  test('ENOSPC: out of the inode, and no block is free', async () => {
    const l = await useLab({ size: 64 * MiB, mkfs: ['-m', '0'] });
    const files = await growing(l);
    await fill(l);
    const result = await partial(l, files, () => move(files.orig, files.donor, 64));
    expect(result).toEqual({ code: 'ENOSPC', exchanged: 3 });
    // With room again, the rest goes.
    const [orig, donor, filled] = [await l.open('orig'), await l.open('donor'), await l.open('fill')];
    ftruncateSync(filled, 0);
    expect(await move(orig, donor, 61, 3)).toEqual({ moved: 61, error: undefined });
  });

  test('ENOSPC: beyond a full leaf', async () => {
    const l = await useLab({ size: 64 * MiB, mkfs: ['-m', '0'] });
    const inLeaf = Math.floor((l.blockSize - 12) / 12);
    const count = inLeaf + 30;
    const donor = await scattered(l, 'donor', count);
    const orig = await written(l, 'orig', count);
    const spare = await scattered(l, 'spare', count);
    // All but the last entry of the leaf are single blocks; the last is one extent of the rest.
    expect(await move(orig, spare, inLeaf - 1)).toEqual({ moved: inLeaf - 1, error: undefined });
    expect(await extents(l, orig)).toBe(inLeaf);
    await fill(l);
    const files = { name: 'orig', orig, donor };
    const { code, exchanged } = await partial(l, files, () => move(orig, donor, count));
    expect(code).toBe('ENOSPC');
    expect(exchanged).toBe(inLeaf - 1);
  });

  test('EDQUOT: the owner has reached the quota', async (context) => {
    const l = await quotaLab(context, {
      mkfs: ['-O', 'quota', '-E', 'quotatype=usrquota'],
      mount: 'usrquota',
    });
    const { orig } = await growing(l);
    fchownSync(orig, NOBODY, NOBODY);
    await l.unmount();
    await limitToUsage(l, NOBODY);
    await l.mount();
    const files = { name: 'orig', orig: await l.open('orig'), donor: await l.open('donor') };
    const result = await partial(l, files, () => as(NOBODY, () => move(files.orig, files.donor, 64)));
    expect(result).toEqual({ code: 'EDQUOT', exchanged: 3 });
    // Limits are not for those with CAP_SYS_RESOURCE.
    const [again, donor] = [await l.open('orig'), await l.open('donor')];
    expect(await move(again, donor, 61, 3)).toEqual({ moved: 61, error: undefined });
  });
});

describe('EBUSY: a page is dirty, since it was overwritten in place', () => {
  // Four commits of the journal do not write it: data=ordered looks after newly allocated blocks only.
  test.each([{ mount: 'data=ordered' }, { mount: 'data=writeback' }])('$mount', async ({ mount }) => {
    const l = await useLab({ size: 64 * MiB, mount });
    await written(l, 'orig', 64);
    await l.remount();
    const [orig, donor] = [await l.open('orig'), await l.open('.', O.RDWR | O.TMPFILE)];
    const all = bytes(64 * l.blockSize);
    await fallocate(donor, 0, bytes(0), all);
    // Steps of this size make no large folios, of which one dirty page would make all dirty.
    await readahead(orig, bytes(0), all, bytes(128 * 1024));
    const page = Buffer.alloc(l.blockSize);
    readSync(orig, page, 0, page.length, 20 * l.blockSize);
    const result = await partial(l, { name: 'orig', orig, donor }, () => {
      writeSync(orig, page, 0, page.length, 20 * l.blockSize);
      return move(orig, donor, 64);
    });
    expect(result).toEqual({ code: 'EBUSY', exchanged: 20 });
  });

  test('and goes once it is written', async () => {
    const l = await useLab({ size: 64 * MiB });
    const orig = await written(l, 'orig', 1);
    const donor = await l.open('.', O.RDWR | O.TMPFILE);
    await fallocate(donor, 0, bytes(0), l.blockSize);
    writeSync(orig, randomBytes(l.blockSize), 0, l.blockSize, 0);
    for (let call = 0; call < 3; call++) {
      expect(await move(orig, donor, 1)).toMatchObject({ moved: 0, error: { code: 'EBUSY' } });
    }
    await syncFileRange(orig, bytes(0), l.blockSize, SYNC_RANGE.ALL);
    expect(await move(orig, donor, 1)).toEqual({ moved: 1, error: undefined });
  });
});

test('EOPNOTSUPP: a quota file', async (context) => {
  // The question was put right in 6.1.160 and 6.12.63; 5.10 was seen to exchange the blocks.
  context.skip(
    !atLeast(parseKernelVersion(release()), 6, 1),
    'kernels before 6.1.160 ask for two quota files',
  );
  for (const program of ['quotacheck', 'quotaon']) {
    const { failed } = await execa(program, ['--version'], { reject: false });
    context.skip(failed, `there is no ${program}, which is in Debian's package quota`);
  }
  // A file with a name is the quota file only without the quota feature, whose files nobody can open.
  const l = await quotaLab(context, { mount: 'usrjquota=aquota.user,jqfmt=vfsv1' });
  await execa('quotacheck', ['-cum', '-F', 'vfsv1', l.mountPoint]);
  // Open before it is immutable, which is asked of a donor only.
  const orig = await l.open('aquota.user');
  const count = Math.ceil(fstatSync(orig).size / l.blockSize);
  const donor = await l.open('.', O.RDWR | O.TMPFILE);
  await fallocate(donor, 0, bytes(0), bytes(count * l.blockSize));
  const on = await execa('quotaon', ['-u', l.mountPoint], { reject: false });
  context.skip(/not supported in kernel/.test(on.stderr), on.stderr.split('\n').at(-1));
  expect(on.exitCode).toBe(0);
  expect(await move(orig, donor, count)).toMatchObject({ moved: 0, error: { code: 'EOPNOTSUPP' } });
  await execa('quotaoff', ['-u', l.mountPoint]);
});

test('EOPNOTSUPP: DAX', async (context) => {
  // Loop devices have none. A stretch of memory can be declared persistent where the machine is the test's own.
  const declared = IN_VM && /\bmemmap=\S+!/.test(await readFile('/proc/cmdline', 'utf8'));
  context.skip(
    !declared,
    'no memory was declared persistent by memmap=SIZE!START on a VM’s kernel command line',
  );
  const device = '/dev/pmem0';
  for (const module of ['nd_e820', 'nd_pmem']) await execa('modprobe', [module]);
  await vi.waitFor(() => access(device), 10_000);
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-dax-'));
  await execa('mkfs.ext4', ['-q', '-F', '-b', '4096', device]);
  await execa('mount', ['-t', 'ext4', '-o', 'dax=always', device, folder]);
  try {
    const paths = ['orig', 'donor'].map((name) => join(folder, name));
    for (const path of paths) await writeFile(path, randomBytes(16 * 4096));
    const [orig, donor] = paths.map((path) => openSync(path, 'r+'));
    expect(await move(orig, donor, 16)).toMatchObject({ moved: 0, error: { code: 'EOPNOTSUPP' } });
    for (const fd of [orig, donor]) closeSync(fd);
  } finally {
    await execa('umount', [folder]);
    await rmdir(folder);
  }
  await execa('e2fsck', ['-fn', device]);
});

/** Mounts with quotas, or skips the test where the kernel has none. */
async function quotaLab({ skip }: TestContext, options: LabOptions): Promise<Lab> {
  return await useLab(options).catch(async (error: unknown) => {
    const { stdout } = await execa('dmesg');
    const why = /The kernel was not built with CONFIG_QUOTA.*/.exec(stdout)?.[0];
    if (why === undefined) throw error;
    return skip(why);
  });
}

/**
 * Writes into the quota file of an unmounted lab that a user may have no more blocks than there are now: its format
 * (fs/quota/quotaio_v2.h, quota_tree.h) is a tree over the four bytes of the user's number, of 1 KiB blocks.
 */
async function limitToUsage(l: Lab, user: number): Promise<void> {
  const USER_QUOTA_INODE = 3;
  const [BLOCK, HEADER, RECORD] = [1024, 16, 72];
  const FIELD = { id: 0, hardLimit: 32, usage: 48 };
  const { stdout } = await execa('debugfs', ['-R', `cat <${USER_QUOTA_INODE}>`, l.image], {
    encoding: 'buffer',
  });
  const file = Buffer.from(stdout);
  let block = 1;
  for (const shift of [24, 16, 8, 0])
    block = file.readUInt32LE(block * BLOCK + ((user >>> shift) & 0xff) * 4);
  expect(block).not.toBe(0);
  let at = block * BLOCK + HEADER;
  while (file.readUInt32LE(at + FIELD.id) !== user) at += RECORD;
  const limit = Buffer.alloc(8);
  limit.writeBigUInt64LE(file.readBigUInt64LE(at + FIELD.usage) / 1024n);
  const logical = Math.floor((at + FIELD.hardLimit) / l.blockSize);
  const map = await execa('debugfs', ['-R', `bmap <${USER_QUOTA_INODE}> ${logical}`, l.image]);
  const image = await open(l.image, 'r+');
  await image.write(limit, 0, 8, Number(map.stdout) * l.blockSize + ((at + FIELD.hardLimit) % l.blockSize));
  await image.close();
}
