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
  readonly plan: FilePlan;
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

/**
 * Brings what is going to be exchanged into the cache, ahead of the exchange and in its order: EXT4_IOC_MOVE_EXT would
 * read it page by page, one request after the other. It may begin before it is known where anything goes.
 */
export class ReadAhead {
  readonly #context: ReadAheadContext;
  readonly #pieces: readonly Piece[];
  readonly #lanes: Promise<unknown>[] = Array.from({ length: LANES }, () => Promise.resolve());
  /** The piece in use, and the first that is not asked for yet. */
  #first = 0;
  #next = 0;
  #closed = false;
  readonly #reading = new Set<Promise<Prefetched>>();
  /** Files whose reader was told not to read ahead by itself. */
  readonly #random = new Set<number>();

  constructor(files: readonly ReadableFile[], context: ReadAheadContext) {
    this.#context = context;
    this.#pieces = [...piecesOf(files, context.blockSize)];
  }

  /** Begins with the first pieces. */
  start(): void {
    this.#goOn(0);
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
    const lane = this.#next % LANES;
    const reading = this.#lanes[lane].then(() => (this.#closed ? KEEP : this.#prefetch(piece)));
    this.#lanes[lane] = reading;
    return reading;
  }

  async #prefetch({ fd, offset, length }: Piece): Promise<Prefetched> {
    const { dropFolios, pageSize, failed } = this.#context;
    const { start, size } = this.#pagesOf(offset, length);
    try {
      const before = await residentPages(fd, start, size);
      const uncached = [...missing(before, start, size, pageSize)];
      let stuck = false;
      if (dropFolios && before.includes(1)) {
        await syncFileRange(fd, offset, length, SYNC_RANGE.ALL);
        await fadvise(fd, offset, length, FADV.DONTNEED);
        const after = await residentPages(fd, start, size);
        stuck = after.reduce((sum, page) => sum + page, 0) * 2 > after.length;
      }
      await readahead(fd, offset, length, READ_STEP);
      return { uncached, stuck };
    } catch (error) {
      // Only a help: what goes wrong here shows when the stretch is exchanged.
      if (!isSystemFailure(error)) throw error;
      failed(fd, error as SystemError);
      return KEEP;
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

/** The mapped stretches of the ranges that are going to move, cut into pieces. */
function* piecesOf(files: readonly ReadableFile[], blockSize: Bytes): Iterable<Piece> {
  let position = 0;
  for (const { fd, plan } of files) {
    for (const { start, length } of stretches(plan)) {
      const end = toBytes(start, blockSize) + toBytes(length, blockSize);
      for (let at: number = toBytes(start, blockSize); at < end; at += PIECE) {
        const piece = { fd, offset: bytes(at), length: bytes(Math.min(PIECE, end - at)) };
        yield { ...piece, position, reading: undefined };
        position += piece.length;
      }
    }
  }
}

function* stretches({ extents, starts, ranges }: FilePlan): Iterable<{ start: Blocks; length: Blocks }> {
  const { logical, length } = extents;
  for (const range of ranges) {
    const { firstFragment, endFragment } = range;
    let first = starts[firstFragment];
    const end = starts[endFragment];
    if (isSolid({ extents, starts }, range)) {
      yield { start: logical[first] as Blocks, length: range.blocks };
      continue;
    }
    for (let i = first + 1; i <= end; i++) {
      const last = i - 1;
      const goesOn = i < end && logical[i] === logical[last] + length[last];
      if (goesOn) continue;
      yield {
        start: logical[first] as Blocks,
        length: (logical[last] + length[last] - logical[first]) as Blocks,
      };
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
