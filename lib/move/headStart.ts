import { countFragments } from '../layout/fragments.ts';
import { bytes, toBlocks, toBytes } from '../layout/units.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd, inodeGeneration } from '../kernel/handle.ts';
import type { FreeMap } from '../place/freeMap.ts';
import { openForMove, type ScannedFile } from '../scan/scan.ts';
import { freeAround, isLarge, readingContext, type BatchContext } from './batch.ts';
import { EarlyReading } from './earlyReading.ts';
import type { Stretch } from './readAhead.ts';

/**
 * What is begun with a large file while it is planned, where there is no other: it is opened and read, and what is free
 * around it is looked for. All of that is used only if the plan, made later by the layout of then, moves all of it.
 */
export class HeadStart {
  readonly reading: EarlyReading;
  readonly near: Promise<FreeMap | undefined>;
  #fd: number | undefined;

  private constructor(fd: number, reading: EarlyReading, near: Promise<FreeMap | undefined>) {
    this.#fd = fd;
    this.reading = reading;
    this.near = near;
  }

  /** @returns undefined for a file that is small, or may stay in part or as it is, or is a program: nobody can execute it
   *   while it is open for writing */
  static async begin(file: ScannedFile, context: BatchContext): Promise<HeadStart | undefined> {
    const { budget, measurement } = context;
    const all = allOf(file, context);
    if (all === undefined || !isLarge(all.length, context) || all.length > budget.bytesLeft) return undefined;
    if (file.executable || file.immovable !== undefined || measurement !== undefined) return undefined;
    const near = freeAround(file, all.length, context);
    const fd = await open(file, context);
    // A block here and there: behind all that is read they would come last.
    await near;
    if (fd === undefined) return undefined;
    const reading = new EarlyReading(readingContext(context));
    // Planning takes all of this process's own thread, so reading is to go on by itself.
    await reading.begin(fd, [all]);
    return new HeadStart(fd, reading, near);
  }

  /** Hands over the open file, once. */
  takeFd(): number | undefined {
    const fd = this.#fd;
    this.#fd = undefined;
    return fd;
  }

  /** Gives up what nobody has taken. */
  async end(): Promise<void> {
    await this.reading.end();
    const fd = this.takeFd();
    if (fd !== undefined) await closeFd(fd);
  }
}

/** Opens a file that is going to be moved, as far as can be seen now; whatever is wrong shows again when its turn comes. */
async function open(file: ScannedFile, { memory }: BatchContext): Promise<number | undefined> {
  let fd: number | undefined;
  try {
    fd = await openForMove(file);
    if (fd === undefined || memory === undefined) return fd;
    const { inode, extents } = file;
    const generation = await inodeGeneration(fd);
    if (memory.refuses({ inode, generation, fragments: countFragments(extents) }) === undefined) return fd;
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
  }
  if (fd !== undefined) await closeFd(fd);
  return undefined;
}

/** All of a file, where it is certain that all of it is worth moving: it has no holes, and nothing that may stay. */
function allOf(
  { extents, size }: ScannedFile,
  { planOptions, filesystem: { blockSize } }: BatchContext,
): Stretch | undefined {
  const { logical, length, count } = extents;
  if (count < 2 || length.some((blocks) => blocks >= planOptions.fragmentBlocks)) return undefined;
  const end = logical[count - 1] + length[count - 1];
  if (end - logical[0] !== extents.blocks || end > toBlocks(size, blockSize)) return undefined;
  return { offset: bytes(logical[0] * blockSize), length: toBytes(extents.blocks, blockSize) };
}
