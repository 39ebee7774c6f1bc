// Writes what happens in a run as JSON lines, each with its time, for a log that something else reads. The command has
// --json for that; here one chooses what to keep.
//
//   node examples/watch.mjs TARGET >>run.jsonl
import { once } from 'node:events';
import { defragment } from 'ext4-defrag';

const KEPT = new Set(['defragmented', 'skip', 'failed', 'unsupported', 'pause', 'summary']);

const [target] = process.argv.slice(2);
if (target === undefined) {
  console.error('watch: name a file, a directory, a mount point or a mounted device');
  process.exit(2);
}

for await (const event of defragment([target], { measure: true })) {
  if (!KEPT.has(event.type)) continue;
  // A name that is not UTF-8 is there as bytes too, which JSON has no form for.
  const { pathBytes, ...fields } = event;
  const name = pathBytes === undefined ? {} : { pathBase64: pathBytes.toString('base64') };
  const line = JSON.stringify({ time: new Date().toISOString(), ...fields, ...name });
  // The run waits for whoever reads the log: nothing is done that nobody asks for.
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
  if (event.type === 'summary') process.exitCode = event.failed + event.unsupported > 0 ? 1 : 0;
}
