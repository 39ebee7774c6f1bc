// One command in one guest, from nothing to its exit status.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { resolve, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unpackedPackages } from './apt.ts';
import { baseDisk } from './base.ts';
import { projectDisk, scratchDisk } from './disks.ts';
import { VmFailure } from './failure.ts';
import { runGuest, type GuestOptions, type GuestResult } from './guest.ts';
import { requireX64Linux } from './host.ts';
import { initramfs } from './initramfs.ts';
import { guestEnvironment, jobScript } from './job.ts';
import { defaultKernel, prepareKernel } from './kernels.ts';
import { chooseAccelerator, requireQemu, type Accelerator, type Disk } from './qemu.ts';

/** A raw image, and an empty file that gets the log of what is written to it; see {@link Disk.log}. */
export interface LoggedDisk {
  readonly file: string;
  readonly log: string;
}

export interface VmOptions extends Partial<GuestOptions> {
  /** One word is a line for the shell, several are a program and its arguments. */
  readonly command: readonly string[];
  /** A name of the kernel table, a kernel package's .deb file, or a folder it is unpacked in. */
  readonly kernel?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** In MiB. */
  readonly memory?: number;
  /** Further disks: raw images, writable, known in the guest as /dev/extra1, /dev/extra2, … */
  readonly disks?: readonly (string | LoggedDisk)[];
  /** The default is KVM where a guest boots on it, and emulation otherwise. */
  readonly accelerator?: Accelerator;
  /** Told what takes time before the guest starts. */
  readonly say?: (text: string) => void;
}

export interface VmResult extends GuestResult {
  readonly accelerator: Accelerator;
}

export const defaultMemory = 2048;
export const defaultTimeout = 1800;

const project = fileURLToPath(new URL('..', import.meta.url));
const noDependency = /(?!)/;

/** Resolves when the command has run to its end, whatever its status; rejects with a VmFailure otherwise. */
export async function runInVm(options: VmOptions): Promise<VmResult> {
  requireX64Linux();
  requireQemu();
  const say = options.say ?? (() => undefined);
  const goOn = () => {
    if (options.signal?.aborted) throw new VmFailure('aborted', 'the run was stopped');
  };
  const busyboxPackage = await unpackedPackages(['trixie'], 'busybox-static', noDependency, say);
  const busybox = join(busyboxPackage, 'usr', 'bin', 'busybox');
  goOn();
  const kernel = await prepareKernel(options.kernel ?? defaultKernel, busybox, say);
  goOn();
  const base = await baseDisk(project, busybox, say);
  const accelerator = options.accelerator ?? (await chooseAccelerator(kernel, busybox, say));
  goOn();
  // Not in /tmp, which may be kept in memory: the scratch disk can grow to gigabytes.
  const folder = await mkdtemp(join(process.env.TMPDIR ?? '/var/tmp', 'ext4-defrag-vm-'));
  try {
    const job = jobScript(options.command, guestEnvironment(kernel.release, options.env ?? {}));
    const initrd = join(folder, 'initrd');
    await writeFile(initrd, await initramfs(kernel, busybox, job));
    const disks: Disk[] = [
      { serial: 'base', file: base, discardWrites: true },
      { serial: 'modules', file: kernel.modulesDisk, discardWrites: true },
      ...(await Promise.all([projectDisk(project, folder), scratchDisk(folder)])),
      ...(options.disks ?? []).map((disk, index) => ({
        serial: `extra${index + 1}`,
        file: resolve(typeof disk === 'string' ? disk : disk.file),
        discardWrites: false,
        log: typeof disk === 'string' ? undefined : resolve(disk.log),
      })),
    ];
    const memory = options.memory ?? defaultMemory;
    // Once QEMU has everything open, the names may go: then nothing stays, even if this process is killed.
    const opened = () => rm(folder, { recursive: true, force: true });
    const result = await runGuest({ accelerator, kernel, initrd, memory, disks }, opened, {
      ...options,
      timeout: options.timeout ?? defaultTimeout,
    });
    return { ...result, accelerator };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
