import { expect, test } from 'vitest';
import { defragment, plan, type DefragEvent, type DefragSummary, type Event } from '../../lib/index.ts';
import { age } from '../support/age.ts';
import { IN_VM, MiB } from '../support/lab.ts';
import { changeOf, contentsOf, layoutOf } from '../support/layout.ts';
import { useLab } from '../support/use.ts';

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const all: E[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/**
 * Ages a filesystem, defragments it, and answers what happened and what it gained. Whatever that is, no file is in more
 * fragments than before, none fails, and content, size, times and modes are what they were.
 */
async function defragmentAged(fill: number, size: number) {
  const lab = await useLab({ size: (IN_VM ? 128 : size) * MiB, mkfs: ['-m', '0'] });
  const names = await age(lab, { fill });
  const before = await layoutOf(lab, names);
  // Most of what is in use is fragmented, and nowhere is there room for more than a small file.
  expect(before.fragmentedBytes).toBeGreaterThan(before.bytes / 2);
  expect(before.free.bytes / before.free.runs).toBeLessThan(64 * 1024);
  expect(before.free.longest).toBeLessThan(4 * MiB);
  const contents = contentsOf(lab, names);
  await lab.remount();
  const events = await collect(defragment([lab.mountPoint]));
  await lab.remount();
  const change = changeOf(before, await layoutOf(lab, names), lab.blockSize);
  expect(change.worse).toEqual([]);
  expect(contentsOf(lab, names)).toEqual(contents);
  expect(events.filter(({ type }) => type === 'failed' || type === 'unsupported')).toEqual([]);
  return { lab, before, events, summary: events.at(-1) as DefragSummary, ...change };
}

/** Why files are not, or not all, what they were to become, by path. */
const reasonsOf = (events: readonly DefragEvent[]) =>
  new Map(
    events.flatMap((event) => {
      if (event.type === 'skip') return [[event.path, event.reason]];
      return event.type === 'defragmented' && event.incomplete ? [[event.path, event.incomplete]] : [];
    }),
  );

/** Milliseconds: one takes minutes on an emulated processor. */
const TIMEOUT = 600_000;

test.each(
  IN_VM
    ? [{ fill: 0.85, size: 128 }]
    : [
        { fill: 0.7, size: 512 },
        { fill: 0.85, size: 1024 },
      ],
)(
  'room is made where there is none: $fill of the blocks in use',
  async ({ fill, size }) => {
    const { cured, summary } = await defragmentAged(fill, size);
    // In so small a filesystem as that of the VM there is hardly a stretch of 8 MiB without something that cannot move.
    expect(cured).toBeGreaterThanOrEqual(IN_VM ? 0.2 : 0.95);
    expect(summary.bytesEvacuated).toBeLessThan(2 * summary.bytesMoved);
  },
  TIMEOUT,
);

// Once is enough on an emulated processor, which takes minutes.
test.each(IN_VM ? [] : [0.95])(
  'hardly anything is free, %d in use: what stays in fragments has its reason',
  { timeout: TIMEOUT },
  async (fill) => {
    const { lab, events } = await defragmentAged(fill, 512);
    const reasons = reasonsOf(events);
    const left = (await collect(plan([lab.mountPoint]))).filter(({ type }) => type === 'plan');
    const unexplained = left.filter((event) => !('path' in event && reasons.has(event.path)));
    expect(unexplained).toEqual([]);
  },
);
