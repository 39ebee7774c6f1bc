// QEMU's command line, and whether KVM is worth using here.
import { constants } from 'node:fs';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { cacheFolder, digest, replaceEntry } from './cache.ts';
import { findProgram, requirePrograms } from './host.ts';
import { initramfs } from './initramfs.ts';
import type { Kernel } from './kernels.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface Disk {
  /** By which the guest knows it; at most 20 characters. */
  readonly serial: string;
  readonly file: string;
  /** What the guest writes is thrown away, so that the file serves any number of guests at once. */
  readonly discardWrites: boolean;
  /** A file that gets a log of all that is written and flushed, in the format of dm-log-writes. */
  readonly log?: string | undefined;
}

export interface Machine {
  readonly accelerator: Accelerator;
  readonly kernel: Kernel;
  readonly initrd: string;
  readonly memory: number;
  readonly disks: readonly Disk[];
}

/** The file descriptors, beyond the standard three, over which QEMU and this process talk. */
export const channels = ['log', 'control', 'stdout', 'stderr', 'dmesg'] as const;
export type Channel = (typeof channels)[number];
export const firstChannel = 3;

const cpus: Readonly<Record<Accelerator, string>> = { kvm: 'host', tcg: 'max' };
const accelerators: Readonly<Record<Accelerator, string>> = { kvm: 'kvm', tcg: 'tcg,thread=multi' };

const emulationOptions = [
  // Emulated processors of a busy machine stand still for a while without being stuck.
  'watchdog_thresh=30',
  'rcupdate.rcu_cpu_stall_timeout=60',
  // The kernel patches its own code while it starts. QEMU before 8.1 may run a half patched instruction on
  // another processor then ("Oops: int3"), so the others wait until run.sh switches them on.
  'maxcpus=1',
];

function kernelCommandLine(accelerator: Accelerator, memory: number): string {
  return [
    'console=ttyS0',
    'ignore_loglevel', // everything is printed, whatever its level,
    'printk.devkmsg=on', // also what programs write to the log
    'log_buf_len=4M',
    'panic=-1', // restart, which ends QEMU
    'mitigations=off',
    'random.trust_cpu=on',
    'no_timer_check',
    'cryptomgr.notests',
    // Memory that is declared persistent, for DAX: /dev/pmem0. What lies at the very end is the firmware's.
    ...(memory >= 1024 ? [`memmap=64M!${memory - 128}M`] : []),
    ...(accelerator === 'tcg' ? emulationOptions : []),
  ].join(' ');
}

/** A comma separates options, so one within a value is doubled. */
function value(text: string): string {
  return text.replaceAll(',', ',,');
}

function diskArguments({ serial, file, discardWrites, log }: Disk): string[] {
  if (log !== undefined) return loggedDiskArguments(serial, file, log);
  const drive = `if=none,id=${serial},file=${value(file)},format=raw,cache=unsafe,discard=unmap,snapshot=${discardWrites ? 'on' : 'off'}`;
  return ['-drive', drive, '-device', `virtio-blk-pci,drive=${serial},serial=${serial}`];
}

/** The log keeps its flushes; what is below it is on no real device and needs none. */
function loggedDiskArguments(serial: string, file: string, log: string): string[] {
  const child = (name: string, path: string) =>
    `${name}.driver=file,${name}.filename=${value(path)},${name}.cache.no-flush=on`;
  return [
    '-blockdev',
    `driver=blklogwrites,node-name=${serial},discard=unmap,${child('file', file)},${child('log', log)}`,
    '-device',
    `virtio-blk-pci,drive=${serial},serial=${serial}`,
  ];
}

function channelArguments(channel: Channel, index: number): string[] {
  const socket = ['-chardev', `socket,id=${channel},fd=${firstChannel + index}`];
  if (channel === 'log') return [...socket, '-serial', `chardev:${channel}`];
  return [...socket, '-device', `virtserialport,chardev=${channel},name=${channel}`];
}

function machineArguments({ accelerator, kernel, initrd, memory }: Omit<Machine, 'disks'>): string[] {
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-machine', 'pc', '-accel', accelerators[accelerator], '-cpu', cpus[accelerator]],
    ...['-smp', '2', '-m', String(memory)],
    ...['-kernel', kernel.image, '-initrd', initrd, '-append', kernelCommandLine(accelerator, memory)],
    ...['-device', 'virtio-rng-pci'],
  ];
}

export function qemuArguments(machine: Machine): string[] {
  return [
    ...machineArguments(machine),
    ...machine.disks.flatMap(diskArguments),
    ...['-device', 'virtio-serial-pci'],
    ...channels.flatMap(channelArguments),
  ];
}

const qemu = 'qemu-system-x86_64';

export function requireQemu(): void {
  requirePrograms([qemu]);
}

/** The command that runs QEMU so that the kernel ends it when this process is gone, however that went. */
export function qemuCommand(args: readonly string[]): [string, string[]] {
  const setpriv = findProgram('setpriv');
  const program = findProgram(qemu) ?? qemu;
  return setpriv ? [setpriv, ['--pdeathsig', 'KILL', '--', program, ...args]] : [program, [...args]];
}

const probeSeconds = 20;

/**
 * Which accelerator a guest really boots on. /dev/kvm may be there and yet no guest survive on it, as under
 * some nested hypervisors; the answer is kept until this machine boots again.
 */
export async function chooseAccelerator(
  kernel: Kernel,
  busybox: string,
  say: (text: string) => void,
): Promise<Accelerator> {
  const usable = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!usable) return 'tcg';
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
  const entry = `accelerator-${digest(boot, kernel.image, qemuCommand([])[0])}`;
  const known = await readFile(join(cacheFolder(), entry), 'utf8').catch(() => '');
  if (known === 'kvm' || known === 'tcg') return known;
  const accelerator = (await bootsOnKvm(kernel, busybox)) ? 'kvm' : 'tcg';
  if (accelerator === 'tcg') say('no guest boots on /dev/kvm here; emulating the processor');
  await replaceEntry(entry, accelerator);
  return accelerator;
}

async function bootsOnKvm(kernel: Kernel, busybox: string): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-vm-'));
  try {
    const initrd = join(folder, 'initrd');
    await writeFile(initrd, await initramfs(kernel, busybox));
    const args = [
      ...machineArguments({ accelerator: 'kvm', kernel, initrd, memory: 512 }),
      '-serial',
      'stdio',
    ];
    const { failed, stdout } = await execa(...qemuCommand(args), {
      reject: false,
      stdin: 'ignore',
      timeout: probeSeconds * 1000,
      killSignal: 'SIGKILL',
    });
    return !failed && stdout.includes('ext4-defrag-vm: booted');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
