// The guest's kernel: fetched from Debian or given as a path, and made ready (modules that need no
// decompression, an index of them, and a disk that carries them).
import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { unpackDeb, unpackedPackages } from './apt.ts';
import { cached, digest } from './cache.ts';
import { makeExt4 } from './ext4.ts';
import { VmFailure } from './failure.ts';
import { requirePrograms, runProgram } from './host.ts';
import { usefulModuleFolders } from './modules.ts';

/** Which Debian suites a kernel comes from. A further kernel is a further line. */
const debianKernels: Readonly<Record<string, readonly string[]>> = {
  '5.10': ['bullseye'],
  '6.1': ['bookworm', 'bookworm-security'],
  '6.12': ['trixie', 'trixie-security'],
  backports: ['trixie-backports'],
};

export const kernelNames = Object.keys(debianKernels);

/** What most users of the current Debian run. */
export const defaultKernel = '6.12';

export interface Kernel {
  /** As in `uname -r`. */
  readonly release: string;
  readonly image: string;
  /** The folder of the release's modules. */
  readonly modules: string;
  /** An ext4 image with the same modules, to be mounted on /lib/modules. */
  readonly modulesDisk: string;
}

const metaPackage = 'linux-image-cloud-amd64';
const kernelPackages = /^linux-(image|binary|modules|base)-\d/;

/** A kernel by its name in the table, a .deb file, or a folder where one is unpacked. */
export async function prepareKernel(
  wanted: string,
  busybox: string,
  say: (text: string) => void,
): Promise<Kernel> {
  const suites = debianKernels[wanted];
  const tree = suites
    ? await unpackedPackages(suites, metaPackage, kernelPackages, say)
    : await treeAt(resolve(wanted), wanted);
  const { release, image } = await findImage(tree);
  const entry = await cached(`kernel-${release}-${await treeDigest(tree, image)}`, (path) =>
    build(tree, release, image, path, busybox, say),
  );
  return {
    release,
    image: join(entry, 'vmlinuz'),
    modules: join(entry, 'tree', 'lib', 'modules', release),
    modulesDisk: join(entry, 'modules.ext4'),
  };
}

async function treeAt(path: string, asGiven: string): Promise<string> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isDirectory()) return path;
  if (info?.isFile() && path.endsWith('.deb')) {
    return await cached(`deb-${digest(await readFile(path))}`, (folder) => unpackDeb(path, folder));
  }
  throw new VmFailure(
    'setup',
    `no kernel "${asGiven}": give ${kernelNames.join(', ')}, a kernel package's .deb file, or a folder it is unpacked in`,
  );
}

async function findImage(tree: string): Promise<{ release: string; image: string }> {
  const folders = ['boot', join('usr', 'lib', 'modules'), join('lib', 'modules')];
  for (const folder of folders.map((name) => join(tree, name)).filter((path) => existsSync(path))) {
    for (const name of await readdir(folder)) {
      if (name.startsWith('vmlinuz-')) return { release: name.slice(8), image: join(folder, name) };
      const inside = join(folder, name, 'vmlinuz');
      if (existsSync(inside)) return { release: name, image: inside };
    }
  }
  throw new VmFailure('setup', `there is no vmlinuz in ${tree} (looked in ${folders.join(', ')})`);
}

/** What the prepared kernel depends on: the kernel itself, and the way this file prepares it. */
async function treeDigest(tree: string, image: string): Promise<string> {
  const { size, mtimeMs } = await stat(image);
  return digest(
    tree,
    `${size} ${mtimeMs}`,
    await readFile(new URL(import.meta.url)),
    usefulModuleFolders.join(),
  );
}

async function build(
  tree: string,
  release: string,
  image: string,
  entry: string,
  busybox: string,
  say: (text: string) => void,
): Promise<void> {
  say(`preparing kernel ${release}`);
  const source = [join(tree, 'usr', 'lib', 'modules', release), join(tree, 'lib', 'modules', release)].find(
    (path) => existsSync(path),
  );
  if (source === undefined) throw new VmFailure('setup', `there are no modules of ${release} in ${tree}`);
  const root = join(entry, 'tree');
  const target = join(root, 'lib', 'modules', release);
  await mkdir(target, { recursive: true });
  await copyFile(image, join(entry, 'vmlinuz'));
  for (const name of await readdir(source)) {
    if (name.startsWith('modules.')) await copyFile(join(source, name), join(target, name));
  }
  for (const folder of usefulModuleFolders.map((name) => join('kernel', name))) {
    if (existsSync(join(source, folder)))
      await cp(join(source, folder), join(target, folder), { recursive: true });
  }
  await decompress(target);
  await runProgram(`indexing the modules of ${release}`, busybox, ['depmod', '-b', root, release]);
  await makeExt4({
    image: join(entry, 'modules.ext4'),
    from: join(root, 'lib', 'modules'),
    freeBytes: 4 * 2 ** 20,
    label: 'modules',
  });
}

const decompressors: Readonly<Record<string, readonly string[]>> = {
  xz: ['xz', '-d'],
  zst: ['zstd', '-q', '-d', '--rm'],
  gz: ['gzip', '-d'],
};

/** A guest without KVM is slow at decompressing; this machine does it once. */
async function decompress(folder: string): Promise<void> {
  const files = await readdir(folder, { recursive: true });
  for (const [suffix, [program, ...args]] of Object.entries(decompressors)) {
    const compressed = files.filter((name) => name.endsWith(`.ko.${suffix}`));
    if (compressed.length === 0 || program === undefined) continue;
    requirePrograms([program]);
    await runProgram('decompressing kernel modules', program, [...args, ...compressed], { cwd: folder });
  }
}
