// Bundles the command into dist/cli. What a start reads are few files, each with what is needed together: opening thirty
// small ones took a tenth of the time until the first file was looked at.
import { chmodSync, existsSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const dist = fileURLToPath(new URL('../../dist/', import.meta.url));

/** Files by the modules that they are for, those that these import included, each where it comes first. */
const FILES = {
  start: ['cli/options', 'cli/exitCode', 'move/pace/beginning'],
  run: ['cli/run', 'cli/terminal', 'report/format'],
  scan: ['scan/check', 'report/text/check'],
  tables: ['scan/tableScan'],
  move: ['move/defragment', 'report/text/defrag'],
};

const groups = Object.entries(FILES).map(([name, modules], i, all) => {
  const paths = new Set(modules.map((module) => `${dist}${module}.js`));
  for (const path of paths)
    if (!existsSync(path)) throw new Error(`${path} is to be in ${name} and is not there`);
  return { name, priority: all.length - i, test: (id) => paths.has(id) };
});

const bundle = await rolldown({
  input: `${dist}cli/main.js`,
  platform: 'node',
  external: (id) => !id.startsWith('.') && !id.startsWith('/'),
  onLog(level, log) {
    throw new Error(`${level}: ${log.message}`);
  },
});
await bundle.write({
  dir: `${dist}bundled`,
  format: 'esm',
  codeSplitting: { groups, includeDependenciesRecursively: true },
});
await bundle.close();
rmSync(`${dist}cli`, { recursive: true });
renameSync(`${dist}bundled`, `${dist}cli`);
chmodSync(`${dist}cli/main.js`, 0o755);
