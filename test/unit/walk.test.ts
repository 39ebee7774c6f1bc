import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, test, vi } from 'vitest';
import { SystemError } from '../../lib/kernel/errors.ts';
import { DT } from '../../lib/kernel/handle.ts';
import type { Inspected, Listing, NameList } from '../../lib/kernel/inspect.ts';
import { bytes } from '../../lib/layout/units.ts';
import { walk } from '../../lib/scan/walk.ts';

// A kernel in which everything takes its time, and whose descriptors are known to be open or not.
const kernel = vi.hoisted(() => ({
  listings: [] as Listing[],
  closed: new Set<number>(),
  running: 0,
  mostRunning: 0,
}));

vi.mock(import('../../lib/kernel/inspect.ts'), async (original) => ({
  ...(await original()),
  readDirectories: () => Promise.resolve(kernel.listings.shift()!),
  inspectList: async ({ fds }: NameList) => {
    kernel.mostRunning = Math.max(kernel.mostRunning, ++kernel.running);
    await sleep(10);
    kernel.running--;
    return Array.from(fds, (fd): Inspected => {
      if (kernel.closed.has(fd)) return { kind: 'error', error: new SystemError(9, 'openat2') };
      const [size, mode] = [bytes(0), 0o100644];
      return {
        kind: 'inode',
        inode: 100,
        size,
        hasBlocks: false,
        links: 1,
        mode,
        flags: 0,
        extents: undefined,
      };
    });
  },
  closeAll: (fds: readonly number[]) => {
    for (const fd of fds) kernel.closed.add(fd);
    return Promise.resolve();
  },
}));

function part(fd: number, files: number, more: boolean, kind: number = DT.REGULAR): Listing {
  const names = Array.from({ length: files }, (_, i) => `file ${i}`);
  return {
    directories: [{ fd, error: undefined, more, count: files }],
    entries: Uint32Array.from(names.flatMap((name, i) => [100 + i, kind, name.length])),
    names: Buffer.from(names.map((name) => `${name}\0`).join('')),
    bytesRead: bytes(0),
  };
}

const root = { rootFd: 3, deviceFd: undefined, blockSize: bytes(4096) };

beforeEach(() => {
  kernel.closed.clear();
  kernel.mostRunning = 0;
});

test.each([
  { what: 'nothing', rest: part(10, 0, false) },
  { what: 'links only', rest: part(10, 500, false, DT.SYMLINK) },
])('files are looked at through a directory whose rest holds $what', async ({ rest }) => {
  kernel.listings = [part(10, 600, true), rest];
  let files = 0;
  const judge = (_: string, kind: number) => (kind === DT.SYMLINK ? 'not-regular' : undefined);
  for await (const batch of walk(root, judge, undefined)) {
    for (const { found } of batch) {
      if (found === 'not-regular') continue;
      expect(found).toMatchObject({ kind: 'inode' });
      files++;
    }
  }
  expect(files).toBe(600);
  expect(kernel.closed).toEqual(new Set([10]));
});

test('only so many files are looked at at a time, and leaving waits for those and closes everything', async () => {
  kernel.listings = [part(10, 128 * 30, true), part(10, 0, false)];
  for await (const batch of walk(root, () => undefined, undefined)) {
    expect(batch.length).toBe(128);
    break;
  }
  expect(kernel.mostRunning).toBeLessThanOrEqual(6);
  expect(kernel.running).toBe(0);
  expect(kernel.closed).toEqual(new Set([10]));
});
