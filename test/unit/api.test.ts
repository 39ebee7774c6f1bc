import { expect, test } from 'vitest';
import { check, defragment, plan, space, type Event } from '../../lib/index.ts';

async function all(events: AsyncIterable<Event>): Promise<Event[]> {
  const list: Event[] = [];
  for await (const event of events) list.push(event);
  return list;
}

test.each([check, plan, defragment])('%o wants a list of targets, not one', async (run) => {
  await expect(all(run('/srv' as never))).rejects.toThrow(TypeError);
  await expect(all(run(['/srv'], { fragmentSize: Number.NaN }))).rejects.toThrow(RangeError);
});

test.each([check, plan, defragment])(
  '%o: a target that is not there is an event, the summary comes last',
  async (run) => {
    const events = await all(run(['/does/not/exist']));
    expect(events[0]).toMatchObject({ type: 'failed', path: '/does/not/exist', code: 'ENOENT' });
    expect(events.at(-1)).toMatchObject({ type: 'summary', failed: 1, files: 0 });
  },
);

test.each([check, plan, defragment])(
  '%o: an aborted signal ends the run at once, with its summary',
  async (run) => {
    const events = await all(run(['/does/not/exist'], { signal: AbortSignal.abort() }));
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({ type: 'summary', interrupted: true });
  },
);

test('space: as the others, and counts filesystems', async () => {
  await expect(all(space('/srv' as never))).rejects.toThrow(TypeError);
  const events = await all(space(['/does/not/exist', '/proc']));
  expect(events).toMatchObject([
    { type: 'failed', path: '/does/not/exist', code: 'ENOENT' },
    {
      type: 'unsupported',
      path: '/proc',
      message: 'not an ext4 filesystem (it is proc): name something on an ext4',
    },
    { type: 'summary', command: 'space', filesystems: 0, failed: 1, unsupported: 1, interrupted: false },
  ]);
  expect(await all(space(['/does/not/exist'], { signal: AbortSignal.abort() }))).toMatchObject([
    { type: 'summary', filesystems: 0, failed: 0, interrupted: true },
  ]);
});

test.each([
  { maxRate: 0 },
  { maxLatency: -1 },
  { timeLimit: Number.NaN },
  { maxBytes: 0 },
  { maxWrittenPercent: 0 },
  { pressure: 0 },
  { pressure: 101 },
])('defragment wants limits that leave something to do: %o', async (options) => {
  await expect(all(defragment([], options))).rejects.toThrow(RangeError);
});
