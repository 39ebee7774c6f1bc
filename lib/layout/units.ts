/** A count of bytes or a byte offset. Never mixed up with {@link Blocks}: the compiler refuses. */
export type Bytes = number & {
  /** For the compiler only: no number has it. */
  readonly unit: 'bytes';
};

/** A count of filesystem blocks or a block number: logical ones have 32 bits, physical ones 48, so all are exact. */
export type Blocks = number & {
  /** For the compiler only: no number has it. */
  readonly unit: 'blocks';
};

/** Says that a number counts bytes. */
export const bytes = (value: number): Bytes => value as Bytes;
/** Says that a number counts blocks. */
export const blocks = (value: number): Blocks => value as Blocks;

/** Whole blocks as bytes. */
export const toBytes = (count: Blocks, blockSize: Bytes): Bytes => bytes(count * blockSize);

/** Bytes as blocks, a begun block counting whole. */
export const toBlocks = (size: Bytes, blockSize: Bytes): Blocks => blocks(Math.ceil(size / blockSize));
