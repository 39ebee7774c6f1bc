import { contentOf } from './content.ts';
import { isRead, type Operation } from './operation.ts';

/** What files may be, and in which units they are changed. */
export interface Geometry {
  /** Of the filesystem, in bytes. */
  readonly blockSize: number;
  /** No file is longer, in bytes. */
  readonly most: number;
}

/** What must come of an operation. */
export interface Expected {
  /** The count of bytes for what counts them, 0 for the rest. */
  readonly result: number;
  /** Of the file afterwards. */
  readonly size: number;
  /** What is read: it changes with the next operation. */
  readonly data?: Buffer;
}

/**
 * Whether an operation can be carried out on a file of a size: nothing that the kernel would refuse, nor anything whose
 * outcome is nobody's promise, such as what is read of a mapping behind the end of the file.
 */
export function isPossible(operation: Operation, size: number, { blockSize, most }: Geometry): boolean {
  const aligned = (...values: readonly number[]) => values.every((value) => value % blockSize === 0);
  if (!('offset' in operation)) return operation.kind !== 'truncate' || operation.size <= most;
  const { kind, offset, length } = operation;
  const end = offset + length;
  if (length <= 0) return false;
  switch (kind) {
    case 'read':
      return end <= most;
    case 'direct-read':
      return aligned(offset, length) && end <= most;
    case 'mapped-read':
    case 'mapped-write':
      return end <= size;
    case 'write':
    case 'allocate':
    case 'allocate-keep':
    case 'punch':
    case 'zero':
    case 'zero-keep':
      return end <= most;
    case 'direct-write':
      return aligned(offset, length) && end <= most;
    case 'collapse':
      return aligned(offset, length) && end < size;
    case 'insert':
      return aligned(offset, length) && offset < size && size + length <= most;
    case 'copy': {
      const { to } = operation;
      const apart = to >= end || to + length <= offset;
      return end <= size && to + length <= most && apart;
    }
  }
}

/** What must be in a file that operations are carried out on. */
export class Model {
  readonly #bytes: Buffer;
  #size = 0;

  constructor({ most }: Pick<Geometry, 'most'>) {
    this.#bytes = Buffer.alloc(most);
  }

  get size(): number {
    return this.#size;
  }

  /** The operation must be possible. */
  apply(operation: Operation): Expected {
    if (isRead(operation)) {
      const data = this.#bytes.subarray(
        Math.min(operation.offset, this.#size),
        Math.min(operation.offset + operation.length, this.#size),
      );
      return { result: data.length, size: this.#size, data };
    }
    return { result: this.#change(operation), size: this.#size };
  }

  /** Bytes behind the end are always 0, so that growing is nothing else than another size. */
  #change(operation: Operation): number {
    const bytes = this.#bytes;
    switch (operation.kind) {
      case 'write':
      case 'direct-write':
      case 'mapped-write': {
        const { offset, length, tag } = operation;
        contentOf(tag, length).copy(bytes, offset);
        this.#grow(offset + length);
        return length;
      }
      case 'copy': {
        const { offset, length, to } = operation;
        bytes.copyWithin(to, offset, offset + length);
        this.#grow(to + length);
        return length;
      }
      case 'truncate':
        bytes.fill(0, operation.size, Math.max(operation.size, this.#size));
        this.#size = operation.size;
        return 0;
      case 'allocate':
        this.#grow(operation.offset + operation.length);
        return 0;
      case 'punch':
      case 'zero':
      case 'zero-keep': {
        const end = operation.offset + operation.length;
        bytes.fill(0, operation.offset, end);
        if (operation.kind === 'zero') this.#grow(end);
        return 0;
      }
      case 'collapse': {
        const { offset, length } = operation;
        bytes.copyWithin(offset, offset + length, this.#size);
        bytes.fill(0, this.#size - length, this.#size);
        this.#size -= length;
        return 0;
      }
      case 'insert': {
        const { offset, length } = operation;
        bytes.copyWithin(offset + length, offset, this.#size);
        bytes.fill(0, offset, offset + length);
        this.#size += length;
        return 0;
      }
      default:
        return 0;
    }
  }

  #grow(end: number): void {
    this.#size = Math.max(this.#size, end);
  }
}

/** What is left of a log when what has become impossible is left out. */
export function possibleOf(log: readonly Operation[], geometry: Geometry): Operation[] {
  const model = new Model(geometry);
  return log.filter((operation) => {
    const possible = isPossible(operation, model.size, geometry);
    if (possible) model.apply(operation);
    return possible;
  });
}
