// The archive format of an initramfs ("newc"). Written here because that needs no program and no root, and
// because a run's own archive is simply appended to it.

export interface CpioEntry {
  readonly path: string;
  /** File type and permission bits, as in st_mode. */
  readonly mode: number;
  readonly data?: Uint8Array | string;
}

export const fileMode = 0o100755;
export const folderMode = 0o040755;
export const linkMode = 0o120777;

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

function member(index: number, { path, mode, data = '' }: CpioEntry): Buffer {
  const name = Buffer.from(`${path}\0`);
  const content = Buffer.from(data);
  // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
  const fields = [index, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), name])), padded(content)]);
}

/** A folder must come before what is in it. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const end: CpioEntry = { path: 'TRAILER!!!', mode: 0 };
  return Buffer.concat([...entries.map((entry, index) => member(index + 1, entry)), member(0, end)]);
}
