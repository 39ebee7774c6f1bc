import { between, oneOf, type Below } from '../../support/random.ts';
import { isPossible, Model, type Geometry } from './model.ts';
import { SYNCS, type Operation } from './operation.ts';

type Kind = Operation['kind'];

/** How often each kind comes, of a thousand. What opens and closes gaps keeps a file in many fragments. */
const OFTEN: Readonly<Record<Kind, number>> = {
  read: 110,
  'direct-read': 70,
  'mapped-read': 90,
  write: 180,
  'direct-write': 100,
  'mapped-write': 110,
  truncate: 50,
  allocate: 30,
  'allocate-keep': 20,
  punch: 50,
  zero: 20,
  'zero-keep': 15,
  collapse: 30,
  insert: 35,
  copy: 40,
  fsync: 10,
  fdatasync: 10,
  msync: 5,
  drop: 15,
  reopen: 10,
};

const KINDS = Object.entries(OFTEN).flatMap(([kind, often]) => new Array<Kind>(often).fill(kind as Kind));

/** Bytes: of what is read, written or changed at once. */
const LONGEST = 256 * 1024;
/** Operations between two looks at all of the file. */
const LOOK_EVERY = 80;

/**
 * A log of possible operations on a file that is empty at first, with a look at all of it now and then, and at the end
 * one from the cache, one from the device and one through a mapping.
 */
export function generate(below: Below, count: number, geometry: Geometry): Operation[] {
  const model = new Model(geometry);
  const log: Operation[] = [];
  const add = (operation: Operation) => {
    if (!isPossible(operation, model.size, geometry)) return;
    model.apply(operation);
    log.push(operation);
  };
  const look = (kind: 'read' | 'mapped-read') => add({ kind, offset: 0, length: model.size });
  while (log.length < count) {
    add(operationOf(oneOf(below, KINDS), model.size, below, geometry, log.length + 1));
    if (below(LOOK_EVERY) === 0) {
      add({ kind: 'drop' });
      look('read');
    }
  }
  look('read');
  add({ kind: 'drop' });
  look('read');
  look('mapped-read');
  return log;
}

/** Something of a kind, which need not be possible. The tag says which operation of the log wrote something. */
function operationOf(kind: Kind, size: number, below: Below, geometry: Geometry, tag: number): Operation {
  const { blockSize, most } = geometry;
  const length = between(below, 1, Math.min(LONGEST, most));
  // Mostly within the file, now and then a bit behind it.
  const offset = below(Math.min(most, size + LONGEST / 8));
  const inBlocks = (value: number) => Math.floor(value / blockSize) * blockSize;
  const inside = { offset: below(size), length: Math.min(length, size - offset) };
  switch (kind) {
    case 'mapped-read':
      return { kind, ...inside };
    case 'mapped-write':
      return { kind, ...inside, tag };
    case 'write':
      return { kind, offset, length, tag };
    case 'direct-write':
      return { kind, offset: inBlocks(offset), length: inBlocks(length), tag };
    case 'direct-read':
    case 'collapse':
    case 'insert':
      return { kind, offset: inBlocks(offset), length: inBlocks(length) };
    case 'copy':
      return { kind, ...inside, to: offset };
    case 'truncate':
      // To nothing now and then, more often by a bit.
      return { kind, size: below(8) === 0 ? below(most) : Math.max(0, size + length - below(2 * length)) };
    case 'read':
    case 'allocate':
    case 'allocate-keep':
    case 'punch':
    case 'zero':
    case 'zero-keep':
      return { kind, offset, length };
    default:
      return { kind: SYNCS.find((sync) => sync === kind)! };
  }
}
