import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bunOnMusl, muslSymbols, nodeOnGlibc, type Processor } from '../support/foreign.ts';

// The addons as they are packed: for each processor one, which must do with either C library.
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const addon = (processor: Processor) => join(ROOT, 'prebuilds', `linux-${processor}`, 'ext4-defrag.node');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-packages-'));
  await execa('npm', ['run', '--silent', 'prebuilds'], { cwd: ROOT });
});
afterAll(() => rm(folder, { recursive: true }));

describe.each(['x64', 'arm64'] as const)('the addon for %s', (processor) => {
  test('names no library, and wants nothing but Node-API and what glibc and musl both have', async () => {
    const header = await execa('readelf', ['-d', addon(processor)]);
    expect(header.stdout).not.toContain('NEEDED');
    const musl = await muslSymbols(processor);
    expect(musl).toContain('fallocate');
    const symbols = (await execa('nm', ['-D', addon(processor)])).stdout
      .split('\n')
      .map((line) => line.trim());
    const wanted = symbols.filter((line) => line.startsWith('U ')).map((line) => line.slice(2));
    expect(wanted).toContain('napi_create_promise');
    expect(wanted.filter((name) => !name.startsWith('napi_') && !musl.has(name))).toEqual([]);
    const offered = symbols.filter((line) => / T /.test(line)).map((line) => line.split(' ').at(-1));
    expect(offered).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
  });

  test.each([
    ['Node on glibc', nodeOnGlibc],
    ['Bun on musl', bunOnMusl],
  ])(
    'is loaded by %s, and tells where a file lies as filefrag does',
    async (_, runtimeFor) => {
      const runtime = await runtimeFor(processor);
      const [file, probe] = [join(folder, 'file'), join(folder, 'probe.cjs')];
      await writeFile(file, randomBytes(3 * 2 ** 20));
      const handle = await open(file);
      await handle.sync().finally(() => handle.close());
      await writeFile(
        probe,
        `const fd = require('node:fs').openSync(process.argv[3]);
      require(process.argv[2]).fiemap(fd, 0, 2 ** 40, 0, 1000).then((words) =>
        console.log(process.arch, process.versions.bun ? 'bun' : 'node', String(words)));`,
      );
      const [program, ...args] = [...runtime, probe, addon(processor), file];
      const { stdout } = await execa(program, args);
      const here = await execa(process.execPath, [probe, addon(process.arch as Processor), file]);
      const [arch, , words] = stdout.split(' ');
      expect(arch).toBe(processor);
      expect(words).toBe(here.stdout.split(' ')[2]);
      // Word 3 of each extent is its length.
      const lengths = words
        .split(',')
        .filter((_word, i) => i % 4 === 2)
        .map(Number);
      expect(lengths.reduce((sum, length) => sum + length)).toBe(3 * 2 ** 20);
    },
    400_000,
  );
});

test('the npm package works without install scripts, and without a compiler', async () => {
  await execa('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder], { cwd: ROOT });
  const prefix = join(folder, 'installed');
  await mkdir(prefix);
  const { version } = (await import('../../package.json', { with: { type: 'json' } })).default;
  const install = ['install', '--silent', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  await execa('npm', [...install, '--prefix', prefix, join(folder, `ext4-defrag-${version}.tgz`)]);
  const file = join(folder, 'whole');
  await writeFile(file, randomBytes(2 ** 20));
  const command = join(prefix, 'node_modules/.bin/ext4-defrag');
  const result = await execa(command, ['check', '--json', file], { env: { CC: 'false', CXX: 'false' } });
  expect(JSON.parse(result.stdout.split('\n').at(-1)!)).toMatchObject({ type: 'summary', files: 1 });
  const { stdout } = await execa('find', ['.', '-name', '*.node'], {
    cwd: join(prefix, 'node_modules/ext4-defrag'),
  });
  expect(stdout.split('\n').sort()).toEqual([
    './prebuilds/linux-arm64/ext4-defrag.node',
    './prebuilds/linux-x64/ext4-defrag.node',
  ]);
});
