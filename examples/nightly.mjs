// Defragments what a night allows: ends after some minutes or gigabytes, or at Ctrl-C, and goes on the next time.
//
//   node examples/nightly.mjs TARGET [MINUTES] [GIGABYTES]
import { defragment } from 'ext4-defrag';

const [target, minutes = '60', gigabytes = '20'] = process.argv.slice(2);
if (target === undefined) {
  console.error('nightly: name a file, a directory, a mount point or a mounted device');
  process.exit(2);
}

// The chunk in hand is finished and committed, then comes the summary.
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort());

const run = defragment([target], {
  signal: stop.signal,
  timeLimit: Number(minutes) * 60,
  maxBytes: Number(gigabytes) * 2 ** 30,
  // Pause while others wait for the device for more than 15 % of the time.
  pressure: 15,
  // Where the next run finds how far this one came.
  state: true,
});
for await (const event of run) {
  if (event.type === 'defragmented')
    console.log(`${event.path}: ${event.fragmentsBefore} -> ${event.fragmentsAfter} fragments`);
  else if (event.type === 'progress')
    console.error(`${(event.bytesMoved / 2 ** 20).toFixed(0)} MiB moved, at ${event.path}`);
  else if (event.type === 'failed' || event.type === 'unsupported')
    console.error(`${event.path}: ${event.message}`);
  else if (event.type === 'summary') {
    const { defragmented, bytesMoved, budget, interrupted } = event;
    console.log(`${defragmented} files, ${bytesMoved} bytes moved`);
    if (budget !== undefined) console.log(`the limit of ${budget.reached} is reached: run it again to go on`);
    if (interrupted) console.log('stopped: run it again to go on');
    process.exitCode = event.failed + event.unsupported > 0 ? 1 : 0;
  }
}
