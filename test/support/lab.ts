import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { appendFile, mkdtemp, mkdir, open, readFile, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { AT_FDCWD, closeFd, O, openAt } from '../../lib/kernel/handle.ts';
import { blocks, bytes, type Bytes } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';

export const MiB = 1024 * 1024;

/** Whether this is the VM, whose processor may be emulated: amounts of work that prove nothing more are smaller there. */
export const IN_VM = process.env.EXT4_DEFRAG_IN_VM !== undefined;

/** Whether only that is to run which needs the VM's kernel: this machine's has done the rest. */
export const VM_SHARE = process.env.EXT4_DEFRAG_VM_SHARE !== undefined;

/** An eighth of an amount of work in the VM. */
export const scaled = (amount: number): number => (IN_VM ? amount / 8 : amount);

export interface LabOptions {
  /** Of the image, in bytes. */
  readonly size?: number;
  readonly blockSize?: number;
  /** More arguments of mkfs.ext4. */
  readonly mkfs?: readonly string[];
  /** Of mount -o. */
  readonly mount?: string;
  /** Kernel messages that this test provokes on purpose. */
  readonly expectedLog?: RegExp;
  /** Makes a block device of the image, from which it is mounted instead of from the image. */
  readonly through?: (image: string) => Promise<string>;
}

/** Labs whose mount must go when this process ends, however it ends. */
const active = new Set<string>();
process.on('exit', () => {
  for (const mountPoint of active) {
    try {
      execFileSync('umount', ['-l', mountPoint], { stdio: 'ignore' });
    } catch {
      // It was unmounted already.
    }
  }
});

/** Tells who watches the log of a VM from outside what is expected from here on. */
const MARK = 'ext4-defrag-vm: expect';

/**
 * A freshly made ext4 on a loop device. When it is closed it is unmounted and must pass `e2fsck -fn`, and the kernel
 * must have logged nothing alarming meanwhile; the loop device goes with the mount.
 */
export class Lab {
  readonly mountPoint: string;
  readonly image: string;
  readonly blockSize: Bytes;
  readonly #folder: string;
  readonly #options: LabOptions;
  readonly #mark: string;
  readonly #fds: number[] = [];
  #mounted = false;
  /** Of the devices that it has been mounted from, without their folder. */
  readonly #devices = new Set<string>();

  static async create(options: LabOptions = {}): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'ext4-defrag-test-')), options);
    try {
      await lab.#make();
    } catch (error) {
      await lab.#remove();
      throw error;
    }
    return lab;
  }

  private constructor(folder: string, options: LabOptions) {
    this.#folder = folder;
    this.#options = options;
    this.mountPoint = join(folder, 'mnt');
    this.image = join(folder, 'image');
    this.blockSize = bytes(options.blockSize ?? 4096);
    this.#mark = `ext4-defrag test ${folder}`;
  }

  async #make(): Promise<void> {
    await mkdir(this.mountPoint);
    await (await open(this.image, 'w')).close();
    await truncate(this.image, this.#options.size ?? 512 * MiB);
    await appendFile('/dev/kmsg', `${this.#mark}\n`);
    // Inside the VM its host watches the log as well.
    const { expectedLog } = this.#options;
    if (expectedLog !== undefined) await appendFile('/dev/kmsg', `${MARK} ${expectedLog.source}\n`);
    await execa('mkfs.ext4', [
      '-q',
      '-F',
      '-b',
      String(this.blockSize),
      '-E',
      'lazy_itable_init=0,lazy_journal_init=0',
      ...(this.#options.mkfs ?? []),
      this.image,
    ]);
    await this.mount();
  }

  async mount(): Promise<void> {
    const { through } = this.#options;
    const source = (await through?.(this.image)) ?? this.image;
    const options = [...(through ? [] : ['loop']), ...(this.#options.mount ?? '').split(',').filter(Boolean)];
    await execa('mount', ['-t', 'ext4', '-o', options.join() || 'rw', source, this.mountPoint]);
    active.add(this.mountPoint);
    this.#mounted = true;
    this.#devices.add(basename(await this.device()));
  }

  /** Closes what {@link open} opened and unmounts, so that nothing is cached and nothing is pending. */
  async unmount(): Promise<void> {
    await Promise.all(this.#fds.splice(0).map(closeFd));
    if (!this.#mounted) return;
    await execa('umount', [this.mountPoint]);
    active.delete(this.mountPoint);
    this.#mounted = false;
  }

  async remount(): Promise<void> {
    await this.unmount();
    await this.mount();
  }

  async device(): Promise<string> {
    return (await execa('findmnt', ['-n', '-o', 'SOURCE', this.mountPoint])).stdout.trim();
  }

  /** Free bytes, once everything pending is committed. */
  async freeBytes(): Promise<number> {
    await execa('sync', ['-f', this.mountPoint]);
    const { stdout } = await execa('stat', ['-f', '-c', '%f %S', this.mountPoint]);
    const [free, size] = stdout.split(' ').map(Number);
    return free * size;
  }

  path(...names: string[]): string {
    return join(this.mountPoint, ...names);
  }

  /** Opens a path below the mount point; closed at the end of the test. */
  async open(name: string, flags: number = O.RDWR): Promise<number> {
    const mode = flags & constants.O_CREAT ? 0o644 : 0;
    const fd = await openAt(AT_FDCWD, Buffer.from(this.path(name)), flags, { mode });
    this.#fds.push(fd);
    return fd;
  }

  /** Makes an empty file and opens it. */
  create(name: string): Promise<number> {
    return this.open(name, O.RDWR | constants.O_CREAT | constants.O_EXCL);
  }

  /** Makes an existing file lie in fragments of so many blocks. */
  async fragment(name: string, run: number | (() => number)): Promise<void> {
    const [fd, dirFd] = [await this.open(name), await this.open('.', O.RDONLY)];
    await fragmentFile(fd, dirFd, this.blockSize, () => blocks(typeof run === 'number' ? run : run()));
  }

  /** Remounts it, checked in between. @throws Error when it is not clean */
  async recheck(): Promise<void> {
    await this.#check();
    await this.mount();
  }

  async #check(): Promise<void> {
    await this.unmount();
    if (this.#options.through === undefined) await this.#released();
    const check = await execa('e2fsck', ['-fn', this.image], { reject: false, all: true });
    if (check.exitCode !== 0) throw new Error(`e2fsck -fn (exit ${check.exitCode}):\n${check.all}`);
  }

  /** @throws Error when the filesystem or the kernel log is not clean */
  async close(): Promise<void> {
    try {
      await this.#check();
      if (this.#options.expectedLog !== undefined) await appendFile('/dev/kmsg', `${MARK}\n`);
      const alarms = await this.#alarms();
      if (alarms.length > 0) throw new Error(`the kernel logged:\n${alarms.join('\n')}`);
    } finally {
      await this.#remove();
    }
  }

  /** Waits until nobody has the filesystem mounted: a mount namespace made meanwhile has a copy of every mount. */
  async #released(): Promise<void> {
    const until = Date.now() + 10_000;
    while ((await execa('losetup', ['--associated', this.image])).stdout !== '') {
      if (Date.now() > until) throw new Error(`${this.image} is still mounted, in another mount namespace`);
      await sleep(100);
    }
  }

  async #remove(): Promise<void> {
    if (this.#mounted) {
      // Something still uses it. Detach it all the same: no test may leave a mount behind.
      await execa('umount', ['-l', this.mountPoint], { reject: false });
      active.delete(this.mountPoint);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Whether a line is news, and not of a device of somebody else who works on this machine. */
  #concerns(line: string): boolean {
    if (this.#options.expectedLog?.test(line) || line.includes(MARK)) return false;
    const named = line.match(DEVICES) ?? [];
    return named.length === 0 || named.some((name) => this.#devices.has(name));
  }

  /** Lines of the kernel log since this lab was made that no healthy run produces. */
  async #alarms(): Promise<string[]> {
    const { stdout } = await execa('dmesg');
    const since = stdout.slice(Math.max(0, stdout.lastIndexOf(this.#mark)));
    return since.split('\n').filter((line) => ALARMING.test(line) && this.#concerns(line));
  }
}

/** The devices a line of the kernel log names. */
const DEVICES = /\b(?:loop\d+|dm-\d+|[sv]d[a-z]\d*)\b/g;

const ALARMING =
  /EXT4-fs (error|warning)|JBD2: .*([Ee]rror|[Aa]bort)|BUG:|WARNING:|Oops|panic|general protection|I\/O error|soft lockup|blocked for more than|[Cc]orrupt/;

/** What must never change when a file is defragmented. Not st_blocks: it counts the extent tree's own blocks. */
export interface Identity {
  readonly sha256: string;
  readonly size: bigint;
  readonly mtime: bigint;
  readonly ctime: bigint;
  readonly mode: bigint;
  readonly owner: string;
  readonly links: bigint;
  readonly attributes: string;
}

export async function identify(path: string): Promise<Identity> {
  const info = await stat(path, { bigint: true });
  const { stdout } = await execa('getfattr', ['-d', '-m', '-', '--absolute-names', '-e', 'hex', path]);
  return {
    sha256: createHash('sha256')
      .update(await readFile(path))
      .digest('hex'),
    size: info.size,
    mtime: info.mtimeNs,
    ctime: info.ctimeNs,
    mode: info.mode,
    owner: `${info.uid}:${info.gid}`,
    links: info.nlink,
    attributes: stdout,
  };
}

/** How many fragments filefrag(8) counts. */
export async function filefrag(path: string): Promise<number> {
  const { stdout } = await execa('filefrag', [path]);
  return Number(/(\d+) extents? found$/.exec(stdout)?.[1]);
}
