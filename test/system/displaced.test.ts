import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { apply, defragment, fiemap, mergeExtents, type Event } from '../../lib/index.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { SystemError } from '../../lib/kernel/errors.ts';
import { bytes } from '../../lib/layout/units.ts';
import { identify, MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

/** A block that was exchanged for another stays there: its giving back fails, as when somebody pins its page. */
const lent = vi.hoisted(() => ({ blocks: new Set<string>(), refused: 0 }));
vi.mock(import('../../lib/move/exchange.ts'), async (original) => {
  const module = await original();
  return {
    ...module,
    exchange: async (fd, segment, ...rest) => {
      const key = `${fd}:${segment.logical}`;
      if (segment.length > 1 || !lent.blocks.has(key)) {
        if (segment.length === 1) lent.blocks.add(key);
        return module.exchange(fd, segment, ...rest);
      }
      lent.refused++;
      const error = new SystemError(constants.errno.EBUSY, 'ioctl(EXT4_IOC_MOVE_EXT)');
      return { moved: 0 as typeof segment.length, error, longest: 0 };
    },
  };
});

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const list: E[] = [];
  for await (const event of events) list.push(event);
  return list;
}

test('a borrowed block that cannot be given back is told of, and nothing of its file is lost', async () => {
  const l = await useLab();
  // The places to which the file is put back have blocks of the wall beside them.
  const [fd, wall] = [await l.create('file'), await l.create('wall')];
  for (let i = 0; i < 128; i++) {
    for (const each of [fd, wall]) await fallocate(each, 0, bytes(i * 16384), bytes(16384));
  }
  for (const name of ['file', 'wall']) {
    const file = await open(l.path(name), 'r+');
    await file.write(randomBytes(2 * MiB));
    await file.close();
  }
  await l.remount();
  const before = [await identify(l.path('file')), await identify(l.path('wall'))];
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-displaced-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const undo = join(folder, 'undo.json');
  await collect(defragment([l.path('file')], { keepUndo: undo }));
  expect(lent.blocks.size).toBe(0);

  const events = await collect(apply(undo));
  expect(lent.refused).toBeGreaterThan(0);
  const told = events.flatMap((event) => (event.type === 'notice' ? event : []));
  const { ino } = await stat(l.path('wall'));
  expect(told).toEqual([
    expect.objectContaining({
      about: 'placement',
      message: expect.stringContaining(`inode ${ino} `) as string,
    }),
  ]);
  expect([await identify(l.path('file')), await identify(l.path('wall'))]).toEqual(before);
  const extents = mergeExtents(await fiemap(await l.open('wall'), l.blockSize));
  expect(extents.count).toBeGreaterThan(128);
});
