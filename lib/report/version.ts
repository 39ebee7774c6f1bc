import { readFileSync } from 'node:fs';

/** This package's version. */
export function version(): string {
  // Two folders up is the package, from lib/report as from dist/report and, bundled, from dist/cli.
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
