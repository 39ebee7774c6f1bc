// `npm run demo`: sets everything up and shows the job, on this machine as root and in the VM without.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error) console.error(`demo: ${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

const asRoot = process.getuid() === 0;
run(process.execPath, ['test/support/setup.mjs', '--for', asRoot ? 'demo' : 'vm']);
if (asRoot) {
  run(process.execPath, ['dist/cli/main.js', 'demo']);
} else {
  console.log('Not root, so this runs in a virtual machine (its kernel is downloaded the first time).');
  run(`${root}node_modules/.bin/tsx`, ['vm/main.ts', '--env', 'LANG=C.UTF-8', 'node dist/cli/main.js demo']);
}
