// The mover beneath the run, for tests that change what it rests on.
import { closeFd } from '../../lib/kernel/handle.ts';
import { pageSize } from '../../lib/kernel/page.ts';
import { Barrier } from '../../lib/move/barrier.ts';
import { moveBatch, placeWhereFree } from '../../lib/move/batch.ts';
import { Budget } from '../../lib/move/budget.ts';
import { Leases } from '../../lib/move/lease.ts';
import { Pace } from '../../lib/move/pace/pace.ts';
import { Scanner, type ScannedFile } from '../../lib/scan/scan.ts';
import { planOptionsFor } from '../../lib/scan/session.ts';
import { openTarget } from '../../lib/scan/targets.ts';

/**
 * Moves the files of a target one after the other, into one fragment each.
 *
 * @param care 'careless' for no barrier, and for files that others have open being moved as if nobody had
 * @returns how many were defragmented
 */
export async function moveWith(path: string, care?: 'careless'): Promise<number> {
  const target = await openTarget(Buffer.from(path));
  const barrier = await Barrier.open(target.dirFd, target.filesystem.kernel);
  if (care === 'careless') barrier.commit = () => Promise.resolve();
  const holds = Object.getOwnPropertyDescriptor(Leases.prototype, 'holds') ?? {};
  if (care === 'careless') Object.defineProperty(Leases.prototype, 'holds', { ...holds, value: () => true });
  try {
    const files: ScannedFile[] = [];
    for await (const item of new Scanner({}, false).scan(target)) if (item.kind === 'file') files.push(item);
    let moved = 0;
    for (const file of files) {
      const outcomes = moveBatch([{ file, planned: file.size }], {
        filesystem: target.filesystem,
        dirFd: target.dirFd,
        pageSize: await pageSize(),
        barrier,
        planOptions: planOptionsFor(target, { full: true }),
        exclusive: false,
        pace: new Pace({}, target.filesystem.id),
        budget: new Budget(undefined, {}),
        ending: () => 'interrupted',
        memory: undefined,
        measurement: undefined,
        displaced: new Set(),
        placer: placeWhereFree,
        searchDepth: undefined,
      });
      for await (const { kind } of outcomes) if (kind === 'defragmented') moved++;
    }
    return moved;
  } finally {
    Object.defineProperty(Leases.prototype, 'holds', holds);
    await barrier.close();
    await closeFd(target.dirFd);
  }
}
