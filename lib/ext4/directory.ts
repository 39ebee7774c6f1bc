/**
 * A block of a directory (Documentation/filesystems/ext4/directory.rst): entries one after the other, each as long as
 * it says, to the block's end. Blocks of a hash tree's inside and the checksum at a block's end are dressed as free
 * entries, so that who knows nothing of them goes over them.
 *
 * struct ext4_dir_entry_2: inode u32, length of the entry u16, length of the name u8, file type u8, name.
 */
const HEADER_SIZE = 8;
/** Of ".", which every directory begins with: its header, the name, and room up to a multiple of 4. */
const DOT_ENTRY_SIZE = 12;
const LARGE_BLOCK = 0x1_0000;
const DOT = 0x2e;
const SLASH = 0x2f;

/**
 * Calls `visit` for every name in a block, in the order in which they lie there, but for "." and "..", and what no
 * name can be: empty, or with a slash or a NUL in it (fs/readdir.c, verify_dirent_name). The checks of entries are
 * the kernel's (fs/ext4/dir.c, __ext4_check_dir_entry), those of inode numbers aside.
 *
 * @param at where the block starts in `view`, in bytes; all of the block is in it
 * @param blockSize in bytes
 * @param visit gets the inode number, the ext4 file type (EXT4_FT_* of fs/ext4/ext4.h: 1 is a regular file, 2 a
 *   directory, 0 anything on a filesystem that does not keep it) and where in `view` the name is, in bytes
 * @returns false where the entries do not hold together; those before that place were visited
 */
export function visitEntries(
  view: DataView,
  at: number,
  blockSize: number,
  visit: (inode: number, kind: number, nameAt: number, nameLength: number) => void,
): boolean {
  const end = at + blockSize;
  for (let entry = at; entry < end;) {
    if (end - entry < HEADER_SIZE) return false;
    const length = entryLength(view.getUint16(entry + 4, true), blockSize);
    const nameLength = view.getUint8(entry + 6);
    if (length % 4 !== 0 || length < HEADER_SIZE + nameLength || length > end - entry) return false;
    const inode = view.getUint32(entry, true);
    const nameAt = entry + HEADER_SIZE;
    if (inode !== 0 && isName(view, nameAt, nameLength)) {
      visit(inode, view.getUint8(entry + 7), nameAt, nameLength);
    }
    entry += length;
  }
  return true;
}

/**
 * The directory that a directory is in, from its first block: ".." is the second entry there, also where a hash tree's
 * root is made to look like two entries.
 *
 * @param at where the block starts in `view`, in bytes
 * @returns its inode number, or undefined where the block does not begin as a directory's first
 */
export function parentInode(view: DataView, at: number): number | undefined {
  const isDots = (entry: number, count: number) =>
    view.getUint8(entry + 6) === count && isDotted(view, entry + HEADER_SIZE, count);
  const second = at + DOT_ENTRY_SIZE;
  if (view.getUint16(at + 4, true) !== DOT_ENTRY_SIZE || !isDots(at, 1) || !isDots(second, 2))
    return undefined;
  const inode = view.getUint32(second, true);
  return inode === 0 ? undefined : inode;
}

/** ext4_rec_len_from_disk (fs/ext4/ext4.h): 16 bits hold no length of 64 KiB, and lengths are multiples of 4. */
function entryLength(raw: number, blockSize: number): number {
  if (blockSize < LARGE_BLOCK) return raw;
  if (raw === 0 || raw === 0xffff) return blockSize;
  return (raw & 0xfffc) | ((raw & 3) << 16);
}

/** Whether a name of one byte or two has nothing but dots in it. */
const isDotted = (view: DataView, at: number, length: number): boolean =>
  view.getUint8(at) === DOT && view.getUint8(at + length - 1) === DOT;

function isName(view: DataView, at: number, length: number): boolean {
  if (length === 0) return false;
  if (length <= 2 && isDotted(view, at, length)) return false;
  for (let i = at; i < at + length; i++) {
    const byte = view.getUint8(i);
    if (byte === SLASH || byte === 0) return false;
  }
  return true;
}
