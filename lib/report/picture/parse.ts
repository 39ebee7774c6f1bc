import { Malformed } from './bytes.ts';
import { CellGrid, KINDS } from './cells.ts';
import { decodeCells, decodeRanges } from './codec.ts';
import { PICTURE_FORMAT, PICTURE_VERSION, type Picture } from './picture.ts';

/** A filesystem has no more: its blocks have 48 bits. */
const MOST_BLOCKS = 2 ** 48;
const MOST_NAMED = 100_000;

type Fields = Readonly<Record<string, unknown>>;

/**
 * The picture that a file holds: nothing in it is believed before it was looked at.
 *
 * @returns why it is none that can be shown
 */
export function parsePicture(text: string): Picture | string {
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value) || value.format !== PICTURE_FORMAT) return 'it is no file that map -o wrote';
    if (value.version !== PICTURE_VERSION) return 'another version of this program wrote it';
    checkPicture(value);
    return value as unknown as Picture;
  } catch (error) {
    if (error instanceof SyntaxError) return 'it is no file that map -o wrote';
    if (error instanceof Malformed) return `it is damaged: ${error.message}`;
    throw error;
  }
}

function checkPicture(picture: Fields): void {
  natural(picture, 'time', 'blockSize');
  const blocks = within(picture.blocks, 1, MOST_BLOCKS, 'blocks');
  texts(picture, 'name', 'device', 'mountPoint', 'cells');
  if (picture.kind !== 'filesystem' && picture.kind !== 'file') fail('kind');
  if (picture.uuid !== null) texts(picture, 'uuid');
  if (picture.unknown !== null) texts(picture, 'unknown');
  decodeCells(new CellGrid(blocks), picture.cells as string);
  natural(object(picture.totals, 'totals'), ...KINDS);
  const free = object(picture.free, 'free');
  natural(free, 'runs', 'longest');
  checkSizes(free.sizes);
  if (picture.files !== null) {
    const files = object(picture.files, 'files');
    natural(files, 'count', 'fragmented', 'fragments', 'idealFragments');
    checkSizes(files.sizes);
  }
  const named = list(picture.named, MOST_NAMED, 'named');
  if (picture.kind === 'file' && named.length !== 1) fail('named');
  for (const file of named) checkFile(object(file, 'named'), blocks);
}

function checkFile(file: Fields, blocks: number): void {
  texts(file, 'name', 'extents');
  natural(file, 'inode', 'generation', 'size', 'blocks', 'fragments', 'idealFragments', 'extentsLeftOut');
  decodeRanges(file.extents as string, blocks);
}

function checkSizes(value: unknown): void {
  for (const item of list(value, 64, 'sizes')) {
    const size = object(item, 'sizes');
    natural(size, 'atLeast', 'count', 'bytes');
    within(Math.log2(size.atLeast as number) % 1, 0, 0, 'atLeast');
  }
}

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function fail(field: string): never {
  throw new Malformed(`its field ${field} makes no sense`);
}

const object = (value: unknown, field: string): Fields => (isObject(value) ? value : fail(field));

const list = (value: unknown, most: number, field: string): readonly unknown[] =>
  Array.isArray(value) && value.length <= most ? value : fail(field);

const within = (value: unknown, least: number, most: number, field: string): number =>
  typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
    ? value
    : fail(field);

function natural(of: Fields, ...fields: readonly string[]): void {
  for (const field of fields) within(of[field], 0, Number.MAX_SAFE_INTEGER, field);
}

function texts(of: Fields, ...fields: readonly string[]): void {
  for (const field of fields) if (typeof of[field] !== 'string') fail(field);
}
