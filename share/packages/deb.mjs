// Makes a Debian package of what `npm run build` and `npm run prebuilds` have made, with dpkg-deb. Prints its path.
//
//   npm run deb [-- --arch amd64|arm64] [--out FOLDER]
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const root = fileURLToPath(new URL('../../', import.meta.url));
const templates = join(root, 'share/packages/debian');
const NODE_ARCH = { amd64: 'x64', arm64: 'arm64' };
const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: process.arch === 'x64' ? 'amd64' : process.arch },
    out: { type: 'string', default: root },
  },
});
const { arch } = values;
if (!(arch in NODE_ARCH)) fail(`--arch ${arch}: there are ${Object.keys(NODE_ARCH).join(', ')}`);
const pkg = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

function fail(message) {
  console.error(`deb: ${message}`);
  process.exit(1);
}

/** What was built must be there: the package would lack it silently. */
const built = (name, how) =>
  existsSync(join(root, name)) ? join(root, name) : fail(`${name} is not there: "npm run ${how}" makes it`);

/** The packages that are needed when it runs, and what they need in turn. The addon's headers are not. */
function runtimePackages(dependencies, found = new Set()) {
  for (const name of Object.keys(dependencies)) {
    if (found.has(name) || name === 'node-addon-api') continue;
    found.add(name);
    const file = join(root, 'node_modules', name, 'package.json');
    runtimePackages(JSON.parse(readFileSync(file, 'utf8')).dependencies ?? {}, found);
  }
  return found;
}

/** Of a package only what runs here: no types, no maps, no notes but the licence, no commands of its own. */
const runs = (path) =>
  /licen[cs]e/i.test(path) ||
  !/\.(d\.[cm]?ts|map|md|flow)$|\/(\.[^/]*|test|tests|node_modules|bin|bin\.js|build-test\.js|optional\.js)$/i.test(
    path,
  );

function stage(tree) {
  const lib = join(tree, 'usr/lib/ext4-defrag');
  const share = join(tree, 'usr/share');
  const copy = (from, to, filter = () => true) => cpSync(from, to, { recursive: true, filter });
  mkdirSync(lib, { recursive: true });
  copy(
    built('dist', 'build'),
    join(lib, 'dist'),
    (path) => !/\.d\.ts$/.test(path) && path !== join(root, 'dist/share'),
  );
  const addon = `prebuilds/linux-${NODE_ARCH[arch]}`;
  copy(built(addon, 'prebuilds'), join(lib, addon));
  const { name, version, type, exports: entries, dependencies } = pkg;
  writeFileSync(
    join(lib, 'package.json'),
    `${JSON.stringify({ name, version, type, exports: entries }, null, 2)}\n`,
  );
  for (const one of runtimePackages(dependencies)) {
    copy(join(root, 'node_modules', one), join(lib, 'node_modules', one), (path) =>
      runs(path.slice(join(root, 'node_modules', one).length)),
    );
  }
  const main = join(lib, 'dist/cli/main.js');
  // Debian's own Node, whatever the PATH of a service or of sudo is.
  writeFileSync(main, readFileSync(main, 'utf8').replace(/^#!.*\n/, '#!/usr/bin/node\n'));
  mkdirSync(join(tree, 'usr/bin'));
  symlinkSync('../lib/ext4-defrag/dist/cli/main.js', join(tree, 'usr/bin/ext4-defrag'));

  for (const part of ['man', 'bash-completion', 'fish', 'zsh'])
    copy(built(`dist/share/${part}`, 'build'), join(share, part));
  renameSync(join(share, 'zsh/site-functions'), join(share, 'zsh/vendor-completions'));
  for (const page of readdirSync(join(share, 'man/man8'))) compress(join(share, 'man/man8', page));
  copy(join(root, 'share/systemd'), join(tree, 'lib/systemd/system'));
  for (const part of ['prometheus', 'grafana'])
    copy(join(root, 'share', part), join(share, 'ext4-defrag', part));

  const doc = join(share, 'doc/ext4-defrag');
  mkdirSync(doc, { recursive: true });
  copy(join(templates, 'copyright'), join(doc, 'copyright'));
  copy(join(root, 'CHANGELOG.md'), join(doc, 'changelog'));
  compress(join(doc, 'changelog'));
  writeFileSync(join(doc, 'changelog.Debian'), changelog());
  compress(join(doc, 'changelog.Debian'));
  mkdirSync(join(share, 'lintian/overrides'), { recursive: true });
  copy(join(templates, 'lintian-overrides'), join(share, 'lintian/overrides/ext4-defrag'));
}

const maintainer = () => /^Maintainer: (.*)$/m.exec(readFileSync(join(templates, 'control'), 'utf8'))[1];

function changelog() {
  const epoch = process.env.SOURCE_DATE_EPOCH;
  const date = epoch ? new Date(epoch * 1000) : statSync(join(root, 'package.json')).mtime;
  const stamp = date.toUTCString().replace('GMT', '+0000');
  return `ext4-defrag (${pkg.version}-1) unstable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n -- ${maintainer()}  ${stamp}\n`;
}

function compress(path) {
  writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
  rmSync(path);
}

/** Everything is root's, whatever the umask was: files 0644 and folders 0755, but for the command. @returns KiB */
function settle(path) {
  let size = 4;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) size += settle(inner);
    else if (!entry.isSymbolicLink()) {
      chmodSync(inner, inner.endsWith('dist/cli/main.js') ? 0o755 : 0o644);
      size += Math.ceil(statSync(inner).size / 1024);
    }
  }
  chmodSync(path, 0o755);
  return size;
}

function addControl(tree) {
  const size = settle(tree);
  const folder = join(tree, 'DEBIAN');
  mkdirSync(folder, { mode: 0o755 });
  const control = readFileSync(join(templates, 'control'), 'utf8')
    .replace('@VERSION@', `${pkg.version}-1`)
    .replace('@ARCH@', arch)
    .replace('@SIZE@', String(size));
  writeFileSync(join(folder, 'control'), control, { mode: 0o644 });
  for (const name of ['postinst', 'prerm', 'postrm']) {
    cpSync(join(templates, name), join(folder, name));
    chmodSync(join(folder, name), 0o755);
  }
  const files = execFileSync('find', ['usr', 'lib', '-type', 'f'], { cwd: tree, encoding: 'utf8' })
    .trim()
    .split('\n')
    .sort();
  writeFileSync(join(folder, 'md5sums'), execFileSync('md5sum', files, { cwd: tree }), { mode: 0o644 });
}

const folder = mkdtempSync(join(tmpdir(), 'ext4-defrag-deb-'));
try {
  const tree = join(folder, 'tree');
  stage(tree);
  addControl(tree);
  const deb = join(resolve(values.out), `ext4-defrag_${pkg.version}-1_${arch}.deb`);
  mkdirSync(dirname(deb), { recursive: true });
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', tree, deb], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  console.log(deb);
} finally {
  rmSync(folder, { recursive: true });
}
