// In the guest: moves a folder's files in one of several ways, and notes when that begins and when it is done behind
// the marks of test/support/records.c.
//
//   mover.ts MOVER FOLDER DEVICE OFFSET
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { execa } from 'execa';
import { defragment } from '../../lib/index.ts';
import { Barrier } from '../../lib/move/barrier.ts';
import { Leases } from '../../lib/move/lease.ts';

const [mover, folder, device, offset] = process.argv.slice(2);

async function note(text: string): Promise<void> {
  console.log(`${device} ${mover}: ${text}`);
  const file = await open(device, constants.O_WRONLY | constants.O_DSYNC);
  // A page of its own: the marks in the others are not written through the page cache.
  await file.write(Buffer.alloc(4096, text), 0, 4096, Number(offset));
  await file.close();
}

async function move(): Promise<string> {
  if (mover === 'e4defrag') {
    const { all } = await execa('e4defrag', [folder], { all: true, reject: false });
    return all.split('\n').findLast((line) => line.trim() !== '') ?? '';
  }
  if (mover === 'no-barrier') {
    // The test of the test: every exchange stays uncommitted until somebody else commits.
    Barrier.prototype.commit = () => Promise.resolve();
    // As if nobody else had any file open: none is exchanged in the way that commits.
    Leases.prototype.holds = () => true;
  }
  let last = '';
  for await (const event of defragment([folder], { full: true })) {
    if (event.type === 'failed') throw new Error(JSON.stringify(event));
    if (event.type === 'summary') last = JSON.stringify(event);
  }
  return last;
}

await note('begin');
console.log((await move()).slice(0, 400));
await note('done');
