// All tests, each stage said before it runs: `npm test`. Options:
//
//   --only STAGE[,STAGE]   static, unit, browser, system, sanitized, torture, vm, powercut, package
//   --every-file           in the VMs too, run all system tests and not only what the kernel can make a difference to
//
// Ends with what each stage took and had, and with one line that counts every test of every stage.
import { spawn } from 'node:child_process';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('../', import.meta.url));
const bin = (name) => `${root}node_modules/.bin/${name}`;
/** Of each stage that has run: its name, how many of its tests passed, failed and were skipped, and its seconds. */
const results = [];

/** Runs a command, shows its output as it comes, and answers its exit code and its standard output. */
function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, NO_COLOR: '1' },
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

/** Has a stage done, and notes its result: `count` answers its counts from what {@link run} answers. */
async function stage(name, command, args, count) {
  console.log(`\n== ${name}`);
  const started = Date.now();
  const counts = count(await run(command, args));
  results.push({ name, ...counts, seconds: Math.round((Date.now() - started) / 1000) });
}

/** A stage that is one check. */
const check = (name, command, args) =>
  stage(name, command, args, ({ code }) => ({
    passed: code === 0 ? 1 : 0,
    failed: code === 0 ? 0 : 1,
    skipped: 0,
  }));

/** A stage that is a vitest run, here or in the VM: its summary line says how many tests there were. */
const suite = (name, command, args) =>
  stage(name, command, args, ({ code, output }) => {
    const line = output.split('\n').findLast((text) => /^\s*Tests {2}/.test(text)) ?? '';
    const count = (word) => Number(new RegExp(`(\\d+) ${word}`).exec(line)?.[1] ?? 0);
    const [passed, skipped, failed] = [count('passed'), count('skipped'), count('failed')];
    // A run that broke, or that ran nothing, has failed whatever it counted.
    return { passed, skipped, failed: failed + ((code !== 0 && failed === 0) || passed === 0 ? 1 : 0) };
  });

function skip(name, why) {
  console.log(`\n== ${name}: skipped, ${why}`);
  results.push({ name, passed: 0, failed: 0, skipped: 1, seconds: 0 });
}

/** What the kernel answers, and what of it this program lives on: on every kernel. */
const ENGINE = ['binding', 'errnos', 'defragment', 'placement', 'durability', 'concurrency'];
/**
 * Also what uses it in other ways. Not here, since an older kernel makes no difference to it and the emulated processor
 * takes minutes over it (all of it runs on this machine's kernel, and with --every-file in the VMs as well):
 * command, pacing: arguments, output, exit codes, signals and pauses of the command;
 * ext4, names: bytes on the disk, which are compared with e2fsprogs;
 * walk: directories and names;
 * apply, arrange, consolidate, space: other uses of what placement and room try;
 * faults-limits, faults-frozen, kernel: space, descriptors and names of kernels, and who waits for whom;
 * tables: bytes on the disk again, and files opened by number.
 *
 * Of faults-device and variety that runs which takes a device mapper, quotas and other things that this
 * machine's kernel may have been built without (VM_SHARE of test/support/lab.ts).
 */
const DEFAULT_KERNEL = [...ENGINE, 'faults.', 'faults-device', 'faults-quota', 'variety', 'room'];
const KERNELS = [
  { kernel: '6.12', files: DEFAULT_KERNEL },
  { kernel: '6.1', files: [...ENGINE, 'faults-device'] },
];

const stages = {
  async static() {
    await check('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
    await check('types of the page', bin('tsc'), ['-p', 'lib/report/page/tsconfig.json']);
    await check('lint', bin('eslint'), ['.']);
    await check('documentation of the library', bin('typedoc'), ['--emit', 'none']);
    await check('format', bin('prettier'), ['--check', '--log-level', 'warn', '.']);
  },
  unit: () => suite('unit tests', bin('vitest'), ['run', '--project', 'unit']),
  async system() {
    const name = `system tests on this kernel, ${release()}`;
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
      const chosen = options['every-file'] ? [] : files.map((name) => `test/system/${name}`);
      const vitest = ['node_modules/.bin/vitest', 'run', '--project', 'system', ...chosen];
      // One at a time: an emulated guest keeps two processors busy.
      const share = options['every-file'] ? [] : ['--env', 'EXT4_DEFRAG_VM_SHARE=1'];
      const args = ['vm/main.ts', '--kernel', kernel, '--timeout', '5400', ...share, ...vitest];
      await suite(`system tests in a VM with Linux ${kernel}`, bin('tsx'), args);
    }
  },
  async powercut() {
    const name = 'a share of the power cuts';
    if (process.getuid() !== 0) skip(name, 'it needs root for loop devices');
    else await suite(name, bin('tsx'), ['test/powercut/main.ts', '--share']);
  },
  async package() {
    await check('package: publint', bin('publint'), ['--strict']);
    await check('package: types', bin('attw'), ['--pack', '.', '--profile', 'esm-only']);
  },
};

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(stages).join() },
    'every-file': { type: 'boolean' },
  },
});
const only = options.only.split(',');
const unknown = only.filter((name) => !(name in stages));
if (unknown.length > 0) {
  console.error(`test/run.mjs: no stage ${unknown.join(', ')}; there are ${Object.keys(stages).join(', ')}`);
  process.exit(2);
}
if (only.some((name) => ['system', 'sanitized', 'torture', 'vm', 'powercut'].includes(name))) {
  await check('test programs', process.execPath, ['test/support/build.mjs']);
}
for (const name of only) await stages[name]();

const columns = ['passed', 'failed', 'skipped', 'seconds'];
const sum = (column) => results.reduce((total, result) => total + result[column], 0);
const width = Math.max(...results.map(({ name }) => name.length));
const row = (name, cells) => `${name.padEnd(width)}${cells.map((cell) => String(cell).padStart(9)).join('')}`;
console.log(`\n${row('', columns)}`);
for (const result of results)
  console.log(
    row(
      result.name,
      columns.map((column) => result[column]),
    ),
  );
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
process.exitCode = sum('failed') === 0 ? 0 : 1;
