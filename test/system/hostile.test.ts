import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  chown,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  open,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { check, defragment, type CheckEvent, type DefragEvent } from '../../lib/index.ts';
import { closeFd, O, openByHandle, statFd } from '../../lib/kernel/handle.ts';
import { blocks } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';
import { openForMove, Scanner } from '../../lib/scan/scan.ts';
import { openTarget } from '../../lib/scan/targets.ts';
import { NOBODY } from '../support/as.ts';
import { whileExchanging, witnessed } from '../support/hostile.ts';
import { filefrag, identify, IN_VM, MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const KiB = 1024;

/** The command; what hangs, on a FIFO for example, is ended and has no exit code. */
const run = (args: readonly string[], options: Options = {}) =>
  execa(process.execPath, [CLI, ...args], { reject: false, timeout: 60_000, ...options }) as Promise<{
    exitCode: number;
    stdout: string;
    stderr: string;
  }>;

const summaryOf = (stdout: string) =>
  JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;

async function collect<E extends DefragEvent | CheckEvent>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

async function fragmented(l: Lab, name: string, size = 64 * KiB, run = 4): Promise<string> {
  await writeFile(l.path(name), randomBytes(size));
  await l.fragment(name, run);
  return l.path(name);
}

/** Where a file lies, to the block. */
const layoutOf = async (path: string) => (await execa('filefrag', ['-v', path])).stdout;

const seconds = (count: number) => (IN_VM ? 3 * count : count) * 1000;

/** A listening socket with a name, until the test ends. */
async function makeSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => new Promise<void>((resolve) => void server.close(() => resolve())));
}

/**
 * A target whose names an attacker exchanges with what must not be opened: links to files and directories outside, of
 * this filesystem and of another one, a FIFO, a socket, a device; and what he cannot get at himself.
 */
async function prepareAttack(l: Lab, other: Lab) {
  const outside: string[] = [];
  for (const place of [l, other]) {
    await mkdir(place.path('outside'));
    outside.push(place.path('outside'));
    for (let i = 0; i < 4; i++) outside.push(await fragmented(place, `outside/file${i}`));
  }
  await mkdir(l.path('target'));
  for (let d = 0; d < 8; d++) {
    await mkdir(l.path('target', `dir${d}`));
    for (let i = 0; i < 4; i++) await fragmented(l, `target/dir${d}/file${i}`);
  }
  const at = (name: string) => l.path('target', name);
  await symlink(l.path('outside'), at('to-directory'));
  await symlink(other.path('outside'), at('to-filesystem'));
  await symlink(l.path('outside/file0'), at('dir2/to-file'));
  await execa('mkfifo', [at('dir3/fifo')]);
  await makeSocket(at('dir4/socket'));
  await execa('mknod', [at('dir5/device'), 'b', '240', '7']);
  const pairs = [
    ['dir0', 'to-directory'],
    ['dir1', 'to-filesystem'],
    ['dir2/file0', 'dir2/to-file'],
    ['dir3/file0', 'dir3/fifo'],
    ['dir4/file0', 'dir4/socket'],
    ['dir5/file0', 'dir5/device'],
    ['dir6', 'dir7/file0'],
  ].map(([a, b]) => [at(a), at(b)] as const);
  const inside = (await execa('find', [l.path('target'), '-type', 'f', '-printf', '%i\n'])).stdout
    .split('\n')
    .map(Number);
  expect(inside).toHaveLength(32);
  return { outside, pairs, inside: new Set(inside) };
}

/** Makes a file lie in pieces, whatever it is called at the moment. */
async function fragmentByNumber(l: Lab, inode: number): Promise<void> {
  const dirFd = await l.open('.', O.RDONLY);
  const fd = await openByHandle(dirFd, inode, 0, O.RDWR);
  try {
    await fragmentFile(fd, dirFd, l.blockSize, () => blocks(4));
  } finally {
    await closeFd(fd);
  }
}

/**
 * What a name can be while it is exchanged. A directory that is met under two names counts once. What is moved out of
 * the directory while it is opened there is refused with EXDEV as what is mounted there is (complete_walk() of
 * fs/namei.c), which was seen once in a hundred runs.
 */
const KNOWN = ['file', 'not-regular', 'vanished', 'hard-link', 'other-filesystem'];

describe('an attacker exchanges names while the tree is walked', () => {
  test('nothing is ever opened but what is below the target, and nothing hangs', async () => {
    const [l, other] = [await useLab(), await useLab()];
    const { outside, pairs, inside } = await prepareAttack(l, other);
    const target = await openTarget(Buffer.from(l.path('target')));
    onTestFinished(() => closeFd(target.dirFd));
    const seen = new Map<string, number>();
    let opened = 0;
    let exchanges = 0;
    const events = await witnessed(outside, async () => {
      exchanges = await whileExchanging(pairs, async () => {
        for (const until = Date.now() + seconds(4); Date.now() < until;) {
          for await (const item of new Scanner({}, false).scan(target)) {
            if (item.kind === 'failed') throw item.error;
            const what = item.kind === 'skip' ? item.reason : item.kind;
            seen.set(what, (seen.get(what) ?? 0) + 1);
            if (item.kind !== 'file') continue;
            expect(inside).toContain(item.inode);
            const fd = await openForMove(item).catch((error: unknown) => {
              expect(error).toMatchObject({
                code: expect.stringMatching(/^(ENOENT|ELOOP|ENOTDIR|EXDEV)$/) as string,
              });
              return undefined;
            });
            if (fd === undefined) continue;
            opened++;
            const info = await statFd(fd);
            await closeFd(fd);
            expect(info.isFile() && inside.has(Number(info.ino))).toBe(true);
          }
        }
      });
    });
    expect(events).toEqual([]);
    expect(opened).toBeGreaterThan(scaled(400));
    expect(exchanges).toBeGreaterThan(scaled(1600));
    for (const reason of seen.keys()) expect(KNOWN).toContain(reason);
    // Otherwise it was no race.
    expect(seen.get('vanished') ?? 0).toBeGreaterThan(0);
    expect(seen.get('not-regular') ?? 0).toBeGreaterThan(0);
  });

  test('whole runs move only what is below the target, and leave every content as it was', async () => {
    const [l, other] = [await useLab(), await useLab()];
    const { outside, pairs, inside } = await prepareAttack(l, other);
    const files = outside.filter((path) => !path.endsWith('outside'));
    const [before, layouts] = await Promise.all([
      Promise.all(files.map(identify)),
      Promise.all(files.map(layoutOf)),
    ]);
    const contents = new Map<number, Buffer>();
    const dirFd = await l.open('.', O.RDONLY);
    const contentOf = async (inode: number) => {
      const fd = await openByHandle(dirFd, inode, 0, O.RDONLY);
      const content = await readFile(`/proc/self/fd/${fd}`);
      await closeFd(fd);
      return content;
    };
    for (const inode of inside) contents.set(inode, await contentOf(inode));
    let defragmented = 0;
    const events = await witnessed(outside, async () => {
      await whileExchanging(pairs, async () => {
        for (const until = Date.now() + seconds(6); Date.now() < until;) {
          const done = await collect(defragment([l.path('target')], { full: true }));
          const summary = done.at(-1);
          if (summary?.type !== 'summary') throw new Error('no summary');
          expect(summary).toMatchObject({ failed: 0, interrupted: false });
          defragmented += summary.defragmented;
          for (const inode of [...inside].slice(0, 8)) await fragmentByNumber(l, inode);
        }
      });
    });
    expect(events).toEqual([]);
    expect(defragmented).toBeGreaterThan(20);
    expect(await Promise.all(files.map(layoutOf))).toEqual(layouts);
    expect(await Promise.all(files.map(identify))).toEqual(before);
    for (const [inode, content] of contents) expect((await contentOf(inode)).equals(content)).toBe(true);
  });

  test('a run over the whole filesystem goes by numbers, and opens nothing else', async () => {
    const [l, other] = [await useLab(), await useLab()];
    const { outside, pairs, inside } = await prepareAttack(l, other);
    const elsewhere = outside.filter((path) => path.startsWith(other.mountPoint));
    const layouts = await Promise.all(elsewhere.slice(1).map(layoutOf));
    let defragmented = 0;
    const events = await witnessed(elsewhere, async () => {
      await whileExchanging(pairs, async () => {
        for (let round = 0; round < 3; round++) {
          const summary = (await collect(defragment([l.mountPoint], { full: true, cluster: true }))).at(-1);
          if (summary?.type !== 'summary') throw new Error('no summary');
          expect(summary.failed).toBe(0);
          defragmented += summary.defragmented;
          for (const inode of [...inside].slice(0, 8)) await fragmentByNumber(l, inode);
        }
      });
    });
    expect(events).toEqual([]);
    expect(defragmented).toBeGreaterThanOrEqual(32);
    expect(await Promise.all(elsewhere.slice(1).map(layoutOf))).toEqual(layouts);
  });

  test('inode numbers that are used again, by FIFOs too, stand for no other file', async () => {
    const l = await useLab();
    await mkdir(l.path('dir'));
    await chmod(l.path('dir'), 0o777);
    await fragmented(l, 'kept');
    let stop = false;
    const fifo = l.path('dir/fifo');
    const churn = (async () => {
      for (let i = 0; !stop; i++) {
        const name = `dir/file${i % 8}`;
        await fragmented(l, name, 32 * KiB, 2).catch(() => undefined);
        await rm(l.path(name), { force: true });
        // It gets the number that has just become free.
        execFileSync('mkfifo', [fifo]);
        await rm(fifo);
      }
    })();
    try {
      for (let round = 0; round < 4; round++) {
        const events = await collect(defragment([l.mountPoint], { full: true }));
        expect(events.at(-1)).toMatchObject({ type: 'summary', failed: 0 });
      }
    } finally {
      stop = true;
      await churn;
    }
    expect(await filefrag(l.path('kept'))).toBe(1);
  });
});

describe('mounts on top of a tree', () => {
  test('a bind mount of a part is a part; a file that is mounted over is left alone', async () => {
    const l = await useLab();
    await mkdir(l.path('part/sub'), { recursive: true });
    await mkdir(l.path('bound'));
    await mkdir(l.path('part/covered'));
    for (const name of ['part/a', 'part/sub/b', 'part/covered/c', 'part/over', 'beside'])
      await fragmented(l, name);
    const mounts = [
      [l.path('part'), l.path('bound')],
      // Within a tree, to a directory above it and to a file beside it.
      [l.mountPoint, l.path('part/covered')],
      [l.path('beside'), l.path('part/over')],
    ];
    const undo: string[] = [];
    try {
      for (const [from, to] of mounts) {
        await execa('mount', ['--bind', from, to]);
        undo.push(to);
      }
      const events = await collect(defragment([l.path('part')]));
      expect(events.at(-1)).toMatchObject({
        defragmented: 2,
        failed: 0,
        skipped: { 'other-filesystem': 2 },
      });
      expect((await collect(check([l.path('part/over')]))).at(-1)).toMatchObject({
        files: 0,
        skipped: { 'other-filesystem': 1 },
      });
      expect(await filefrag(l.path('beside'))).toBe(4);
      for (const inode of [await inodeOf(l.path('part/a')), await inodeOf(l.path('part/sub/b'))])
        await fragmentByNumber(l, inode);
      // The bind mount has no mounts of its own on top.
      expect((await collect(defragment([l.path('bound')]))).at(-1)).toMatchObject({
        defragmented: 4,
        failed: 0,
        skipped: {},
      });
      expect(await filefrag(l.path('beside'))).toBe(4);
    } finally {
      for (const path of undo.reverse()) await execa('umount', [path]);
    }
    expect(await filefrag(l.path('part/covered/c'))).toBe(1);
  });

  test('an overlay is refused by name; what it is made of can be moved under it', async () => {
    const l = await useLab();
    for (const name of ['lower', 'upper', 'work', 'merged', 'merged/below']) await mkdir(l.path(name));
    const before = new Map<string, string>();
    for (const name of ['lower/a', 'upper/b', 'merged/below/c']) {
      before.set(name, (await identify(await fragmented(l, name))).sha256);
    }
    await execa('sync', ['-f', l.mountPoint]);
    const directories = `lowerdir=${l.path('lower')},upperdir=${l.path('upper')},workdir=${l.path('work')}`;
    await execa('mount', ['-t', 'overlay', 'overlay', '-o', directories, l.path('merged')]);
    try {
      const { exitCode, stderr } = await run([l.path('merged')]);
      expect({ exitCode, stderr }).toMatchObject({
        exitCode: 3,
        stderr: expect.stringContaining('overlay') as string,
      });
      const summary = (await collect(defragment([l.mountPoint], { everyFile: true }))).at(-1);
      expect(summary).toMatchObject({ defragmented: 2, failed: 0, skipped: { 'other-filesystem': 1 } });
      // What the overlay covers has a number, but no name that leads there.
      expect((await collect(defragment([l.mountPoint]))).at(-1)).toMatchObject({
        defragmented: 1,
        failed: 0,
      });
      for (const [name, from] of [
        ['merged/a', 'lower/a'],
        ['merged/b', 'upper/b'],
      ])
        expect((await identify(l.path(name))).sha256).toBe(before.get(from));
    } finally {
      await execa('umount', [l.path('merged')]);
    }
    for (const [name, sha256] of before) {
      expect((await identify(l.path(name))).sha256).toBe(sha256);
      expect(await filefrag(l.path(name))).toBe(1);
    }
  });

  test('a file that is a mounted loop device’s: the filesystem in it stays whole while it is used', async () => {
    const l = await useLab();
    const image = l.path('image');
    await writeFile(image, '');
    await truncate(image, scaled(64) * MiB);
    await execa('mkfs.ext4', ['-q', '-F', image]);
    await execa('dd', ['if=/dev/urandom', `of=${l.path('random')}`, 'bs=1M', `count=${scaled(16)}`]);
    // Its blocks as they are, no holes.
    await execa('fallocate', ['-l', String(scaled(64) * MiB), image]);
    await l.fragment('image', 32);
    const inner = l.path('inner');
    await mkdir(inner);
    await execa('mount', ['-o', 'loop', image, inner]);
    try {
      const content = await readFile(l.path('random'));
      let stop = false;
      const writer = (async () => {
        for (let i = 0; !stop; i++) {
          await writeFile(join(inner, `file${i % 2}`), content);
          await execa('sync', ['-f', inner]);
        }
      })();
      const events = await collect(defragment([image])).finally(() => (stop = true));
      await writer;
      expect(events.at(-1)).toMatchObject({ type: 'summary', defragmented: 1, failed: 0, fragmentsAfter: 1 });
      await execa('umount', [inner]);
      await execa('mount', ['-o', 'loop', image, inner]);
      expect((await readFile(join(inner, 'file0'))).equals(content)).toBe(true);
    } finally {
      await execa('umount', [inner]);
    }
    const { exitCode } = await execa('e2fsck', ['-fn', image], { reject: false });
    expect(exitCode).toBe(0);
  });
});

const inodeOf = async (path: string) => (await stat(path)).ino;

describe('files that are not like others', () => {
  test('owners, setuid, capabilities and other names stay what they were', async () => {
    const l = await useLab();
    await mkdir(l.path('target'));
    await mkdir(l.path('elsewhere'));
    const paths = await Promise.all(
      ['theirs', 'setuid', 'capable', 'linked'].map((name) => fragmented(l, `target/${name}`)),
    );
    const [theirs, setuid, capable, linked] = paths;
    await chown(theirs, 1234, 4321);
    await chmod(theirs, 0o600);
    await chmod(setuid, 0o6755);
    // VFS_CAP_REVISION_2 of linux/capability.h with CAP_NET_RAW, effective.
    const capability = '0x0100000200200000000000000000000000000000';
    await execa('setfattr', ['-n', 'security.capability', '-v', capability, capable]);
    const second = l.path('elsewhere/second');
    await link(linked, second);
    const before = await Promise.all(paths.map(identify));
    expect(before[2].attributes).toContain('security.capability');
    const events = await collect(defragment([l.path('target'), l.path('elsewhere')]));
    expect(events.at(-1)).toMatchObject({ defragmented: 4, failed: 0, skipped: { 'hard-link': 1 } });
    expect(await Promise.all(paths.map(identify))).toEqual(before);
    expect(await Promise.all([...paths, second].map(filefrag))).toEqual([1, 1, 1, 1, 1]);
  });

  test('immutable, append-only, swap and running files are left alone, each with its reason', async () => {
    const l = await useLab();
    for (const name of ['immutable', 'append', 'swap', 'program']) await fragmented(l, name, MiB, 4);
    await copyFile('/bin/sleep', l.path('program'));
    await chmod(l.path('program'), 0o755);
    await l.fragment('program', 2);
    await chmod(l.path('swap'), 0o600);
    // What is open for writing cannot be executed.
    await l.remount();
    await execa('mkswap', [l.path('swap')]);
    await execa('chattr', ['+i', l.path('immutable')]);
    await execa('chattr', ['+a', l.path('append')]);
    await execa('swapon', [l.path('swap')]);
    const program = execa(l.path('program'), ['600'], { reject: false });
    try {
      await new Promise((resolve) => program.once('spawn', resolve));
      const names = ['immutable', 'append', 'swap', 'program'];
      const layouts = await Promise.all(names.map((name) => layoutOf(l.path(name))));
      for (const everyFile of [true, false]) {
        const events = await collect(defragment([l.mountPoint], { everyFile }));
        const reasons = events.flatMap((event) =>
          event.type === 'skip' ? [[event.path.slice(l.mountPoint.length + 1), event.reason]] : [],
        );
        expect(Object.fromEntries(reasons)).toMatchObject({
          immutable: 'immutable',
          append: 'append-only',
          swap: 'swap-file',
          program: 'running',
        });
        expect(events.at(-1)).toMatchObject({ defragmented: 0, failed: 0 });
      }
      expect(await Promise.all(names.map((name) => layoutOf(l.path(name))))).toEqual(layouts);
    } finally {
      program.kill('SIGKILL');
      await program;
      await execa('swapoff', [l.path('swap')]);
      await execa('chattr', ['-i', l.path('immutable')]);
      await execa('chattr', ['-a', l.path('append')]);
    }
  });

  test('an ordinary user: own files only, a reason for each other, and check tells what can be read', async () => {
    const l = await useLab();
    await chmod(join(l.mountPoint, '..'), 0o755);
    await mkdir(l.path('home/closed'), { recursive: true });
    const sizes = { mine: NOBODY, 'read-only': NOBODY, readable: 0, secret: 0, 'closed/hidden': 0 };
    for (const [name, owner] of Object.entries(sizes)) {
      const path = await fragmented(l, `home/${name}`);
      await chown(path, owner, owner);
      await chmod(path, { 'read-only': 0o400, secret: 0o600 }[name] ?? 0o644);
    }
    await chown(l.path('home'), NOBODY, NOBODY);
    await chmod(l.path('home/closed'), 0o700);
    const user = { uid: NOBODY, gid: NOBODY, env: { XDG_STATE_HOME: l.path('home') } };
    const seen = await run(['check', '--json', l.path('home')], user);
    expect(seen).toMatchObject({ exitCode: 0, stderr: '' });
    expect(summaryOf(seen.stdout)).toMatchObject({
      files: 3,
      fragmentedFiles: 3,
      skipped: { 'no-permission': 2 },
    });
    const before = await Promise.all(
      ['readable', 'read-only', 'secret'].map((name) => layoutOf(l.path('home', name))),
    );
    const done = await run(['--json', '-v', '--no-state', l.path('home')], user);
    expect(done).toMatchObject({ exitCode: 0, stderr: '' });
    expect(summaryOf(done.stdout)).toMatchObject({
      defragmented: 1,
      failed: 0,
      // Two could not be looked at, two not be written to.
      skipped: { 'no-permission': 4 },
    });
    expect(await filefrag(l.path('home/mine'))).toBe(1);
    expect(
      await Promise.all(['readable', 'read-only', 'secret'].map((name) => layoutOf(l.path('home', name)))),
    ).toEqual(before);
  });
});

describe('what an attacker has put where root reads and writes files of the command', () => {
  /** A folder that is the attacker's, with a FIFO, links to it and to a file that root shall not touch. */
  async function trap(l: Lab) {
    await mkdir(l.path('trap'));
    await chmod(l.path('trap'), 0o777);
    const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-precious-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const precious = join(folder, 'precious');
    await writeFile(precious, 'precious');
    await execa('mkfifo', [l.path('trap/fifo')]);
    await symlink(precious, l.path('trap/to-precious'));
    await symlink(l.path('trap/fifo'), l.path('trap/to-fifo'));
    await symlink(join(folder, 'new'), l.path('trap/to-nothing'));
    const paths = ['fifo', 'to-precious', 'to-fifo', 'to-nothing'].map((name) => l.path('trap', name));
    const untouched = async () => {
      expect(await readFile(precious, 'utf8')).toBe('precious');
      expect(await stat(join(folder, 'new')).catch(() => undefined)).toBeUndefined();
      expect((await stat(l.path('trap/fifo'))).isFIFO()).toBe(true);
      expect(await Promise.all(paths.slice(1).map((path) => readlink(path)))).toEqual([
        precious,
        l.path('trap/fifo'),
        join(folder, 'new'),
      ]);
    };
    return { paths, fifo: l.path('trap/fifo'), untouched };
  }

  test('no FIFO is opened, no link followed to write, nothing there replaced, and nothing waits', async () => {
    const l = await useLab();
    const { paths, fifo, untouched } = await trap(l);
    const path = await fragmented(l, 'file');
    const events = await witnessed([fifo], async () => {
      for (const there of paths) {
        const refused: string[][] = [
          ['plan', '-o', there, path],
          ['--keep-undo', there, path],
          ['apply', there],
          ['--order-file', there, path],
        ];
        const answers = await Promise.all(refused.map((args) => run(args)));
        for (const [i, { exitCode, stderr }] of answers.entries()) {
          // A list may be any file, and a link to one is followed.
          if (i === 3 && there.endsWith('to-precious')) continue;
          expect([1, 2, 3], `${refused[i].join(' ')}: ${stderr}`).toContain(exitCode);
          expect(stderr).toContain(there);
          expect(stderr.trim().split('\n')).toHaveLength(1);
        }
        // Without its state a run goes on.
        const { exitCode, stderr } = await run(['--state', there, path]);
        expect({ exitCode, stderr }).toMatchObject({
          exitCode: 0,
          stderr: expect.stringContaining(there) as string,
        });
        await untouched();
      }
    });
    expect(events).toEqual([]);
  });

  test('a plan file that its owner holds a lease on is not waited for', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    const plan = l.path('plan.json');
    expect((await run(['plan', '-o', plan, path])).exitCode).toBe(0);
    const file = await open(plan, constants.O_RDWR);
    const { native } = await import('../../lib/kernel/native.ts');
    // F_WRLCK: who opens it waits up to 45 s, unless he says that he does not.
    expect(await native().setSignal(file.fd, 23)).toBe(0);
    expect(await native().setLease(file.fd, 1)).toBe(0);
    try {
      const started = performance.now();
      const { exitCode, stderr } = await run(['apply', plan]);
      expect(performance.now() - started).toBeLessThan(30_000);
      expect(exitCode).toBe(1);
      expect(stderr).toContain('EAGAIN');
    } finally {
      await file.close();
    }
    expect((await run(['apply', plan])).exitCode).toBe(0);
    expect(await filefrag(path)).toBe(1);
  });
});
