// A process that writes 4 KiB somewhere in a file every few milliseconds, and notes how long each write took:
// overwriter.ts FILE MILLISECONDS. It says when it is at work, and answers what it noted when it is told to stop.
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';

export interface Writes {
  readonly count: number;
  /** Milliseconds. */
  readonly longest: number;
}

const BLOCK = 4096;
/** Before it is at work: the first writes read the extent tree, and compile. */
const WARM_UP = 100;

const [path, interval] = process.argv.slice(2);
const fd = openSync(path, 'r+');
const blocks = Math.floor(fstatSync(fd).size / BLOCK);
const content = Buffer.alloc(BLOCK, 'overwriter');

function write(): number {
  const position = Math.floor(Math.random() * blocks) * BLOCK;
  const started = performance.now();
  writeSync(fd, content, 0, BLOCK, position);
  return performance.now() - started;
}

for (let i = 0; i < WARM_UP; i++) write();
let [count, longest] = [0, 0];
const timer = setInterval(() => {
  longest = Math.max(longest, write());
  count++;
}, Number(interval));

process.on('disconnect', () => process.exit());
process.once('message', () => {
  clearInterval(timer);
  closeSync(fd);
  process.send?.({ count, longest } satisfies Writes, () => process.disconnect());
});
process.send?.('at work');
