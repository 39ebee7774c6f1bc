import { expect, test } from 'vitest';
import { failureText } from '../../lib/report/failure.ts';
import { SystemError } from '../../lib/kernel/errors.ts';

const text = (errno: number, call: string) => failureText(new SystemError(errno, call, '/srv/file'));

test('what failed, in one line, with what to do about it where that is not plain', () => {
  expect(text(5, 'fsync')).toBe('i/o error (EIO, fsync); the kernel log says more');
  expect(text(30, 'fsync')).toBe('read-only file system (EROFS, fsync); the kernel log says why');
  expect(text(24, 'openat2')).toBe('too many open files (EMFILE, openat2); ulimit -n allows more');
  expect(text(2, 'openat2')).toBe('no such file or directory (ENOENT, openat2)');
});
