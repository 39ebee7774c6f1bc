import { expect, test } from 'vitest';
import { failureText } from '../../lib/report/failure.ts';
import { SystemError } from '../../lib/kernel/errors.ts';

const text = (errno: number, call: string) => failureText(new SystemError(errno, call, '/srv/file'));

test('what failed, in one line, with what to do about it', () => {
  expect(text(5, 'fsync')).toBe('i/o error (EIO, fsync); see the kernel log');
  expect(text(30, 'fsync')).toBe('read-only file system (EROFS, fsync); see the kernel log for why it is');
  expect(text(24, 'openat2')).toBe('too many open files (EMFILE, openat2); see ulimit -n, which allows more');
  expect(text(2, 'openat2')).toBe(
    'no such file or directory (ENOENT, openat2); see whether it is spelled right and mounted',
  );
  expect(text(116, 'openat2')).toBe('stale file handle (ESTALE, openat2)');
});

test('an error of our own says itself what to do', () => {
  expect(failureText({ code: 'EPERM', message: 'it is so; try this' })).toBe('it is so; try this');
});
