// Every kind of ext4 that mke2fs and mount make: a file of it becomes contiguous, or is refused by name.
import { randomBytes } from 'node:crypto';
import { fsyncSync, writeSync } from 'node:fs';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, onTestFinished, test, type TestContext } from 'vitest';
import { check, defragment, type CheckSummary, type DefragEvent } from '../../lib/index.ts';
import type { Reason } from '../../lib/scan/reasons.ts';
import { filefrag, identify, MiB, VM_SHARE, type Lab, type LabOptions } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

interface Variety extends LabOptions {
  readonly what: string;
  /** What the command says when it refuses all of it, with exit code 3. */
  readonly refused?: RegExp;
  /** The option that does it all the same. */
  readonly override?: 'allowNoJournal' | 'allowFastCommit';
  /** Why the file is left alone. */
  readonly left?: Reason;
  /** The kernel need not be built with it, or is too old. */
  readonly optional?: true;
  /** Something else than a mount of the image as mke2fs has made it. */
  readonly prepare?: (l: Lab) => Promise<unknown>;
  /** Where the file is. */
  readonly folder?: string;
}

const features = (names: string, more: Partial<Variety> = {}): Variety => ({
  what: `-O ${names}`,
  mkfs: ['-O', names],
  ...more,
});

const mounted = (mount: string, more: Partial<Variety> = {}): Variety => ({
  what: `mount -o ${mount}`,
  mount,
  ...more,
});

const NO_JOURNAL = { refused: /it has no journal/, override: 'allowNoJournal' } as const;
const NO_EXTENTS = { refused: /it has no extents/ } as const;
const NO_EXCHANGE =
  /the kernel does not exchange blocks on this filesystem \(EXT4_IOC_MOVE_EXT: EOPNOTSUPP\)/;

const VARIETIES: Variety[] = [
  { what: 'what mke2fs makes by default' },
  { what: 'blocks of 1 KiB', blockSize: 1024 },
  { what: 'blocks of 2 KiB, inodes of 128 bytes', blockSize: 2048, mkfs: ['-I', '128'] },
  { what: 'inodes of 512 bytes', mkfs: ['-I', '512'] },
  { what: 'flex groups of four', blockSize: 1024, mkfs: ['-G', '4'] },
  features('^flex_bg', { blockSize: 1024 }),
  features('meta_bg,^resize_inode', { blockSize: 1024 }),
  features('^64bit'),
  features('^64bit,^metadata_csum,uninit_bg'),
  features('^64bit,^metadata_csum,^uninit_bg', { blockSize: 1024 }),
  features('metadata_csum_seed'),
  features('sparse_super2'),
  features('^sparse_super,^resize_inode', { blockSize: 1024 }),
  features('orphan_file', { optional: true }),
  features('large_dir,ea_inode'),
  features('^filetype'),
  features('^huge_file,^dir_nlink,^extra_isize,^dir_index'),
  features('inline_data'),
  features('quota', { optional: true }),
  features('quota,project', {
    mkfs: ['-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
    optional: true,
  }),
  features('quota,project', {
    what: 'a project’s quota, in force',
    mkfs: ['-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
    mount: 'prjquota',
    optional: true,
    folder: 'project',
    prepare: (l) => execa('chattr', ['-p', '42', '+P', l.path('project')]),
  }),
  features('encrypt', { optional: true }),
  features('encrypt', {
    what: '-O encrypt, files encrypted',
    mount: 'test_dummy_encryption',
    optional: true,
    refused: NO_EXCHANGE,
  }),
  features('verity', { optional: true }),
  features('casefold', {
    optional: true,
    folder: 'folded',
    prepare: (l) => execa('chattr', ['+F', l.path('folded')]),
  }),
  features('bigalloc', { refused: /bigalloc/ }),
  features('bigalloc', {
    what: 'bigalloc of 1 KiB blocks',
    blockSize: 1024,
    mkfs: ['-O', 'bigalloc', '-C', '8192'],
    refused: /bigalloc/,
  }),
  features('fast_commit', { refused: /fast_commit feature/, override: 'allowFastCommit' }),
  features('^has_journal', NO_JOURNAL),
  { what: 'ext2', mkfs: ['-t', 'ext2'], ...NO_EXTENTS },
  { what: 'ext3', mkfs: ['-t', 'ext3'], ...NO_EXTENTS },
  {
    what: 'ext3 made an ext4: what was there before has no extents',
    mkfs: ['-t', 'ext3'],
    left: 'no-extents',
    prepare: async (l) => {
      await l.unmount();
      await execa('tune2fs', ['-O', 'extents', l.image]);
      await l.mount();
    },
  },
  mounted('data=journal', { refused: /mounted with data=journal/ }),
  mounted('data=writeback'),
  mounted('data=ordered,journal_checksum,data_err=abort'),
  mounted('data=writeback,journal_async_commit'),
  mounted('nodelalloc,dioread_lock'),
  mounted('discard,stripe=16'),
  mounted('sync,dirsync'),
  mounted('nobarrier,noauto_da_alloc,commit=60,lazytime'),
  mounted('noinit_itable,nombcache,block_validity'),
  {
    what: 'a directory of which the kernel journals the data (chattr +j)',
    folder: 'journalled',
    prepare: (l) => execa('chattr', ['+j', l.path('journalled')]),
    optional: true,
    left: 'journalled-data',
  },
  {
    what: 'a directory written at once and with no access times (chattr +SDA)',
    folder: 'synchronous',
    prepare: (l) => execa('chattr', ['+SDA', l.path('synchronous')]),
  },
];

test.skipIf(VM_SHARE)('a journal on another device', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-journal-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const image = join(folder, 'journal');
  await writeFile(image, '');
  await truncate(image, 16 * MiB);
  await execa('mke2fs', ['-q', '-F', '-b', '4096', '-O', 'journal_dev', image]);
  const { stdout: device } = await execa('losetup', ['--find', '--show', image]);
  onTestFinished(async () => void (await execa('losetup', ['--detach', device])));
  const l = await useLab({ size: 128 * MiB, mkfs: ['-J', `device=${device}`] });
  await interleaved(l, 'file');
  const before = await identify(l.path('file'));
  const events = await collect(defragment([l.mountPoint], { full: true }));
  expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: 2, failed: 0 });
  expect(await filefrag(l.path('file'))).toBe(1);
  expect(await identify(l.path('file'))).toEqual(before);
});

/** A lab, unless the kernel does not know what it is to have. */
async function labOf(context: TestContext, { what, optional, ...options }: Variety): Promise<Lab> {
  try {
    return await useLab({ size: 128 * MiB, ...options });
  } catch (error) {
    const text = String(error);
    if (optional && /mount(ing)?\b/.test(text)) context.skip(`this kernel does not mount ${what}`);
    throw error;
  }
}

async function collect(events: AsyncIterable<DefragEvent>): Promise<DefragEvent[]> {
  const all: DefragEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const summaryOf = async (target: string, everyFile: boolean): Promise<CheckSummary> => {
  for await (const event of check([target], { everyFile })) if (event.type === 'summary') return event;
  throw new Error('no summary');
};

/** A file in pieces, made by what every ext4 can do: two files grow in turn. */
async function interleaved(l: Lab, name: string): Promise<void> {
  const [fd, other] = [await l.create(name), await l.create(`${name}.other`)];
  for (let i = 0; i < 8; i++) {
    for (const one of [fd, other]) {
      writeSync(one, randomBytes(64 * 1024));
      fsyncSync(one);
    }
  }
}

test.for(VM_SHARE ? VARIETIES.filter(({ optional }) => optional) : VARIETIES)(
  '$what',
  async (variety, context) => {
    const { refused, override, left, prepare, optional, folder = '.' } = variety;
    const l = await labOf(context, variety);
    await mkdir(l.path(folder), { recursive: true });
    const early = left === 'no-extents';
    if (early) await interleaved(l, join(folder, 'file'));
    try {
      await prepare?.(l);
    } catch (error) {
      // CAP_SYS_RESOURCE for +j, which not every root has.
      if (optional && /not permitted|not supported/.test(String(error)))
        context.skip(`it cannot be made here: ${String(error)}`);
      throw error;
    }
    const path = l.path(folder, 'file');
    if (!early) await interleaved(l, join(folder, 'file'));
    // Where the allocator gave each of them room to grow.
    for (const name of ['file', 'file.other']) {
      if ((await filefrag(l.path(folder, name))) === 1) await l.fragment(join(folder, name), 16);
    }
    await l.remount();
    const [before, pieces] = [await identify(path), await filefrag(path)];
    expect(pieces).toBeGreaterThan(1);
    // It can be looked at in any case, both ways.
    const [tables, walk] = [await summaryOf(l.mountPoint, false), await summaryOf(l.mountPoint, true)];
    const { fragments, files, fragmentedFiles } = walk;
    expect(tables).toMatchObject({ fragments, files, fragmentedFiles, failed: 0 });
    expect(files).toBe(2);
    const options = { full: true };
    if (refused !== undefined) {
      const { exitCode, stderr } = await execa(process.execPath, [CLI, '--no-state', l.mountPoint], {
        reject: false,
      });
      expect(stderr).toMatch(refused);
      expect(exitCode).toBe(3);
      expect(await filefrag(path)).toBe(pieces);
      expect(await identify(path)).toEqual(before);
      if (override === undefined) return;
    }
    const target = folder === '.' ? l.mountPoint : l.path(folder);
    const events = await collect(
      defragment([target], { ...options, ...(override !== undefined && { [override]: true }) }),
    );
    if (left === undefined) {
      expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: 2, failed: 0 });
      expect(await filefrag(path)).toBe(1);
    } else {
      expect(events).toContainEqual(expect.objectContaining({ type: 'skip', path, reason: left }));
      expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: 0, failed: 0 });
    }
    expect(await identify(path)).toEqual(before);
    await l.remount();
    expect(await identify(path)).toEqual(before);
  },
);
