// Plans, and carries the plan out only if that gains enough; leaves a file by which apply puts everything back.
//
//   node examples/plan-then-apply.mjs TARGET FOLDER [SECONDS]
//
// FOLDER is where plan.json and undo.json go: on another filesystem, or they may get in the way of what is planned.
import { join } from 'node:path';
import { apply, plan } from 'ext4-defrag';

const [target, folder, seconds = '1'] = process.argv.slice(2);
if (target === undefined || folder === undefined) {
  console.error('plan-then-apply: name what to defragment, and a folder for the plan');
  process.exit(2);
}
const planFile = join(folder, 'plan.json');

/** The summary, which is the last event of every run. What is wrong with a file goes to standard error. */
async function summaryOf(run) {
  for await (const event of run) {
    if (event.type === 'failed' || event.type === 'unsupported')
      console.error(`${event.path}: ${event.message}`);
    if (event.type === 'summary') return event;
  }
}

const planned = await summaryOf(plan([target], { output: planFile }));
console.log(`${planned.filesToMove} files, ${planned.bytesToMove} bytes to move`);
console.log(`reading them once takes ${planned.savedSeconds.toFixed(3)} s less then`);
if (planned.planFile === undefined || planned.savedSeconds < Number(seconds)) {
  console.log('not worth it');
} else {
  const done = await summaryOf(apply(planFile, { keepUndo: join(folder, 'undo.json') }));
  const { predicted, achieved } = done;
  console.log(`fragments: ${predicted.fragmentsBefore} -> ${achieved.fragmentsAfter}`);
  console.log(`predicted ${predicted.fragmentsAfter}, applied ${done.applied} steps`);
  if (done.undoFile !== undefined) console.log(`undo: ${done.undoFile}`);
  process.exitCode = done.failed + done.unsupported > 0 ? 1 : 0;
}
