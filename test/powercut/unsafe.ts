// The mover without its barrier, to show what that is for: `unsafe.ts FOLDER` in the guest.
import { closeFd } from '../../lib/kernel/handle.ts';
import { pageSize } from '../../lib/kernel/page.ts';
import { Barrier } from '../../lib/move/barrier.ts';
import { moveBatch, placeWhereFree } from '../../lib/move/batch.ts';
import { Budget } from '../../lib/move/budget.ts';
import { Pace } from '../../lib/move/pace/pace.ts';
import { Scanner, type ScannedFile } from '../../lib/scan/scan.ts';
import { planOptionsFor } from '../../lib/scan/session.ts';
import { openTarget } from '../../lib/scan/targets.ts';

const target = await openTarget(Buffer.from(process.argv[2]));
const barrier = await Barrier.open(target.dirFd, target.filesystem.kernel);
barrier.commit = () => Promise.resolve();
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
    placer: placeWhereFree,
    searchDepth: undefined,
  });
  for await (const { kind } of outcomes) if (kind === 'defragmented') moved++;
}
console.log(`${moved} of ${files.length} files moved without a barrier`);
await barrier.close();
await closeFd(target.dirFd);
