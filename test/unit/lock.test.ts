import { expect, test } from 'vitest';
import { holderOf } from '../../lib/move/lock.ts';

test('/proc/locks tells who has the root directory of a filesystem locked', () => {
  const locks = [
    '1: POSIX  ADVISORY  WRITE 100 07:00:2 0 EOF',
    '2: FLOCK  ADVISORY  WRITE 200 07:00:12 0 EOF',
    '3: FLOCK  ADVISORY  WRITE 300 103:0a:2 0 EOF',
    '3: -> FLOCK  ADVISORY  WRITE 301 103:0a:2 0 EOF',
    '4: FLOCK  ADVISORY  WRITE 400 07:00:2 0 EOF',
    '',
  ].join('\n');
  expect(holderOf(locks, '7:0')).toBe(400);
  expect(holderOf(locks, '259:10')).toBe(300);
  expect(holderOf(locks, '8:1')).toBeUndefined();
  expect(holderOf('', '7:0')).toBeUndefined();
  // Who only waits has nothing.
  expect(holderOf('3: -> FLOCK  ADVISORY  WRITE 301 07:00:2 0 EOF', '7:0')).toBeUndefined();
});
