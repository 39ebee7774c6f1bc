// The tests of the native code, with the addon built with AddressSanitizer and UBSan: `npm test -- --only sanitized`.
// It is built into build/sanitized, and node-gyp-build takes it from there (EXT4_DEFRAG_PREBUILD); the addon that
// everything else uses stays as it is.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const out = join(root, 'build', 'sanitized');
const compiler = process.env.CXX ?? 'g++';
const SANITIZE = [
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-fno-omit-frame-pointer',
  '-g',
];
const TESTS = [
  'test/unit/native.test.ts',
  ...['binding', 'errnos', 'walk', 'leaks'].map((name) => `test/system/${name}.test.ts`),
];

function fail(text) {
  console.error(`sanitized: ${text}`);
  process.exit(1);
}

/** Compiles a shared library if it is older than what it is made of. */
function build(name, sources, flags) {
  const library = join(out, name);
  const newest = Math.max(
    ...sources.concat(fileURLToPath(import.meta.url)).map((path) => statSync(path).mtimeMs),
  );
  if (existsSync(library) && statSync(library).mtimeMs >= newest) return library;
  mkdirSync(dirname(library), { recursive: true });
  const common = ['-O1', '-fPIC', '-shared', '-Wall', '-Wextra', '-Werror', ...SANITIZE, ...includes()];
  execFileSync(
    compiler,
    [...common, ...flags, '-o', library, ...sources.filter((path) => !path.endsWith('.h'))],
    {
      stdio: 'inherit',
    },
  );
  return library;
}

/** Node's headers where they came with it, or where node-gyp has put them. */
function includes() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const places = [
    join(prefix, 'include', 'node'),
    join(process.env.HOME ?? '/root', '.cache', 'node-gyp', process.versions.node, 'include', 'node'),
  ];
  const headers = places.find((place) => existsSync(join(place, 'node_api.h')));
  if (headers === undefined) fail(`no node_api.h in ${places.join(' or ')}`);
  return ['-isystem', headers, '-isystem', join(root, 'node_modules', 'node-addon-api')];
}

// As in binding.gyp.
const DEFINES = [
  'NAPI_VERSION=9',
  'NAPI_DISABLE_CPP_EXCEPTIONS',
  'NODE_ADDON_API_DISABLE_DEPRECATED',
  '_FILE_OFFSET_BITS=64',
];
const native = (name) => join(root, 'native', name);
const addon = build(
  // Where node-gyp-build looks.
  'build/Release/ext4_defrag.node',
  ['binding.cc', 'syscalls.cc', 'walk.cc', 'syscalls.h', 'walk.h'].map(native),
  ['-std=c++20', '-fno-exceptions', ...DEFINES.map((define) => `-D${define}`)],
);
const mistakes = build('mistake.node', [join(root, 'test/support/mistake.c')], ['-xc', '-w']);

const runtime = execFileSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
const env = {
  ...process.env,
  // Node itself is not built with it, so the runtime has to be there before everything else.
  LD_PRELOAD: runtime,
  // Leaks: Node and V8 leave what they hold to the end of the process, all of which would be called a leak; that the
  // addon loses no descriptors and blocks is what leaks.test.ts is for. SIGSEGV is V8's own.
  ASAN_OPTIONS: 'detect_leaks=0:handle_segv=0',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  EXT4_DEFRAG_PREBUILD: out,
};
const node = (script, more = {}) =>
  spawnSync(process.execPath, ['-e', script], { cwd: root, env: { ...env, ...more }, encoding: 'utf8' });

// That a mistake would be seen, and nothing else is taken for one.
for (const [mistake, report] of [
  ['none', /^$/],
  ['overflow', /AddressSanitizer: heap-buffer-overflow/],
  ['after-free', /AddressSanitizer: heap-use-after-free/],
  ['undefined', /runtime error: signed integer overflow/],
]) {
  const { status, stderr } = node(`require(${JSON.stringify(mistakes)})`, { MISTAKE: mistake });
  if ((status === 0) !== (mistake === 'none') || !report.test(stderr)) {
    fail(`the mistake "${mistake}" ended with ${status}:\n${stderr}`);
  }
}
// That it is this addon that the library loads.
const { stdout, stderr } = node(
  `require('node-gyp-build')(${JSON.stringify(root)}); process.stdout.write(require('fs').readFileSync('/proc/self/maps', 'utf8'))`,
);
if (!stdout.includes(addon) || !stdout.includes('libasan')) fail(`another addon was loaded:\n${stderr}`);

const tests = process.getuid() === 0 ? TESTS : TESTS.filter((name) => name.startsWith('test/unit'));
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
const { status } = spawnSync(process.execPath, [vitest, 'run', ...tests, ...process.argv.slice(2)], {
  cwd: root,
  env,
  stdio: 'inherit',
});
process.exit(status ?? 1);
