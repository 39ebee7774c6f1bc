// An undo file puts a whole filesystem back, also where its files lie in each other's old places.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  apply,
  defragment,
  type ApplyEvent,
  type ApplySummary,
  type DefragSummary,
  type Event,
} from '../../lib/index.ts';
import { fingerprint } from '../../lib/layout/fingerprint.ts';
import { age } from '../support/age.ts';
import { IN_VM, MiB, type Lab } from '../support/lab.ts';
import { contentsOf, layoutOf } from '../support/layout.ts';
import { useLab } from '../support/use.ts';

/** For undo files: not on the filesystem that they are for. */
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-undo-'))));
afterAll(() => rm(folder, { recursive: true }));

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const fingerprintsOf = async (l: Lab, names: readonly string[]) =>
  new Map([...(await layoutOf(l, names)).files].map(([name, extents]) => [name, fingerprint(extents)]));

/** Names of files that do not lie as they did. */
const elsewhere = (was: ReadonlyMap<string, string>, is: ReadonlyMap<string, string>): string[] =>
  [...was].flatMap(([name, print]) => (is.get(name) === print ? [] : [name]));

/** Why files were not put back. */
const skipsOf = (events: readonly ApplyEvent[]) =>
  events.flatMap((event) => (event.type === 'skip' ? [event] : []));

/** Milliseconds: to age a filesystem takes minutes on an emulated processor. */
const TIMEOUT = 600_000;

test.each(
  IN_VM
    ? [{ fill: 0.7, size: 64, seed: 1 }]
    : [
        { fill: 0.7, size: 96, seed: 1 },
        { fill: 0.85, size: 128, seed: 2 },
      ],
)(
  'an aged filesystem, $fill in use, is put back as it was, what went out of the way as well (seed $seed)',
  async ({ fill, size, seed }) => {
    const l = await useLab({ size: size * MiB, mkfs: ['-m', '0'] });
    const names = await age(l, { fill, seed });
    const before = await fingerprintsOf(l, names);
    const contents = contentsOf(l, names);
    await l.remount();
    const path = join(folder, `${fill}-${seed}.json`);
    const done = (await collect(defragment([l.mountPoint], { keepUndo: path }))).at(-1) as DefragSummary;
    const between = await fingerprintsOf(l, names);
    const moved = elsewhere(before, between);
    // Some that are no better off went out of the way.
    expect(moved.length).toBeGreaterThan(done.defragmented);
    const events = await collect(apply(path));
    const summary = events.at(-1) as ApplySummary;
    const left = elsewhere(before, await fingerprintsOf(l, names));
    expect(contentsOf(l, names)).toEqual(contents);
    // Where an extent tree has got a block since, nothing can be put back.
    expect(left.length).toBeLessThan(moved.length * 0.1);
    for (const skip of skipsOf(events)) {
      expect(skip).toMatchObject({ reason: 'place-taken', detail: expect.any(String) as string });
    }
    expect(skipsOf(events)).toHaveLength(left.length);
    expect(summary).toMatchObject({ kind: 'undo', applied: moved.length - left.length, failed: 0 });
  },
  TIMEOUT,
);
