import { fragmentedFiles, runCommand, runJson } from './test/support/faults.ts';
import { Lab, MiB } from './test/support/lab.ts';
const l = await Lab.create({ size: 128 * MiB });
try {
  await fragmentedFiles(l, 4, Number(process.argv[2]) * 1024);
  await l.remount();
  console.log((await runCommand(['plan', '-o', `${l.image}.plan`, l.mountPoint])).exitCode);
  const r = await runJson(['apply', `${l.image}.plan`]);
  for (const e of r.events) if (e.type === 'placement') console.log(e.path, e.reason);
} finally { await l.close(); }
