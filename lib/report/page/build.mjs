// Makes dist/page.html: the page with its script and style in it, which lib/report/page.ts puts the data into.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const dist = fileURLToPath(new URL('../../../dist/', import.meta.url));

const { outputFiles, metafile } = await build({
  entryPoints: [here('main.ts'), here('style.css')],
  bundle: true,
  minify: true,
  format: 'iife',
  target: ['chrome100', 'firefox100', 'safari16'],
  tsconfig: here('tsconfig.json'),
  outdir: dist,
  write: false,
  metafile: true,
  legalComments: 'none',
  logLevel: 'warning',
});
const text = (extension) => outputFiles.find(({ path }) => path.endsWith(extension)).text.trim();

/** What the licences of the packages in it ask for; of those that have the same one, once. */
function notices() {
  const packages = new Map();
  for (const path of Object.keys(metafile.inputs)) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (name === undefined) continue;
    const licence = readFileSync(here(`../../../node_modules/${name}/LICENSE`), 'utf8').trim();
    packages.set(licence, new Set([...(packages.get(licence) ?? []), name]));
  }
  return Array.from(packages, ([licence, names]) => `${[...names].sort().join(', ')}:\n\n${licence}`);
}

const script = `/*!\n${notices().join('\n\n').replaceAll('*/', '* /')}\n*/\n${text('.js')}`.replaceAll(
  '</',
  '<\\/',
);
const style = text('.css');

const hash = (content) => `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data:; base-uri 'none'; form-action 'none'`;

const page = readFileSync(here('index.html'), 'utf8')
  .replace(/^ +/gm, '')
  .replace('/*policy*/', policy)
  .replace(/<style>\s*\/\*style\*\/\s*<\/style>/, () => `<style>${style}</style>`)
  .replace(/<script>\s*\/\*script\*\/\s*<\/script>/, () => `<script>${script}</script>`);
mkdirSync(dist, { recursive: true });
writeFileSync(`${dist}page.html`, page);
