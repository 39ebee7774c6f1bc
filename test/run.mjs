// All tests, each stage said before it runs: `npm test`. Options:
//
//   --only STAGE[,STAGE]   static, unit, browser, system, sanitized, torture, vm, package
//
// Ends with one line that counts every test of every stage.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const bin = (name) => `${root}node_modules/.bin/${name}`;
const totals = { passed: 0, failed: 0, skipped: 0 };

/** Runs a command, shows its output as it comes, and answers its exit code and its standard output. */
function run(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
      process.stdout.write(data);
    });
    child.on('error', (error) => resolve({ code: 127, output: String(error) }));
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

/** A stage that is one check. */
async function check(name, command, args) {
  console.log(`\n== ${name}`);
  const { code } = await run(command, args);
  totals[code === 0 ? 'passed' : 'failed']++;
}

/** A stage that is a vitest run, here or in the VM: its summary line says how many tests there were. */
async function suite(name, command, args, env) {
  console.log(`\n== ${name}`);
  const { code, output } = await run(command, args, env);
  const line = output.split('\n').findLast((text) => /^\s*Tests {2}/.test(text)) ?? '';
  const count = (word) => Number(new RegExp(`(\\d+) ${word}`).exec(line)?.[1] ?? 0);
  totals.passed += count('passed');
  totals.skipped += count('skipped');
  totals.failed += count('failed');
  // A run that broke, or that ran nothing, has failed whatever it counted.
  if ((code !== 0 && count('failed') === 0) || count('passed') === 0) totals.failed++;
}

function skip(name, why) {
  console.log(`\n== ${name}: skipped, ${why}`);
  totals.skipped++;
}

// What the command line does with its arguments does not depend on the kernel: on the older one the engine is enough.
const ENGINE = ['binding', 'errnos', 'defragment', 'placement', 'durability', 'concurrency'].map(
  (name) => `test/system/${name}`,
);
const KERNELS = [
  { kernel: '6.12', files: [] },
  { kernel: '6.1', files: ENGINE },
];

const stages = {
  async static() {
    await check('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
    await check('types of the page', bin('tsc'), ['-p', 'lib/report/page/tsconfig.json']);
    await check('lint', bin('eslint'), ['.']);
    await check('format', bin('prettier'), ['--check', '--log-level', 'warn', '.']);
  },
  unit: () => suite('unit tests', bin('vitest'), ['run', '--project', 'unit']),
  async system() {
    const name = 'system tests on this kernel';
    if (process.getuid() !== 0) skip(name, 'they need root for loop devices; the VM runs them all the same');
    else await suite(name, bin('vitest'), ['run', '--project', 'system']);
  },
  browser: () => suite('the page in a browser', bin('vitest'), ['run', '--project', 'browser']),
  sanitized: () =>
    suite('native code with AddressSanitizer and UBSan', process.execPath, ['test/support/sanitized.mjs']),
  async torture() {
    const name = 'a share of the torture';
    if (process.getuid() !== 0) skip(name, 'it needs root for loop devices');
    else await suite(name, bin('vitest'), ['run', '--project', 'torture']);
  },
  async vm() {
    for (const { kernel, files } of KERNELS) {
      const vitest = ['node_modules/.bin/vitest', 'run', '--project', 'system', ...files];
      await suite(`system tests in a VM with Linux ${kernel}`, bin('tsx'), [
        'vm/main.ts',
        '--kernel',
        kernel,
        ...vitest,
      ]);
    }
  },
  async package() {
    await check('package: publint', bin('publint'), ['--strict']);
    await check('package: types', bin('attw'), ['--pack', '.', '--profile', 'esm-only']);
  },
};

const only = process.argv[2] === '--only' ? process.argv[3].split(',') : Object.keys(stages);
const unknown = only.filter((name) => !(name in stages));
if (unknown.length > 0) {
  console.error(`test/run.mjs: no stage ${unknown.join(', ')}; there are ${Object.keys(stages).join(', ')}`);
  process.exit(2);
}
if (only.some((name) => ['system', 'sanitized', 'torture', 'vm'].includes(name))) {
  await check('test programs', process.execPath, ['test/support/build.mjs']);
}
for (const name of only) await stages[name]();
console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed === 0 ? 0 : 1;
