// Builds the addon for every processor that packages are made for, into prebuilds/: what is there and newer than the
// sources stays. Each is one file for glibc and musl (binding.gyp says how). It is built in a folder of its own, so the
// build for this machine stays as it is.
//
//   npm run prebuilds [-- ARCH...]      x64 and arm64 by default
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** What GCC and binutils call a processor. */
const TRIPLETS = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };
const SOURCES = ['native', 'binding.gyp'];

function compilerFor(arch) {
  if (arch === process.arch) return {};
  const triplet = TRIPLETS[arch];
  return { CC: `${triplet}-gcc`, CXX: `${triplet}-g++`, PREBUILD_STRIP_BIN: `${triplet}-strip` };
}

/** Node's headers, where they came with it: node-gyp would download them. */
function headers() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  return existsSync(join(prefix, 'include/node/node_version.h')) ? { npm_config_nodedir: prefix } : {};
}

function build(arch) {
  const folder = mkdtempSync(join(tmpdir(), 'ext4-defrag-prebuild-'));
  try {
    for (const name of [...SOURCES, 'package.json'])
      cpSync(join(root, name), join(folder, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const nodeGyp = process.env.npm_config_node_gyp;
    execFileSync(
      process.execPath,
      [join(root, 'node_modules/prebuildify/bin.js'), '--napi', '--strip', '--arch', arch],
      {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'inherit'],
        env: {
          ...headers(),
          ...process.env,
          ...compilerFor(arch),
          npm_config_loglevel: 'error',
          ...(nodeGyp && { PREBUILD_NODE_GYP: nodeGyp }),
        },
      },
    );
    cpSync(join(folder, 'prebuilds'), join(root, 'prebuilds'), { recursive: true });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function newest(path) {
  const info = statSync(path);
  if (!info.isDirectory()) return info.mtimeMs;
  return Math.max(...readdirSync(path).map((name) => newest(join(path, name))));
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(TRIPLETS);
for (const arch of wanted) {
  if (!(arch in TRIPLETS)) {
    console.error(
      `prebuilds: ${arch} is not a processor that is built for; there are ${Object.keys(TRIPLETS).join(', ')}`,
    );
    process.exit(2);
  }
  const built = join(root, 'prebuilds', `linux-${arch}`, 'ext4-defrag.node');
  const sources = Math.max(...SOURCES.map((name) => newest(join(root, name))));
  if (existsSync(built) && statSync(built).mtimeMs > sources) continue;
  console.error(`prebuilds: building the addon for linux-${arch}`);
  mkdirSync(dirname(built), { recursive: true });
  build(arch);
}
