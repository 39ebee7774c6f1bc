import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path/posix';

/** A file's text; undefined where it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** Pressure stall information (Documentation/accounting/psi.rst): time in which some task waited for I/O. */
export interface Pressure {
  /** Percent of the last ten seconds. */
  readonly avg10: number;
  /** Milliseconds since boot. */
  readonly stalled: number;
}

/** Bytes. */
export interface Traffic {
  readonly read: number;
  readonly written: number;
}

const SECTOR = 512;
const CGROUP_MOUNTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/** The file that shows the machine's I/O pressure, or else that of the process's cgroup (v2). */
export function findPressureFile(read: ReadText): string | undefined {
  // It is there but not to be read when the kernel was booted with psi=0.
  const shows = (path: string) => readPressure(read, path) !== undefined;
  if (shows('/proc/pressure/io')) return '/proc/pressure/io';
  const group = read('/proc/self/cgroup')?.match(/^0::(.+)$/m)?.[1];
  if (group === undefined) return undefined;
  return CGROUP_MOUNTS.map((mount) => join(mount, group, 'io.pressure')).find(shows);
}

export function readPressure(read: ReadText, path: string): Pressure | undefined {
  const match = read(path)?.match(/^some avg10=([\d.]+) .*\btotal=(\d+)$/m);
  return match ? { avg10: Number(match[1]), stalled: Number(match[2]) / 1000 } : undefined;
}

/**
 * What was read from and written to a device, "major:minor", or to the disks that it is made of (dm, md): who waits for
 * another volume on the same disk waits for the same disk (Documentation/block/stat.rst).
 */
export function readDeviceTraffic(read: ReadText, deviceId: string): Traffic | undefined {
  const all = disksOf(`/sys/dev/block/${deviceId}`).flatMap((folder) => {
    // Who uses another partition waits for the same disk as well, which is one folder up.
    const text = read(`${folder}/../stat`) ?? read(`${folder}/stat`);
    const sectors = text?.trim().split(/\s+/).map(Number);
    return sectors ? [{ read: sectors[2] * SECTOR, written: sectors[6] * SECTOR }] : [];
  });
  if (all.length === 0) return undefined;
  return all.reduce((sum, one) => ({ read: sum.read + one.read, written: sum.written + one.written }));
}

function disksOf(folder: string): string[] {
  let names: string[] = [];
  try {
    names = readdirSync(`${folder}/slaves`);
  } catch {
    // A partition has no such folder.
  }
  return names.length === 0 ? [folder] : names.flatMap((name) => disksOf(`${folder}/slaves/${name}`));
}

/**
 * What this process had read from and written to any device (proc_pid_io(5)): reads count when they are sent off, writes
 * when pages become dirty, so both come before the device's own.
 */
export function readOwnTraffic(read: ReadText): Traffic | undefined {
  const text = read('/proc/self/io');
  const [own, written] = ['read', 'write'].map(
    (name) => text?.match(RegExp(`^${name}_bytes: (\\d+)$`, 'm'))?.[1],
  );
  return own && written ? { read: Number(own), written: Number(written) } : undefined;
}

/** Bytes that this process has had written to any device so far; 0 where the kernel does not tell. */
export const bytesWritten = (): number => readOwnTraffic(readNow)?.written ?? 0;

/** A file's text. procfs and sysfs never wait for a device. */
export function readNow(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
