import { constants } from 'node:os';
import { expect, test } from 'vitest';
import { errnoName, SystemError } from '../../lib/kernel/errors.ts';
import { keepFreedMemoryBelow } from '../../lib/kernel/malloc.ts';
import { native } from '../../lib/kernel/native.ts';
import { moveExtents } from '../../lib/kernel/moveExtent.ts';

// What the addon's compiler saw, against the kernel's ABI: request numbers are _IOC(direction, type, number, size).
test('structures and request numbers are the kernel’s', () => {
  expect(native().layout()).toEqual({
    // include/uapi/linux/fiemap.h, fs.h
    FS_IOC_FIEMAP: 0xc020660b,
    fiemap: 32,
    fiemap_extent: 56,
    'fiemap_extent.fe_flags': 40,
    // fs/ext4/ext4.h
    EXT4_IOC_MOVE_EXT: 0xc028660f,
    move_extent: 40,
    'move_extent.donor_fd': 4,
    'move_extent.orig_start': 8,
    'move_extent.donor_start': 16,
    'move_extent.len': 24,
    'move_extent.moved_len': 32,
    FS_IOC_GETFLAGS: 0x80086601,
    FS_IOC_SETFLAGS: 0x40086602,
    FS_IOC_GETVERSION: 0x80087601,
    // include/uapi/linux/ext4.h of 6.18
    EXT4_IOC_GET_TUNE_SB_PARAM: 0x80e8662d,
    ext4_tune_sb_params: 232,
    'ext4_tune_sb_params.compat': 64,
    // include/uapi/linux/openat2.h
    open_how: 24,
    // include/linux/exportfs.h, fcntl.h
    file_handle: 8,
    'file_handle.handle_type': 4,
    'file_handle.f_handle': 8,
    // linux/fsmap.h
    FS_IOC_GETFSMAP: 0xc0c0583b,
    fsmap_head: 192,
    fsmap: 64,
    'fsmap.fmr_length': 32,
    // fs/ext4/ext4.h
    EXT4_IOC_GETFSUUID: 0x8008662c,
    'fsuuid.fsu_uuid': 8,
  });
});

test.each([
  ['EBADR', 53],
  ['EUCLEAN', 117],
  ['EDQUOT', 122],
  ['ESTALE', 116],
  ['ENOKEY', 126],
  ['EOPNOTSUPP', constants.errno.EOPNOTSUPP],
  ['ENODATA', constants.errno.ENODATA],
  ['ENOSPC', constants.errno.ENOSPC],
])('%s has its name in an error of Node’s shape', (name, errno) => {
  expect(errnoName(errno)).toBe(name);
  const error = new SystemError(-errno, 'ioctl', '/some/file');
  expect(error).toMatchObject({ code: name, errno: -errno, syscall: 'ioctl', path: '/some/file' });
  expect(error.message).toMatch(new RegExp(`^${name}: .+, ioctl '/some/file'$`));
});

test('an errno that nobody knows still gives an error', () => {
  expect(new SystemError(-4000, 'ioctl')).toMatchObject({ code: 'E4000', errno: -4000 });
});

test.each([
  [0, 0, 0],
  [0, 0, -1],
  [-1, 0, 1],
  [0, 1.5, 1],
  [0, 0, 2 ** 32],
  [Number.NaN, 0, 1],
])('moveExtents refuses the range %d, %d, %d before the kernel sees it', async (orig, donor, count) => {
  await expect(moveExtents(-1, -1, orig as never, donor as never, count as never)).rejects.toThrow(
    RangeError,
  );
});

test('the addon itself refuses a length of 0, which the kernel would take for the whole file', async () => {
  expect(await native().moveExtents(-1, -1, 0, 0, 0)).toEqual([-constants.errno.EINVAL, 0]);
});

test('a path that is no Buffer is refused', () => {
  expect(() => native().openat2(-100, 'text' as never, 0, 0, 0)).toThrow(TypeError);
});

test('lists that are no such typed arrays are refused', () => {
  const [fds, offsets, names] = [new Int32Array(1), new Uint32Array(1), Buffer.from('name\0')];
  const wrong = [[-100] as never, offsets, names] as const;
  expect(() => native().inspectNames(...wrong, 0, 0, false, 1)).toThrow(TypeError);
  expect(() => native().readDirectories(fds, fds as never, names, 0, 0, 1, -1)).toThrow(TypeError);
  expect(() => native().inspectHandles(0, offsets, undefined as never, 0, 1)).toThrow(TypeError);
  expect(() => native().closeAll(offsets as never)).toThrow(TypeError);
});

test('a name outside its buffer is an empty one, and more names than descriptors have a bad one', async () => {
  const offsets = Uint32Array.from([7, 0]);
  const call = native().inspectNames(new Int32Array(1), offsets, Buffer.from('x'), 0, 0, false, 1);
  const { records } = await call;
  expect([records[0], records[11]]).toEqual([constants.errno.ENOENT, constants.errno.EBADF]);
});

// As node-gyp-build tells it.
const isMusl = !('glibcVersionRuntime' in (process.report.getReport() as { header: object }).header);
// test/support/sanitized.mjs
const isSanitized = process.env['LD_PRELOAD']?.includes('asan') ?? false;

test('a limit for freed memory is set, or said to be none', () => {
  expect(keepFreedMemoryBelow(128 * 1024)).toBe(!isMusl && !isSanitized);
});
