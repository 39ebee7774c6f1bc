// Makes a bare clone ready to run: npm packages, the native addon, the compiled library, and (as root on Debian) the
// system packages that it lacks. Plain JavaScript without dependencies, because it runs before anything is installed.
// Every step that has nothing to do costs milliseconds and says nothing.
//
//   node test/support/setup.mjs [--for demo|vm|test|torture|bench|packages]
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** Node's headers, where they came with it: node-gyp would download them. */
const prefix = dirname(dirname(realpathSync(process.execPath)));
const headers = existsSync(join(prefix, 'include', 'node', 'node_version.h'))
  ? { npm_config_nodedir: prefix }
  : {};
const say = (text) => console.error(`setup: ${text}`);

function run(command, args, env = {}) {
  try {
    // What a set-up step prints is not a result: it goes to stderr.
    execFileSync(command, args, {
      cwd: root,
      stdio: ['ignore', 2, 2],
      env: { ...headers, ...process.env, ...env },
    });
  } catch (error) {
    say(`"${[command, ...args].join(' ')}" failed (${error.status ?? error.code}); its output is above`);
    process.exit(1);
  }
}

/** The newest modification time, in milliseconds, of anything at or below the given paths. */
function newest(paths) {
  let latest = 0;
  for (const path of paths) {
    const stat = statSync(path);
    latest = Math.max(latest, stat.mtimeMs);
    if (stat.isDirectory())
      latest = Math.max(latest, newest(readdirSync(path).map((name) => join(path, name))));
  }
  return latest;
}

function onPath(command) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => folder !== '' && existsSync(join(folder, command)));
}

/** The Debian package that brings each program. */
const BUILD = { 'g++': 'g++', make: 'make', python3: 'python3' };
const MOUNT = { 'mkfs.ext4': 'e2fsprogs', mount: 'mount' };
const VM = { 'qemu-system-x86_64': 'qemu-system-x86', 'mkfs.ext4': 'e2fsprogs', 'dpkg-deb': 'dpkg' };
const MANUAL = { mandoc: 'mandoc', zsh: 'zsh', fish: 'fish', script: 'bsdutils' };
const TEST = {
  ...MOUNT,
  ...VM,
  ...MANUAL,
  cc: 'gcc',
  setfattr: 'attr',
  quotaon: 'quota',
  dmsetup: 'dmsetup',
  promtool: 'prometheus',
  strace: 'strace',
  jq: 'jq',
  'aarch64-linux-gnu-g++': 'g++-aarch64-linux-gnu',
  'systemd-analyze': 'systemd',
};
const TORTURE = { ...MOUNT, cc: 'gcc', fio: 'fio', 'stress-ng': 'stress-ng' };
/** Programs that packages are tried with, on other systems. */
const PACKAGES = {
  mmdebstrap: 'mmdebstrap',
  lintian: 'lintian',
  'qemu-aarch64-static': 'qemu-user-static',
  'ansible-playbook': 'ansible-core',
};
const PURPOSES = {
  build: BUILD,
  demo: { ...BUILD, ...MOUNT },
  vm: { ...BUILD, ...VM },
  test: { ...BUILD, ...TEST, ...TORTURE, chromium: 'chromium' },
  torture: { ...BUILD, ...TORTURE },
  bench: { ...BUILD, ...TEST, fio: 'fio' },
  packages: { ...BUILD, ...TEST, ...PACKAGES },
};
/** What needs these says that it is skipped where nobody may install them. */
const DISPENSABLE = ['chromium'];

function debianPackages() {
  const purpose = process.argv[2] === '--for' ? process.argv[3] : 'build';
  const programs = PURPOSES[purpose];
  if (programs === undefined) {
    say(`--for ${purpose}: not a purpose; there are ${Object.keys(PURPOSES).join(', ')}`);
    process.exit(2);
  }
  const wanted = Object.entries(programs);
  const missing = [...new Set(wanted.filter(([program]) => !onPath(program)).map(([, name]) => name))];
  if (missing.length === 0) return;
  if (process.getuid() !== 0 || !onPath('apt-get')) {
    if (missing.every((name) => DISPENSABLE.includes(name))) return;
    say(`these programs are missing, please install the packages: ${missing.join(' ')}`);
    process.exit(3);
  }
  say(`installing Debian packages: ${missing.join(' ')}`);
  run('apt-get', ['update', '-qq']);
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing]);
}

function nodePackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stamp = join(root, 'node_modules', '.ext4-defrag-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  say('installing npm packages and building the native addon');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  mkdirSync(join(root, 'node_modules'), { recursive: true });
  writeFileSync(stamp, lock);
}

function addon() {
  const built = join(root, 'build', 'Release', 'ext4_defrag.node');
  const sources = [join(root, 'native'), join(root, 'binding.gyp')];
  if (existsSync(built) && statSync(built).mtimeMs >= newest(sources)) return;
  say('building the native addon');
  // npm puts its own node-gyp on the PATH of scripts. A prebuilt binary must not do for changed sources.
  run('npm', ['run', '--silent', 'install'], { npm_config_build_from_source: 'true' });
}

function library() {
  const built = join(root, 'dist', 'cli', 'main.js');
  const sources = ['lib', 'package.json', 'tsconfig.json', 'tsconfig.build.json'].map((name) =>
    join(root, name),
  );
  if (existsSync(built) && statSync(built).mtimeMs >= newest(sources)) return;
  say('compiling TypeScript');
  run('npm', ['run', '--silent', 'build']);
}

debianPackages();
nodePackages();
addon();
library();
