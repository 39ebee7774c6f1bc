import { FINGERPRINT_DIGITS } from '../layout/fingerprint.ts';
import type { DeviceProfile } from '../layout/readCost.ts';
import { blocks, bytes, type Blocks, type Bytes } from '../layout/units.ts';
import { escapeUnsafe } from '../report/json.ts';
import { named } from '../report/events.ts';
import { version } from '../report/version.ts';
import { readRegularFile } from '../state/regularFile.ts';
import { PlanFileError } from './planFileError.ts';

/** The version of the form that is written. What is read must have the same: a step half understood moves wrong blocks. */
export const PLAN_SCHEMA = 1;
const FORMAT = 'ext4-defrag plan';
/** Larger files are neither written nor read. */
export const MOST_PLAN_BYTES = 128 * 1024 * 1024;

/** What a plan file is for: to defragment, or to put back what was defragmented. */
export type PlanKind = 'plan' | 'undo';

/** Where on the device something is to lie. */
export interface Destination {
  readonly start: Blocks;
  readonly length: Blocks;
}

/** A stretch of a file that is to move. */
export interface PlannedRange {
  /** In the file; both are whole blocks. */
  readonly offset: Bytes;
  readonly length: Bytes;
  /** How many fragments it is in. */
  readonly fragments: number;
  /** undefined when there was no free run for it. */
  readonly destination: Destination | undefined;
}

/** What is to be done with one file, and how to tell that it is still the same. */
export interface PlanStep {
  /** Below the root of its filesystem. */
  readonly path: Buffer;
  readonly inode: number;
  readonly generation: number;
  readonly size: Bytes;
  /** As {@link fingerprint} of the merged layout. */
  readonly fingerprint: string;
  readonly bytesToMove: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  /** Estimated, of each sequential read; negative where fragments are put back. */
  readonly savedSeconds: number;
  /** In logical order, apart. */
  readonly ranges: readonly PlannedRange[];
}

/** Where a plan's files are, and what it was made for. */
export interface PlanHead {
  readonly uuid: string;
  /** As it was called then. */
  readonly device: string;
  readonly mountPoint: string;
  readonly blockSize: Bytes;
  /** Bytes; Infinity where every file was to be one fragment. */
  readonly fragmentSize: number;
  readonly deviceProfile: DeviceProfile;
}

export interface FilesystemPlan extends PlanHead {
  readonly steps: readonly PlanStep[];
}

/** The options that chose the files: for the reader, who may want to make the plan anew. */
export interface PlanOptionsNoted {
  readonly full: boolean;
  readonly fragmentSize: number | null;
  readonly exclude: readonly string[];
  readonly minSize: number | null;
  readonly maxSize: number | null;
}

export interface Plan {
  readonly kind: PlanKind;
  /** The version of this program that made it. */
  readonly tool: string;
  readonly created: Date;
  readonly options: PlanOptionsNoted;
  readonly filesystems: readonly FilesystemPlan[];
}

/** What the steps of a plan come to. */
export interface PlanTotals {
  readonly files: number;
  readonly bytesToMove: number;
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  readonly savedSeconds: number;
}

export function totalsOf(steps: Iterable<Omit<PlanTotals, 'files'>>): PlanTotals {
  const sum = { files: 0, bytesToMove: 0, fragmentsBefore: 0, fragmentsAfter: 0, savedSeconds: 0 };
  for (const step of steps) {
    sum.files++;
    for (const key of ['bytesToMove', 'fragmentsBefore', 'fragmentsAfter', 'savedSeconds'] as const) {
      sum[key] += step[key];
    }
  }
  return sum;
}

const json = (value: unknown): string => escapeUnsafe(JSON.stringify(value));

/** `"key": value, …` on one line. */
const fields = (object: Readonly<Record<string, unknown>>): string =>
  Object.entries(object)
    .map(([key, value]) => `${json(key)}: ${spaced(value)}`)
    .join(', ');

/** A value on one line, with room for the eye. */
function spaced(value: unknown): string {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? `{${fields({ ...value })}}` : json(value);
}

/** The text of a step, as it stands in a plan file. Steps are written one by one, since there may be many. */
export function encodeStep(step: PlanStep): string {
  const { path, ranges, inode, generation, size, ...rest } = step;
  const { fingerprint, ...cost } = rest;
  const { path: text, pathBytes } = named(path);
  const lines = [
    fields({ path: text, ...(pathBytes && { pathBase64: pathBytes.toString('base64') }) }),
    fields({ inode, generation, size, fingerprint }),
    fields({ ...cost }),
  ].map((line) => `          ${line},\n`);
  const rows = ranges.map(
    ({ destination, ...range }) => `            ${spaced({ ...range, destination: destination ?? null })}`,
  );
  return `        {\n${lines.join('')}          "ranges": [\n${rows.join(',\n')}\n          ]\n        }`;
}

/** A filesystem's part of a plan, its steps encoded already. */
export interface EncodedFilesystem extends PlanHead {
  readonly totals: PlanTotals;
  readonly steps: readonly string[];
}

/** The text of a plan file: for `diff` and for people, what is to be done with a file on lines of its own. */
export function encodePlan(
  { kind, tool, created, options }: Omit<Plan, 'filesystems'>,
  filesystems: Iterable<EncodedFilesystem>,
): string {
  const parts = Array.from(filesystems, ({ totals, steps, fragmentSize, deviceProfile, ...place }) => {
    const { uuid, device, mountPoint, blockSize } = place;
    const size = fragmentSize === Infinity ? null : fragmentSize;
    const lines = Object.entries({
      uuid,
      device,
      mountPoint,
      blockSize,
      fragmentSize: size,
      deviceProfile,
      totals,
    });
    const head = lines.map(([key, value]) => `      ${json(key)}: ${spaced(value)},\n`).join('');
    return `    {\n${head}      "steps": ${list(steps, '      ')}\n    }`;
  });
  const lines = Object.entries({ format: FORMAT, schema: PLAN_SCHEMA, kind, tool, created, options });
  const head = lines.map(([key, value]) => `  ${json(key)}: ${spacedOrDate(value)},\n`).join('');
  return `{\n${head}  "filesystems": ${list(parts, '  ')}\n}\n`;
}

const spacedOrDate = (value: unknown): string => (value instanceof Date ? json(value) : spaced(value));

const list = (items: readonly string[], indent: string): string =>
  items.length === 0 ? '[]' : `[\n${items.join(',\n')}\n${indent}]`;

/** What a plan of this moment begins with. */
export const planFoundation = (kind: PlanKind, options: PlanOptionsNoted): Omit<Plan, 'filesystems'> => ({
  kind,
  tool: version(),
  created: new Date(),
  options,
});

/**
 * Reads a plan file. It may come from anywhere: nothing in it is believed that is not checked here or against the
 * filesystem.
 *
 * @throws PlanFileError; a system error when it cannot be read
 */
export async function readPlanFile(path: string | Buffer): Promise<Plan> {
  const content = await readRegularFile(path, MOST_PLAN_BYTES);
  if (content === undefined) {
    throw new PlanFileError(
      `it has more than ${MOST_PLAN_BYTES} bytes, and no plan file has: give one that plan -o has written`,
    );
  }
  return decodePlan(content);
}

/** @throws PlanFileError */
export function decodePlan(content: Buffer): Plan {
  const plan = new Fields(parse(content), '');
  if (plan.raw('format') !== FORMAT) {
    throw new PlanFileError('it is not a plan file: give one that plan -o or defrag --keep-undo has written');
  }
  const schema = plan.whole('schema', 0, 2 ** 32);
  if (schema !== PLAN_SCHEMA) {
    const made = typeof plan.raw('tool') === 'string' ? ` (ext4-defrag ${shorten(plan.text('tool'))})` : '';
    throw new PlanFileError(
      `it has schema ${schema}${made}, and this version (${version()}) knows schema ${PLAN_SCHEMA}: ` +
        'apply it with the version that made it, or make the plan anew',
    );
  }
  plan.only(['format', 'schema', 'kind', 'tool', 'created', 'options', 'filesystems']);
  const kind = plan.oneOf('kind', ['plan', 'undo'] as const);
  const filesystems = plan.items('filesystems').map((item) => filesystemOf(item, kind));
  const seen = new Set<string>();
  for (const [i, { uuid }] of filesystems.entries()) {
    if (seen.has(uuid)) plan.refuse(`filesystems[${i}].uuid`, 'is the same as that of one above');
    seen.add(uuid);
  }
  return {
    kind,
    tool: plan.text('tool'),
    created: plan.date('created'),
    options: optionsOf(plan.inner('options')),
    filesystems,
  };
}

/** An opening bracket in a plan file has at least so many bytes to itself. */
const BYTES_A_BRACKET = 24;

function parse(content: Buffer): unknown {
  // JSON.parse takes a minute and gigabytes for 128 MiB of nothing but brackets.
  let brackets = 0;
  for (let at = 0; at < content.length; at++) if (content[at] === 0x5b || content[at] === 0x7b) brackets++;
  if (brackets > 64 + content.length / BYTES_A_BRACKET) {
    throw new PlanFileError(
      'it is not a plan file: it has more brackets than one can have: give one that plan -o has written',
    );
  }
  try {
    return JSON.parse(content.toString());
  } catch (error) {
    // Older versions of Node tell the position only.
    const position = /position (\d+)/.exec((error as Error).message)?.[1];
    const line = position && content.toString().slice(0, Number(position)).split('\n').length;
    const where = line === undefined ? '' : ` (line ${line})`;
    throw new PlanFileError(`it is not JSON${where}: undo what was changed in it, or make the plan anew`);
  }
}

function optionsOf(options: Fields): PlanOptionsNoted {
  options.only(['full', 'fragmentSize', 'exclude', 'minSize', 'maxSize']);
  return {
    full: options.oneOf('full', [true, false] as const),
    fragmentSize: options.orNull('fragmentSize', (key) => options.number(key, 0)),
    exclude: options.items('exclude').map((item) => item.text()),
    minSize: options.orNull('minSize', (key) => options.number(key, 0)),
    maxSize: options.orNull('maxSize', (key) => options.number(key, 0)),
  };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** ext4's: fs/ext4/super.c. */
const BLOCK_SIZES = [1024, 2048, 4096, 8192, 16384, 32768, 65536] as const;
/** One more than the last logical block (EXT_MAX_BLOCKS of fs/ext4/ext4_extents.h), and physical block, that there can be. */
const LOGICAL_END = 2 ** 32 - 1;
const PHYSICAL_END = 2 ** 48;
const WORD = 2 ** 32 - 1;

function filesystemOf(item: Fields, kind: PlanKind): FilesystemPlan {
  const head = ['uuid', 'device', 'mountPoint', 'blockSize', 'fragmentSize', 'deviceProfile'];
  item.only([...head, 'totals', 'steps']);
  const blockSize = item.oneOf('blockSize', BLOCK_SIZES);
  const profile = item.inner('deviceProfile');
  profile.only(['seek', 'bandwidth']);
  const steps = item.items('steps').map((step) => stepOf(step, blockSize, kind));
  // Whoever reviews a plan may take steps out of it, so that they need not fit.
  const totals = item.inner('totals');
  totals.only(Object.keys(totalsOf([])));
  return {
    uuid: item.matching('uuid', UUID, 'a UUID in lower case'),
    device: item.text('device'),
    mountPoint: item.text('mountPoint'),
    blockSize: bytes(blockSize),
    fragmentSize: item.orNull('fragmentSize', (key) => item.number(key, 0)) ?? Infinity,
    deviceProfile: {
      seek: profile.number('seek', 0),
      // Division by it must not make Infinity of a file's size.
      bandwidth: profile.number('bandwidth', 1),
    },
    steps,
  };
}

function stepOf(step: Fields, blockSize: number, kind: PlanKind): PlanStep {
  const same = ['inode', 'generation', 'size', 'fingerprint'];
  const gain = ['bytesToMove', 'fragmentsBefore', 'fragmentsAfter', 'savedSeconds'];
  step.only(['path', ...same, ...gain, 'ranges'], ['pathBase64']);
  const most = LOGICAL_END * blockSize;
  const ranges: PlannedRange[] = [];
  let end = 0;
  for (const item of step.items('ranges')) {
    const range = rangeOf(item, end, most, blockSize, kind);
    ranges.push(range);
    end = range.offset + range.length;
  }
  if (ranges.length === 0) step.refuse('ranges', 'is empty');
  return {
    path: pathOf(step),
    inode: step.whole('inode', 1, WORD),
    generation: step.whole('generation', 0, WORD),
    size: bytes(step.whole('size', 1, most)),
    fingerprint: step.matching(
      'fingerprint',
      new RegExp(`^[0-9a-f]{${FINGERPRINT_DIGITS}}$`),
      `${FINGERPRINT_DIGITS} hexadecimal digits`,
    ),
    bytesToMove: step.whole('bytesToMove', 1, most),
    fragmentsBefore: step.whole('fragmentsBefore', 1, LOGICAL_END),
    fragmentsAfter: step.whole('fragmentsAfter', 1, LOGICAL_END),
    savedSeconds: step.number('savedSeconds', -Number.MAX_SAFE_INTEGER),
    ranges,
  };
}

/** Names are bytes, and neither a reader nor the filesystem may be led astray by one. */
function pathOf(step: Fields): Buffer {
  const text = step.text('path');
  const base64 = step.has('pathBase64') ? step.text('pathBase64') : undefined;
  const path = base64 === undefined ? Buffer.from(text) : Buffer.from(base64, 'base64');
  const sameBytes = base64 === undefined || path.toString('base64') === base64;
  if (!sameBytes || path.toString() !== text) {
    step.refuse(base64 === undefined ? 'path' : 'pathBase64', 'is not the bytes of the path');
  }
  const parts = path.toString('latin1').split('/');
  if (path.includes(0) || parts.some((part) => part === '' || part === '.' || part === '..')) {
    step.refuse('path', 'is not a path below the root of a filesystem');
  }
  return path;
}

function rangeOf(item: Fields, from: number, most: number, blockSize: number, kind: PlanKind): PlannedRange {
  item.only(['offset', 'length', 'fragments', 'destination']);
  const offset = item.whole('offset', from, most);
  const length = item.whole('length', 1, most - offset);
  for (const [key, value] of Object.entries({ offset, length })) {
    if (value % blockSize !== 0) item.refuse(key, `is not a multiple of the block size, ${blockSize}`);
  }
  const destination = item.orNull('destination', () => {
    const inner = item.inner('destination');
    inner.only(['start', 'length']);
    const start = inner.whole('start', 0, PHYSICAL_END);
    return { start: blocks(start), length: blocks(inner.whole('length', 1, LOGICAL_END)) };
  });
  if (kind === 'undo' && destination?.length !== length / blockSize) {
    item.refuse('destination', 'is not as long as the range, which is to be put back there');
  }
  return {
    offset: bytes(offset),
    length: bytes(length),
    fragments: item.whole('fragments', 1, LOGICAL_END),
    destination: destination ?? undefined,
  };
}

/** A value of a plan file, and where it stands there. Every answer is checked; what is wrong is thrown. */
class Fields {
  readonly #value: unknown;
  readonly #where: string;

  constructor(value: unknown, where: string) {
    this.#value = value;
    this.#where = where;
  }

  /** The names of all fields, and of those that may be missing. */
  only(names: readonly string[], optional: readonly string[] = []): void {
    const object = this.#object();
    for (const name of names) if (!Object.hasOwn(object, name)) this.refuse(name, 'is missing');
    for (const name of Object.keys(object)) {
      if (!names.includes(name) && !optional.includes(name)) this.refuse(name, 'is no field of a plan file');
    }
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#object(), name);
  }

  /** Whatever is there; inherited names are not. */
  raw(name: string): unknown {
    const object = this.#object();
    return Object.hasOwn(object, name) ? object[name] : undefined;
  }

  inner(name: string): Fields {
    return new Fields(this.raw(name), this.#placeOf(name));
  }

  items(name: string): Fields[] {
    const value = this.raw(name);
    if (!Array.isArray(value)) this.#wrong(name, value, 'a list');
    return value.map((item: unknown, i) => new Fields(item, `${this.#placeOf(name)}[${i}]`));
  }

  /** A string: a field's, or the value itself. */
  text(name?: string): string {
    const value = name === undefined ? this.#value : this.raw(name);
    if (typeof value !== 'string') this.#wrong(name, value, 'a string');
    return value;
  }

  matching(name: string, pattern: RegExp, what: string): string {
    const value = this.text(name);
    if (!pattern.test(value)) this.#wrong(name, value, what);
    return value;
  }

  date(name: string): Date {
    const value = new Date(this.text(name));
    if (Number.isNaN(value.getTime())) this.#wrong(name, this.raw(name), 'a time');
    return value;
  }

  number(name: string, least: number): number {
    const value = this.raw(name);
    const fits = typeof value === 'number' && value >= least && value <= Number.MAX_SAFE_INTEGER;
    if (!fits) this.#wrong(name, value, `a number from ${least} to ${Number.MAX_SAFE_INTEGER}`);
    return value;
  }

  whole(name: string, least: number, most: number): number {
    const value = this.raw(name);
    const fits = typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most;
    if (!fits) this.#wrong(name, value, `a whole number from ${least} to ${most}`);
    return value;
  }

  oneOf<T extends string | number | boolean>(name: string, values: readonly T[]): T {
    const value = values.find((one) => one === this.raw(name));
    return value ?? this.#wrong(name, this.raw(name), values.map((one) => JSON.stringify(one)).join(' or '));
  }

  orNull<T>(name: string, read: (name: string) => T): T | null {
    return this.raw(name) === null ? null : read(name);
  }

  refuse(name: string, what: string): never {
    throw new PlanFileError(`${this.#placeOf(name)} ${what}: undo the change, or make the plan anew`);
  }

  #placeOf(name: string | undefined): string {
    if (name === undefined) return this.#where;
    return `${this.#where === '' ? '' : `${this.#where}.`}${shorten(name)}`;
  }

  #wrong(name: string | undefined, value: unknown, wanted: string): never {
    const found = describe(value);
    throw new PlanFileError(
      `${this.#placeOf(name)} must be ${wanted}, not ${found}: undo the change, or make the plan anew`,
    );
  }

  #object(): Readonly<Record<string, unknown>> {
    const value = this.#value;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new PlanFileError(
        `${this.#where === '' ? 'it' : this.#where} is not an object: give a file that plan -o has written`,
      );
    }
    return value as Readonly<Record<string, unknown>>;
  }
}

const MOST_SHOWN = 60;

const shorten = (text: string): string =>
  text.length <= MOST_SHOWN ? text : `${text.slice(0, MOST_SHOWN)}...`;

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  // What is nested deep enough is more than JSON.stringify bears.
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  return shorten(JSON.stringify(value));
}
