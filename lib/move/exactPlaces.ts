import { isSystemFailure } from '../kernel/errors.ts';
import { fiemap, FIEMAP_FLAG_SYNC } from '../kernel/fiemap.ts';
import { closeFd, inodeFlags, statFd } from '../kernel/handle.ts';
import { mergeExtents, type ExtentTable } from '../layout/extents.ts';
import { blocks, bytes, toBlocks, type Blocks } from '../layout/units.ts';
import type { Run } from '../place/assign.ts';
import { DonorStock, LONGEST_UNWRITTEN } from '../place/donors.ts';
import { placeExactly, type FileBlock, type Site } from '../place/exact.ts';
import { FreeMap, piecesOf, type FreeRun } from '../place/freeMap.ts';
import { Neighbours, type OwnedBlock } from '../place/neighbours.ts';
import { SearchDepth } from '../place/searchDepth.ts';
import { Tokens, TOKENS } from '../place/tokens.ts';
import { clip } from '../plan/plan.ts';
import { immovable } from '../scan/eligibility.ts';
import type { BatchContext } from './batch.ts';
import { openWhatever } from './evacuate.ts';
import { Leases } from './lease.ts';

/** A file that is open already, and its layout up to its end. */
export interface OpenFile {
  readonly fd: number;
  readonly layout: ExtentTable;
}

/** What was got of what is wanted. */
export interface Taken<W extends FreeRun> {
  /** All that is held. */
  readonly tokens: Tokens;
  /** Temporary files made for it: the caller's, whatever they hold. */
  readonly files: readonly number[];
  /** Wants that are neither free nor held. */
  readonly taken: ReadonlySet<W>;
  /** Why the others were not got, if they were not. */
  readonly why: string;
}

export interface TakeOptions {
  /** What is held already. */
  readonly held?: Tokens;
  /** By inode: to open them again would break their leases. */
  readonly open?: ReadonlyMap<number, OpenFile>;
}

/** Takes hold of blocks at places of one's choice, beside whatever lies there. */
export class ExactPlaces {
  readonly #neighbours: Neighbours;
  readonly #ahead: readonly FreeRun[] | undefined;
  #learnt = false;

  /**
   * @param ahead all that will be asked for, or undefined for anything: who has the blocks beside it is found in one pass
   * @param known who has a block, as far as the caller knows
   */
  constructor(
    { filesystem, dirFd }: Pick<BatchContext, 'filesystem' | 'dirFd'>,
    ahead?: readonly FreeRun[],
    known?: (block: number) => OwnedBlock | undefined,
  ) {
    this.#neighbours = new Neighbours(filesystem, dirFd, known);
    this.#ahead = ahead;
  }

  /** Notes that a file has blocks now. */
  note(inode: number, logical: number, physical: number, length: number): void {
    this.#neighbours.note(inode, logical, physical, length);
  }

  /**
   * Takes hold of what is wanted, as far as it is free.
   *
   * @throws a system error: nothing more is held then
   */
  async take<W extends FreeRun>(
    wants: readonly W[],
    context: BatchContext,
    { held = new Tokens([]), open = new Map<number, OpenFile>() }: TakeOptions = {},
  ): Promise<Taken<W>> {
    const { dirFd, filesystem, barrier, budget, pageSize, reserveShare } = context;
    const { blockSize, geometry } = filesystem;
    // What was vacated before is free only when that is committed.
    await barrier.commit();
    const free = await FreeMap.read(dirFd, blockSize, geometry);
    const missing = wants.flatMap((want) => gapsIn(want, held).map((gap) => ({ ...gap, want })));
    const taken = new Set([...spotsIn(free, missing).taken].map(({ want }) => want));
    const hopeful = wants.filter((want) => !taken.has(want));
    const ahead = this.#learnt ? [] : spotsIn(free, this.#ahead ?? [...free.runs()]).spots;
    this.#learnt = true;
    const blocksPerPage = Math.max(1, pageSize / blockSize);
    const reserve = reserveShare === undefined ? {} : { reserveShare };
    const commit = () => barrier.commit();
    const anchors = new Anchors(open, this.#neighbours, context);
    const notGivenBack = ({ fd }: FileBlock) => {
      const inode = anchors.inodeOf(fd);
      if (inode !== undefined) context.displaced.add(inode);
    };
    const exactly = { blockSize, blocksPerPage, commit, geometry, notGivenBack, ...reserve };
    const files: number[] = [];
    let tokens = held;
    let why: string | undefined;
    let failed = true;
    try {
      // What came to lie beside what is wanted, or was in its way for a moment, helps with the rest.
      for (let pass = 0; pass < PASSES; pass++) {
        const gaps = hopeful.flatMap((want) => gapsIn(want, tokens));
        const map = pass === 0 ? free : await FreeMap.read(dirFd, blockSize, geometry);
        const { spots } = spotsIn(map, gaps);
        if (spots.length === 0) break;
        anchors.lend(tokens);
        const borders = [...spots, ...(pass === 0 ? ahead : [])].flatMap(bordersOf);
        why = await this.#neighbours.learn(
          borders.filter((block) => heldBlock(tokens, block) === undefined),
          budget.signal,
        );
        if (why !== undefined) break;
        const sites: Site[] = [];
        const alone: Spot<FreeRun>[] = [];
        for (const spot of spots) {
          const site = await siteFor(spot, anchors);
          if (site === undefined) alone.push(spot);
          else sites.push(site);
        }
        // First, while these runs are as long as they are known to be.
        const whole = await takeWhole(alone, context);
        files.push(...new Set(whole.map(({ donorFd }) => donorFd)));
        const placed = await placeExactly(dirFd, sites, exactly);
        files.push(...placed.files);
        tokens = new Tokens([...tokens.pieces, ...whole, ...placed.got.flat()]);
        [why] = placed.why.values();
      }
      failed = false;
      return { tokens, files, taken, why: why ?? 'what lies beside them cannot be moved' };
    } finally {
      await anchors.close();
      if (failed) await Promise.all(files.map(closeFd));
    }
  }
}

/** How often it is tried to get what is wanted. */
const PASSES = 4;

/** What is wanted and not held. */
export function gapsIn({ start, length }: FreeRun, tokens: Tokens): FreeRun[] {
  const gaps: FreeRun[] = [];
  let at: number = start;
  const until = (end: number) => {
    if (at < end) gaps.push({ start: blocks(at), length: blocks(end - at) });
  };
  for (const piece of tokens.segments({ ...NOWHERE, physical: start, length })) {
    until(piece.physical);
    at = piece.physical + piece.length;
  }
  until(start + length);
  return gaps;
}

/** A block of a temporary file of ours. */
function heldBlock(tokens: Tokens, physical: number): FileBlock | undefined {
  const [piece] = tokens.segments({ ...NOWHERE, physical: blocks(physical), length: blocks(1) });
  return piece && { fd: piece.donorFd, logical: piece.donor };
}

/** For a segment of which only the place matters. */
const NOWHERE = { donorFd: TOKENS, donor: blocks(0), logical: blocks(0) };

/** Blocks that are wanted in one free run, in the order of the device. */
export interface Spot<W extends FreeRun> {
  readonly run: FreeRun;
  readonly wants: W[];
}

/** Finds the free runs in which what is wanted lies. What is not free, or wanted twice, is taken. Pure. */
export function spotsIn<W extends FreeRun>(
  free: Pick<FreeMap, 'count' | 'start' | 'length'>,
  wants: readonly W[],
): { spots: Spot<W>[]; taken: Set<W> } {
  const spots: Spot<W>[] = [];
  const taken = new Set<W>();
  let row = 0;
  let end = 0;
  for (const want of wants.toSorted((a, b) => a.start - b.start)) {
    const stop = want.start + want.length;
    while (row < free.count && free.start[row] + free.length[row] < stop) row++;
    if (row === free.count || free.start[row] > want.start || want.start < end) {
      taken.add(want);
      continue;
    }
    end = stop;
    const last = spots.at(-1);
    if (last?.run.start === free.start[row]) last.wants.push(want);
    else {
      spots.push({
        run: { start: blocks(free.start[row]), length: blocks(free.length[row]) },
        wants: [want],
      });
    }
  }
  return { spots, taken };
}

/** The blocks before and behind a free run. */
const bordersOf = ({ run }: Spot<FreeRun>): number[] => [run.start - 1, run.start + run.length];

/**
 * What has to be allocated to get what is wanted in a free run: from one of its ends on, where it is the least and the
 * file that lies there lends a block.
 */
async function siteFor({ run, wants }: Spot<FreeRun>, anchors: Anchors): Promise<Site | undefined> {
  const last = wants[wants.length - 1];
  const [start, end] = [wants[0].start, last.start + last.length];
  const fromBefore = async () => {
    const before = await anchors.block(blocks(run.start - 1));
    return before && { start: run.start, length: blocks(end - run.start), before };
  };
  const fromBehind = async () => {
    const behind = await anchors.block(blocks(run.start + run.length));
    return behind && { start, length: blocks(run.start + run.length - start), behind };
  };
  const ways = [fromBefore, fromBehind];
  if (end - run.start > run.start + run.length - start) ways.reverse();
  return (await ways[0]()) ?? (await ways[1]());
}

/** How often a run is asked for. What is answered is held, so each answer is another. */
const TRIES = 256;

/**
 * Allocates runs beside which nobody lends a block: asked for as a whole, since few other runs are as long, and when it
 * looks through all of them the allocator takes the one that fits best.
 *
 * @returns what was got, of these runs and of others; the temporary files are the caller's
 */
async function takeWhole(spots: readonly Spot<FreeRun>[], context: BatchContext): Promise<Run[]> {
  const { filesystem, dirFd } = context;
  const depth = spots.length === 0 ? undefined : await SearchDepth.of(filesystem, dirFd);
  if (depth === undefined) return [];
  const stock = new DonorStock([dirFd], filesystem.blockSize, context.reserveShare);
  try {
    await allocateWhole(spots, depth, stock, context);
    return [...stock.runs()];
  } catch (error) {
    await stock.close();
    throw error;
  } finally {
    stock.letGo();
  }
}

async function allocateWhole(
  spots: readonly Spot<FreeRun>[],
  depth: SearchDepth,
  stock: DonorStock,
  { filesystem }: BatchContext,
): Promise<void> {
  const holds = (start: number, end: number) =>
    [...stock.runs()].some(({ physical, length }) => physical <= start && end <= physical + length);
  for (const { run, wants } of spots) {
    for (const piece of piecesOf([run], filesystem.geometry)) {
      const length = blocks(Math.min(piece.length, LONGEST_UNWRITTEN));
      const end = piece.start + length;
      if (!wants.some((want) => want.start < end && piece.start < want.start + want.length)) continue;
      for (let attempt = 0; attempt < TRIES && !holds(piece.start, end); attempt++) {
        if (!(await stock.add(length, false, depth))) break;
      }
    }
    // The others are wanted by nobody, and whoever comes next needs the room.
    const wanted = [...stock.runs()].filter(({ physical, length }) =>
      spots.some(({ run: { start, length: size } }) => physical < start + size && start < physical + length),
    );
    await stock.keepOnly(new Set(wanted.map(({ donorFd }) => donorFd)));
  }
}

/** Lends blocks of files that lie beside free runs: opened, with a lease, and asked whether it is theirs. */
class Anchors {
  readonly #neighbours: Neighbours;
  readonly #context: BatchContext;
  readonly #leases: Leases;
  readonly #files = new Map<number, OpenFile | undefined>();
  readonly #opened: number[] = [];
  #tokens = new Tokens([]);

  constructor(open: ReadonlyMap<number, OpenFile>, neighbours: Neighbours, context: BatchContext) {
    this.#neighbours = neighbours;
    this.#context = context;
    this.#leases = new Leases(() => context.barrier.commit());
    for (const [inode, file] of open) this.#files.set(inode, file);
  }

  /** Blocks of temporary files of ours can be lent as well. */
  lend(tokens: Tokens): void {
    this.#tokens = tokens;
  }

  async block(physical: Blocks): Promise<FileBlock | undefined> {
    const held = heldBlock(this.#tokens, physical);
    if (held !== undefined) return held;
    const owner = this.#neighbours.ownerOf(physical);
    if (owner === undefined) return undefined;
    if (!this.#files.has(owner.inode)) this.#files.set(owner.inode, await this.#open(owner.inode));
    const file = this.#files.get(owner.inode);
    return file && has(file.layout, owner.logical, physical)
      ? { fd: file.fd, logical: blocks(owner.logical) }
      : undefined;
  }

  /** Whose descriptor that is, or undefined for a temporary file of ours. */
  inodeOf(fd: number): number | undefined {
    for (const [inode, file] of this.#files) if (file?.fd === fd) return inode;
    return undefined;
  }

  async #open(inode: number) {
    const { dirFd, filesystem, exclusive } = this.#context;
    const { blockSize } = filesystem;
    let toClose: number | undefined;
    try {
      const found = await openWhatever(dirFd, inode);
      if (found === undefined) return undefined;
      toClose = found.fd;
      const { fd, executable } = found;
      const leased = await this.#leases.take(fd, exclusive || executable ? 'stop' : 'release');
      const { size, blocks: sectors } = await statFd(fd);
      const flags = await inodeFlags(fd);
      const facts = { regular: true, size: bytes(Number(size)), hasBlocks: sectors > 0n, flags, swap: false };
      if ((exclusive && !leased) || immovable(facts) !== undefined) return undefined;
      const extents = mergeExtents(await fiemap(fd, blockSize, { flags: FIEMAP_FLAG_SYNC }));
      this.#opened.push(fd);
      toClose = undefined;
      // What is preallocated behind the end cannot be exchanged.
      return { fd, layout: clip(extents, toBlocks(facts.size, blockSize)) };
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return undefined;
    } finally {
      if (toClose !== undefined) await this.#leases.close(toClose);
    }
  }

  /** Closes what was opened, when what was lent and given back is committed. */
  async close(): Promise<void> {
    try {
      if (this.#files.size > 0) await this.#context.barrier.commit();
    } finally {
      await this.#leases.settled();
      await Promise.all(this.#opened.map((fd) => this.#leases.close(fd)));
    }
  }
}

/** Whether a file has a block at a place. */
function has({ count, logical, physical, length }: ExtentTable, block: number, at: number): boolean {
  for (let i = 0; i < count; i++) {
    if (logical[i] <= block && block < logical[i] + length[i]) return physical[i] + block - logical[i] === at;
  }
  return false;
}
