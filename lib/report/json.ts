import type { Event, ScanningEvent } from './events.ts';
import { isWorthTelling } from './leftAlone.ts';
import { out, type Line, type Reporter } from './reporter.ts';

/** The version of the events' shape: fields may be added to it, none is renamed or taken away. */
export const SCHEMA = 1;

/** What JSON leaves unescaped and a terminal may act on: C1 controls, format characters, line separators. */
const UNSAFE = /[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu;

const escapeUnits = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');

/** JSON that is safe to show on a terminal, and says the same. */
export const escapeUnsafe = (json: string): string => json.replace(UNSAFE, escapeUnits);

/** An event as one line of JSON. Bytes appear in base64, under the field's name with "Base64" in place of "Bytes". */
export function toJson({ type, ...fields }: Event): string {
  const entries = Object.entries(fields).map(([key, value]: [string, unknown]) =>
    Buffer.isBuffer(value) ? [key.replace(/Bytes$/, 'Base64'), value.toString('base64')] : [key, value],
  );
  return escapeUnsafe(JSON.stringify({ type, schema: SCHEMA, ...Object.fromEntries(entries) }));
}

/** Between two events that tell how far the inode tables have been read, in seconds. */
const SCANNING_INTERVAL = 0.2;

/** JSON lines on stdout, and nothing on stderr. */
export class JsonReporter implements Reporter {
  readonly #verbose: boolean;
  #targetIsFile = false;
  #lastScanning = -Infinity;

  constructor({ verbose }: { readonly verbose: boolean }) {
    this.#verbose = verbose;
  }

  lines(event: Event): readonly Line[] {
    if (event.type === 'target') {
      this.#targetIsFile = event.kind === 'file';
      this.#lastScanning = -Infinity;
    }
    if (event.type === 'scanning' && !this.#isDue(event)) return [];
    const options = { verbose: this.#verbose, targetIsFile: this.#targetIsFile };
    if (event.type === 'skip' && !isWorthTelling(event, options)) return [];
    return [out(toJson(event))];
  }

  /** Steps come faster than anybody follows; a target's first and last are never left out. */
  #isDue({ seconds, inodes, inodesTotal }: ScanningEvent): boolean {
    if (inodes < inodesTotal && seconds - this.#lastScanning < SCANNING_INTERVAL) return false;
    this.#lastScanning = seconds;
    return true;
  }
}
