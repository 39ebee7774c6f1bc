import { totalmem } from 'node:os';
import {
  FADV,
  fadvise,
  QUICK,
  readahead,
  readThrough,
  residentPages,
  SYNC_RANGE,
  syncFileRange,
} from '../kernel/cache.ts';
import { isSystemFailure, type SystemError } from '../kernel/errors.ts';
import { bytes, toBytes, type Blocks, type Bytes } from '../layout/units.ts';
import { isSolid, type FilePlan } from '../plan/plan.ts';

const MiB = 1024 * 1024;

/**
 * How far reading runs ahead of exchanging, in bytes: what comes while places are looked for need not be waited for
 * later. Less where this process's cgroup, or the machine, has little memory.
 */
export const AHEAD = Math.min(256 * MiB, Math.min(totalmem(), process.constrainedMemory() || Infinity) / 32);
/** As many pieces at most: a thousand small files are not asked for at once. */
const MOST_PIECES = 64;
const PIECE = 4 * MiB;
/** readahead(2) may be capped at the device's read_ahead_kb, 128 KiB unless set, and drops what is beyond. */
const READ_STEP = bytes(128 * 1024);
/** Calls at a time. They only fill the device's queue: more would keep the other calls from a thread. */
const LANES = 2;
/**
 * What one call may take in milliseconds, and pieces that it asks for at most. No lane gets its next while this process's
 * own thread is busy, so it should not be soon; and nobody can stop a call, so it must not be late.
 */
const CALL = { time: 30, pieces: 16 };

/** A stretch of a file. */
export interface Stretch {
  readonly offset: Bytes;
  readonly length: Bytes;
}

/** What is known of a stretch that was brought into the cache. */
export interface Prefetched {
  /** What was not in the cache before. */
  readonly uncached: readonly Stretch[];
  /** Most of it could not be dropped, because it is mapped, and may lie in large folios. */
  readonly stuck: boolean;
}

const KEEP: Prefetched = { uncached: [], stuck: false };

export interface ReadableFile {
  readonly fd: number;
  /** What is going to be exchanged, in order. */
  readonly stretches: Iterable<Stretch>;
}

export interface ReadAheadContext {
  readonly blockSize: Bytes;
  readonly pageSize: Bytes;
  /** On Linux 6.16 to 6.18 a dirty page in a large folio makes the kernel commit the journal for every page. */
  readonly dropFolios: boolean;
  /** A write that failed is reported only once, so it must not get lost here. */
  readonly failed: (fd: number, error: SystemError) => void;
}

interface Piece extends Stretch {
  readonly fd: number;
  /** Bytes of all pieces before it. */
  readonly position: number;
  reading: Promise<Prefetched> | undefined;
}

/** What is known of a stretch that was asked for. */
interface Asked {
  readonly uncached: readonly Stretch[];
  /** Its first page, and which pages could not be dropped where that was tried. */
  readonly start: Bytes;
  readonly kept?: Uint8Array | undefined;
}

interface Waiting {
  readonly piece: Piece;
  readonly resolve: (found: Prefetched) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Brings what is going to be exchanged into the cache, ahead of the exchange and in its order: EXT4_IOC_MOVE_EXT would
 * read it page by page, one request after the other. It may begin before it is known where anything goes.
 */
export class ReadAhead {
  readonly #context: ReadAheadContext;
  readonly #pieces: readonly Piece[];
  /** Large pieces that were asked for and are not begun yet. */
  readonly #waiting: Waiting[] = [];
  #freeLanes = LANES;
  /** Pieces that one call asks for. */
  #together = 1;
  /** The piece in use, and the first that is not asked for yet. */
  #first = 0;
  #next = 0;
  #closed = false;
  readonly #reading = new Set<Promise<Prefetched>>();
  /** Files whose reader was told not to read ahead by itself. */
  readonly #random = new Set<number>();

  constructor(files: readonly ReadableFile[], context: ReadAheadContext) {
    this.#context = context;
    this.#pieces = [...piecesOf(files)];
  }

  /** Begins with the first pieces. @returns what waits until the first of them has been asked for */
  start(): Promise<unknown> {
    this.#goOn(0);
    return Promise.allSettled(this.#pieces.slice(0, LANES).flatMap(({ reading }) => reading ?? []));
  }

  /** Waits until a stretch of a file has been asked for. Stretches come in the order of the files and their plans. */
  async ready(fd: number, offset: Bytes, length: Bytes): Promise<Prefetched> {
    const pieces = this.#pieces;
    const isBefore = (piece: Piece) => piece.fd !== fd || piece.offset + piece.length <= offset;
    while (this.#first < pieces.length && isBefore(pieces[this.#first])) this.#first++;
    let end = this.#first;
    while (end < pieces.length && pieces[end].fd === fd && pieces[end].offset < offset + length) end++;
    this.#next = Math.max(this.#next, this.#first);
    this.#goOn(end);
    const readings = pieces.slice(this.#first, end).flatMap(({ reading }) => reading ?? []);
    const parts = await Promise.all(readings);
    const uncached = parts.flatMap((part) => part.uncached);
    if (uncached.length > 0) await this.#arrival(fd, offset, length);
    const { start, size } = this.#pagesOf(offset, length);
    return {
      uncached: clipTo(uncached, start, start + size),
      stuck: parts.some(({ stuck }) => stuck),
    };
  }

  /**
   * Waits for the device here, where nobody else has to: MOVE_EXT would wait for it with the file locked.
   */
  async #arrival(fd: number, offset: Bytes, length: Bytes): Promise<void> {
    try {
      if (length > QUICK) {
        // To ask whether it is there costs a fiftieth of reading it from the cache.
        const { start, size } = this.#pagesOf(offset, length);
        if (!(await residentPages(fd, start, size)).includes(0)) return;
      }
      // What was not asked for after all shall come in pages as well: without this it would come in large folios.
      if (this.#context.dropFolios && length > PIECE && !this.#random.has(fd)) {
        this.#random.add(fd);
        await fadvise(fd, bytes(0), bytes(0), FADV.RANDOM);
      }
      await readThrough(fd, offset, length);
    } catch (error) {
      // What cannot be read shows when it is exchanged.
      if (!isSystemFailure(error)) throw error;
    }
  }

  /** Asks for what the window holds, and for every piece before `least`. */
  #goOn(least: number): void {
    const pieces = this.#pieces;
    const inWindow = (i: number) =>
      i - this.#first < MOST_PIECES && pieces[i].position - pieces[this.#first].position < AHEAD;
    for (; this.#next < pieces.length && (this.#next < least || inWindow(this.#next)); this.#next++) {
      const piece = pieces[this.#next];
      const reading = piece.length <= QUICK ? this.#prefetch(piece) : this.#inLane(piece);
      this.#reading.add(reading);
      const forget = () => void this.#reading.delete(reading);
      reading.then(forget, forget);
      piece.reading = reading;
    }
  }

  /** Large pieces wait for their turn; small ones share their way, so they all go at once. */
  #inLane(piece: Piece): Promise<Prefetched> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ piece, resolve, reject });
      if (this.#freeLanes > 0) void this.#lane();
    });
  }

  /** Asks for one piece after the other; for several with one call where the device is fast. */
  async #lane(): Promise<void> {
    this.#freeLanes--;
    while (this.#waiting.length > 0) {
      const some = this.#takeTogether();
      const { fd, offset } = some[0].piece;
      const last = some[some.length - 1].piece;
      const length = bytes(last.offset + last.length - offset);
      const started = performance.now();
      try {
        const asked = this.#closed ? undefined : await this.#ask({ fd, offset, length });
        for (const { piece, resolve } of some) resolve(asked ? this.#partOf(asked, piece) : KEEP);
      } catch (error) {
        for (const { reject } of some) reject(error);
      }
      const took = performance.now() - started;
      this.#together = Math.max(1, Math.min(CALL.pieces, Math.floor((some.length * CALL.time) / took)));
    }
    this.#freeLanes++;
  }

  #takeTogether(): Waiting[] {
    const waiting = this.#waiting;
    let count = 1;
    for (; count < Math.min(waiting.length, this.#together); count++) {
      const [before, next] = [waiting[count - 1].piece, waiting[count].piece];
      if (next.fd !== before.fd || next.offset !== before.offset + before.length) break;
    }
    return waiting.splice(0, count);
  }

  async #prefetch(piece: Piece): Promise<Prefetched> {
    return this.#partOf(await this.#ask(piece), piece);
  }

  #partOf({ uncached, start, kept }: Asked, { offset, length }: Piece): Prefetched {
    const pages = this.#pagesOf(offset, length);
    const first = (pages.start - start) / this.#context.pageSize;
    const here = kept?.subarray(first, first + pages.size / this.#context.pageSize);
    return {
      uncached: clipTo(uncached, pages.start, pages.start + pages.size),
      stuck: here !== undefined && here.reduce((sum, page) => sum + page, 0) * 2 > here.length,
    };
  }

  async #ask({ fd, offset, length }: Stretch & { readonly fd: number }): Promise<Asked> {
    const { dropFolios, pageSize, failed } = this.#context;
    const { start, size } = this.#pagesOf(offset, length);
    try {
      const before = await residentPages(fd, start, size);
      const uncached = [...missing(before, start, size, pageSize)];
      let kept: Uint8Array | undefined;
      if (dropFolios && before.includes(1)) {
        await syncFileRange(fd, offset, length, SYNC_RANGE.ALL);
        await fadvise(fd, offset, length, FADV.DONTNEED);
        kept = await residentPages(fd, start, size);
      }
      await readahead(fd, offset, length, READ_STEP);
      return { start, uncached, kept };
    } catch (error) {
      // Only a help: what goes wrong here shows when the stretch is exchanged.
      if (!isSystemFailure(error)) throw error;
      failed(fd, error as SystemError);
      return { start, uncached: [] };
    }
  }

  /** Waits until everything asked for so far has come. */
  async drained(): Promise<void> {
    for (const { fd, offset, length } of this.#pieces.slice(this.#first, this.#next)) {
      if (!this.#closed) await this.#arrival(fd, offset, length);
    }
  }

  /** The cache is made of pages, also where blocks are smaller. */
  #pagesOf(offset: Bytes, length: Bytes): { start: Bytes; size: Bytes } {
    const { pageSize } = this.#context;
    const start = roundDown(offset, pageSize);
    return { start: bytes(start), size: bytes(roundUp(offset + length, pageSize) - start) };
  }

  /** As {@link close}, and drops what it brought into the cache. */
  async abandon(): Promise<void> {
    await this.close();
    for (const { fd, reading } of this.#pieces) {
      const { uncached } = (await reading?.catch(() => undefined)) ?? KEEP;
      for (const { offset, length } of uncached) {
        try {
          // What is still on its way would not be dropped.
          await readThrough(fd, offset, length);
          await fadvise(fd, offset, length, FADV.DONTNEED);
        } catch (error) {
          // What cannot be read is not in the cache.
          if (!isSystemFailure(error)) throw error;
        }
      }
    }
  }

  /** Stops, and waits for what is under way: the files may be closed then. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#reading);
  }
}

function* piecesOf(files: readonly ReadableFile[]): Iterable<Piece> {
  let position = 0;
  for (const { fd, stretches } of files) {
    for (const { offset, length } of stretches) {
      for (let at: number = offset; at < offset + length; at += PIECE) {
        const piece = { fd, offset: bytes(at), length: bytes(Math.min(PIECE, offset + length - at)) };
        yield { ...piece, position, reading: undefined };
        position += piece.length;
      }
    }
  }
}

/** What is to be read of files that move by their plans. */
export const readableOf = (
  files: readonly { readonly fd: number; readonly plan: FilePlan }[],
  blockSize: Bytes,
): ReadableFile[] => files.map(({ fd, plan }) => ({ fd, stretches: stretchesOf(plan, blockSize) }));

/** The mapped stretches of the ranges that a plan moves. */
export function* stretchesOf({ extents, starts, ranges }: FilePlan, blockSize: Bytes): Iterable<Stretch> {
  const { logical, length } = extents;
  const stretch = (start: number, count: number): Stretch => ({
    offset: toBytes(start as Blocks, blockSize),
    length: toBytes(count as Blocks, blockSize),
  });
  for (const range of ranges) {
    const { firstFragment, endFragment } = range;
    let first = starts[firstFragment];
    const end = starts[endFragment];
    if (isSolid({ extents, starts }, range)) {
      yield stretch(logical[first], range.blocks);
      continue;
    }
    for (let i = first + 1; i <= end; i++) {
      const last = i - 1;
      const goesOn = i < end && logical[i] === logical[last] + length[last];
      if (goesOn) continue;
      yield stretch(logical[first], logical[last] + length[last] - logical[first]);
      first = i;
    }
  }
}

/** The stretches whose pages are not resident. */
function* missing(pages: Uint8Array, offset: Bytes, length: Bytes, pageSize: Bytes): Iterable<Stretch> {
  for (let first = pages.indexOf(0); first !== -1;) {
    const next = pages.indexOf(1, first);
    const end = next === -1 ? length : next * pageSize;
    yield { offset: bytes(offset + first * pageSize), length: bytes(end - first * pageSize) };
    first = next === -1 ? -1 : pages.indexOf(0, next);
  }
}

/** The parts of stretches between two offsets. */
function clipTo(stretches: readonly Stretch[], from: number, to: number): Stretch[] {
  return stretches.flatMap((stretch) => {
    const start = Math.max(stretch.offset, from);
    const end = Math.min(stretch.offset + stretch.length, to);
    return start < end ? [{ offset: bytes(start), length: bytes(end - start) }] : [];
  });
}

const roundDown = (value: number, unit: number): number => value - (value % unit);
const roundUp = (value: number, unit: number): number => roundDown(value + unit - 1, unit);
