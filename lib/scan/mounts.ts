/** One line of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export interface Mount {
  /** "major:minor" of the filesystem, as in st_dev. */
  readonly device: string;
  /** The part of the filesystem that is mounted: "/" unless it is a bind mount or a subvolume. */
  readonly root: Buffer;
  readonly mountPoint: Buffer;
  readonly type: string;
  /** What was mounted, usually a path below /dev. */
  readonly source: string;
  readonly readOnly: boolean;
}

/** Parses the whole of /proc/self/mountinfo. Paths are bytes. */
export function parseMounts(mountinfo: Buffer): Mount[] {
  // latin1 keeps every byte, so that names which are not UTF-8 survive.
  return mountinfo
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
}

function parseLine(line: string): Mount {
  const [fields, rest] = line.split(' - ');
  const [, , device, root, mountPoint, options] = fields.split(' ');
  const [type, source, superOptions = ''] = rest.split(' ');
  return {
    device,
    root: unescape(root),
    mountPoint: unescape(mountPoint),
    type,
    source: unescape(source).toString(),
    readOnly: [options, superOptions].some((list) => list.split(',').includes('ro')),
  };
}

/** The kernel writes space, tab, newline and backslash as \ooo (fs/proc_namespace.c, mangle). */
function unescape(field: string): Buffer {
  const plain = field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
  return Buffer.from(plain, 'latin1');
}

/** The mount of a device that shows most of it: the whole filesystem rather than a bind mount of a part. */
export function mountOf(mounts: readonly Mount[], device: string): Mount | undefined {
  const candidates = mounts.filter((mount) => mount.device === device);
  return candidates.find((mount) => mount.root.toString('latin1') === '/') ?? candidates[0];
}

/**
 * Where a path is in its filesystem: the same wherever that is mounted.
 *
 * @returns the path below the filesystem's root, or undefined when no mount of the device leads to it
 */
export function pathInFilesystem(mounts: readonly Mount[], device: string, path: Buffer): Buffer | undefined {
  let best: Buffer | undefined;
  let longest = -1;
  for (const { device: mounted, root, mountPoint } of mounts) {
    const rest = mounted === device && mountPoint.length > longest ? below(path, mountPoint) : undefined;
    const folder = rest && below(root, Buffer.from('/'));
    if (rest === undefined || folder === undefined) continue;
    const slash = folder.length > 0 && rest.length > 0 ? '/' : '';
    best = Buffer.concat([folder, Buffer.from(slash), rest]);
    longest = mountPoint.length;
  }
  return best;
}

/** A path without the directory that it is below, or undefined when it is not. */
function below(path: Buffer, directory: Buffer): Buffer | undefined {
  if (path.equals(directory)) return Buffer.alloc(0);
  const prefix = directory.at(-1) === 0x2f ? directory : Buffer.concat([directory, Buffer.from('/')]);
  return path.subarray(0, prefix.length).equals(prefix) ? path.subarray(prefix.length) : undefined;
}

/** What is mounted below a directory, as paths below it: a byte per character. */
export function mountsBelow(mounts: readonly Mount[], directory: Buffer): ReadonlySet<string> {
  const path = directory.toString('latin1');
  const prefix = path.endsWith('/') ? path : `${path}/`;
  const points = mounts.map(({ mountPoint }) => mountPoint.toString('latin1'));
  return new Set(
    points.filter((point) => point.startsWith(prefix)).map((point) => point.slice(prefix.length)),
  );
}

/** glibc's gnu_dev_major and gnu_dev_minor (sys/sysmacros.h), as "major:minor". */
export function deviceName(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xffff_f000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffff_ff00n);
  return `${major}:${minor}`;
}
