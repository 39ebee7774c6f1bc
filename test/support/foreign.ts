// Other systems to try packages on: folders with what Debian packages hold, and programs from npm, cached as the VM's are.
import { mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { cached, digest } from '../../vm/cache.ts';

export type Processor = 'x64' | 'arm64';

const DEBIAN = { x64: 'amd64', arm64: 'arm64' } as const;
const MACHINE = { x64: 'x86_64', arm64: 'aarch64' } as const;
const BUN = '1.4.5';
const NODE = '20.19.0';

/** The files of Debian packages and of all that they depend on, unpacked and not set up. */
const unpacked = (processor: Processor, packages: readonly string[]): Promise<string> =>
  cached(`unpacked-${processor}-${digest(...packages)}`, async (path) => {
    const args = ['--quiet', '--variant=extract', `--architectures=${DEBIAN[processor]}`];
    await execa('mmdebstrap', [...args, `--include=${packages.join()}`, 'bookworm', path]);
  });

/** A Debian 13 with Node.js, set up. */
export const debianWithNode = (): Promise<string> =>
  cached('debian-trixie-nodejs', async (path) => {
    const args = ['--quiet', '--variant=apt', '--include=nodejs', '--aptopt=APT::Install-Recommends "false"'];
    await execa('mmdebstrap', [...args, 'trixie', path]);
  });

/** A package of npm, as it is published. */
const npmPackage = (name: string, version: string): Promise<string> =>
  cached(`npm-${name.replace('/', '-')}-${version}`, async (path) => {
    const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-npm-'));
    try {
      await execa('npm', ['pack', '--silent', '--pack-destination', folder, `${name}@${version}`]);
      const [archive] = await readdir(folder);
      await execa('tar', ['-xf', archive], { cwd: folder });
      // Not by rename: the cache may be on another filesystem.
      await execa('cp', ['-r', join(folder, 'package'), path]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

/** How a program for a processor is started here. */
const emulator = (processor: Processor, root: string): string[] =>
  processor === process.arch ? [] : [`qemu-${MACHINE[processor]}-static`, '-L', root];

/** Node on glibc. */
export async function nodeOnGlibc(processor: Processor): Promise<string[]> {
  if (processor === process.arch) return [process.execPath];
  const [root, node] = await Promise.all([
    unpacked(processor, ['libstdc++6']),
    npmPackage(`node-linux-${processor}`, NODE),
  ]);
  return [...emulator(processor, root), join(node, 'bin/node')];
}

/**
 * Bun on musl: there is no Node for musl to be had from Debian or npm, and Bun implements Node-API as well.
 */
export async function bunOnMusl(processor: Processor): Promise<string[]> {
  const machine = MACHINE[processor];
  const [root, bun] = await Promise.all([
    unpacked(processor, ['musl', 'libstdc++-12-pic', 'libgcc-12-dev']),
    npmPackage(`@oven/bun-linux-${processor === 'x64' ? 'x64' : machine}-musl`, BUN),
  ]);
  const program = join(bun, 'bin/bun');
  const musl = join(root, 'lib', `${machine}-linux-musl`, 'libc.so');
  const libraries = await cached(
    `musl-libraries-${processor}-${digest(SHIM, BUN, String(makeLibraries))}`,
    (path) => makeLibraries(path, machine, root, program, musl),
  );
  return [...emulator(processor, root), musl, '--library-path', libraries, program];
}

/** What glibc has beside musl, and Debian's libstdc++ asks for. */
const SHIM = `
#include <sys/auxv.h>
#include <sys/random.h>
void *__dso_handle __attribute__((visibility("hidden"))) = 0;
char __libc_single_threaded = 0;
unsigned arc4random(void) { unsigned word; getrandom(&word, sizeof word, 0); return word; }
unsigned long __getauxval(unsigned long type) { return getauxval(type); }
int _dl_find_object(void *address, void *result) { (void)address; (void)result; return -1; }
`;

/** The libraries that Bun wants: musl under its name, and what it uses of libstdc++, which Debian has for glibc only. */
async function makeLibraries(path: string, machine: string, root: string, program: string, musl: string) {
  await mkdir(path);
  await symlink(musl, join(path, `libc.musl-${machine}.so.1`));
  const { stdout } = await execa('readelf', ['--dyn-syms', '--wide', program]);
  const wanted = [...new Set(stdout.match(/(?<= )(_Z|__cxa|__gxx|__once|__dynamic)\w+/g))];
  const gcc = join(root, 'usr/lib/gcc', `${machine}-linux-gnu`, '12');
  const source = join(path, 'shim.c');
  await writeFile(source, SHIM);
  await execa(`${machine}-linux-gnu-gcc`, [
    ...['-shared', '-fPIC', '-nostdlib', '-Wl,-soname,libstdc++.so.6', '-Wl,--unresolved-symbols=ignore-all'],
    ...wanted.map((symbol) => `-Wl,-u,${symbol}`),
    ...['-o', join(path, 'made'), source],
    ...['libstdc++_pic.a', 'libgcc_eh.a', 'libgcc.a'].map((name) => join(gcc, name)),
  ]);
  await rename(join(path, 'made'), join(path, 'libstdc++.so.6'));
}

/** What musl's C library has, by its names. */
export async function muslSymbols(processor: Processor): Promise<Set<string>> {
  const root = await unpacked(processor, ['musl', 'libstdc++-12-pic', 'libgcc-12-dev']);
  const { stdout } = await execa('nm', [
    '-D',
    '--defined-only',
    join(root, 'lib', `${MACHINE[processor]}-linux-musl`, 'libc.so'),
  ]);
  return new Set(stdout.split('\n').map((line) => line.split(' ').at(-1)!));
}
