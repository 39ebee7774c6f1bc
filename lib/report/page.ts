import { readFileSync } from 'node:fs';
import { escapeUnsafe } from './json.ts';
import type { PageData, Picture } from './picture/picture.ts';
import { version } from './version.ts';

/** Where the data goes in the page that the build has made (lib/report/page/build.mjs). */
export const DATA_MARK = '<!--data-->';

/** A page that shows pictures, complete in itself. */
export function pictureHtml(now: Picture, before: Picture | null = null): string {
  // Two folders up is the package, from lib/report as from dist/report and, bundled, from dist/cli.
  const page = readFileSync(new URL('../../dist/page.html', import.meta.url), 'utf8');
  const [head, tail] = page.split(DATA_MARK);
  const data: PageData = { version: version(), before, now };
  return `${head}<script type="application/json" id="data">${scriptSafe(data)}</script>${tail}`;
}

/** JSON that cannot end the element it stands in, whatever names it has, and has no control characters in it. */
export const scriptSafe = (value: unknown): string =>
  escapeUnsafe(JSON.stringify(value)).replaceAll('<', '\\u003c');
