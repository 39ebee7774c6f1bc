import { DirectoryColumns } from '../ext4/directories.ts';
import { Invalid } from '../ext4/invalid.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd, O, openByHandle } from '../kernel/handle.ts';
import { assign, RunPool, type Segment } from '../place/assign.ts';
import { spendableBlocks } from '../place/donors.ts';
import { FreeMap } from '../place/freeMap.ts';
import { OwnerMap } from '../place/owners.ts';
import { Tokens } from '../place/tokens.ts';
import { shortageOf, Terrain, type Window } from '../place/window.ts';
import { fragmentsAfter, movedExtents, type FilePlan, type Range } from '../plan/plan.ts';
import { formatSize } from '../report/format.ts';
import { Ext4Device } from '../scan/device.ts';
import type { Matcher } from '../scan/exclude.ts';
import { readAllTables } from '../scan/inodeTables.ts';
import { neverExcluded } from '../scan/names.ts';
import { placeWhereFree, type BatchContext, type Placed, type Placer, type PlacingContext } from './batch.ts';
import type { Outcome } from './candidate.ts';
import { evacuate, type Blocked, type Cleared, type Surroundings } from './evacuate.ts';
import type { Job } from './opening.ts';

const MiB = 1024 * 1024;

/** The largest window that is cleared at once: what is held meanwhile is that much. */
const LARGEST_WINDOW = 64 * MiB;
/** Bytes: as long a run is good enough where all in one is not to be had. */
export const GOOD_RUN = 8 * MiB;
/** Blocks more than that, since what goes into it does not come out even. */
const MARGIN = 64;
/** To clear a window no more is moved than this times its length; and so for all windows together. */
const MOST_COST = 1.5;
/** The share of what may be allocated that a window may take: evacuating needs some to and fro. */
const SHARE = 0.8;
/** Windows that turn out not to be clearable before it is given up. */
const TRIES = 12;
/** Free runs that are made longer for what is in the way, while one window is looked for. */
const MOST_GROWN = 6;
/** What it takes to look at all of free space, compared with what is done before it is looked at again. */
const LOOK_SHARE = 0.05;

/** Milliseconds of such a look that are not spent for every window. */
const LONG_LOOK = 50;

/** Short ranges get a window together, of so many bytes. */
const POOLED = 8 * MiB;
/** Needs in a row, windows for one, or places for what is in one, that are not to be had before it is given up. */
const MOST_FAILED = 4;
/** What is to become a longer free run has that much in it at least, or it is one already but for its end. */
const WORTH_GROWING = 0.15;
/** A file is moved when that wins this share of what its plan would; it waits otherwise. */
const WORTH_MOVING = 0.5;

const ROOT_INODE = 2;
/** Milliseconds. */
const CLOCK_STEP = 1000;

/** What a filesystem's files are, as far as making room goes by it. */
interface Survey {
  readonly owners: OwnerMap;
  readonly blocksCount: number;
  /** As {@link Surroundings.named}. */
  readonly named: number | undefined;
  /** Whether a file may go out of the way, where not all may. */
  readonly mayGo: ((inode: number) => boolean) | undefined;
}

/** Windows that were cleared for files, and why there are no more of them. */
interface Room {
  readonly cleared: readonly Cleared[];
  readonly why: string | undefined;
}

export type RoomContext = Pick<
  BatchContext,
  'dirFd' | 'filesystem' | 'barrier' | 'pageSize' | 'planOptions' | 'searchDepth' | 'reserveShare'
>;

export interface RoomOptions {
  /** Free runs of at least so many blocks stay as they are: nothing is cleared in them, nor moved into them. */
  readonly spare?: number;
  /** What stays where it is, by paths from the filesystem's root on; or why that cannot be told, and no room is made. */
  readonly exclude?: Matcher | string | undefined;
}

/** Makes room on one filesystem, by moving files out of the way of others. */
export class RoomMaker {
  readonly #context: RoomContext;
  readonly #spare: number;
  readonly #exclude: Matcher | string | undefined;
  #survey: Survey | string | undefined;
  #terrain: { readonly terrain: Terrain; readonly longestRun: number } | undefined;
  #looked = { at: -Infinity, took: 0 };
  /** Files that stay where they are, as far as has been found. */
  readonly #immovable = new Set<number>();
  /** Windows that were cleared since that look. */
  #touched: Window[] = [];
  /** Blocks that were moved out of the way so far, and blocks that were given to files in return. */
  readonly #blocks = { evacuated: 0, cleared: 0 };

  constructor(context: RoomContext, { spare = Infinity, exclude }: RoomOptions = {}) {
    this.#context = context;
    this.#spare = spare;
    this.#exclude = exclude;
  }

  /** Places files where the allocator finds room, and makes room for those that come out in short pieces. */
  readonly placer: Placer = (jobs, context) => this.#place(jobs, context);

  async *#place(jobs: readonly Job[], context: PlacingContext): AsyncGenerator<Outcome, Placed, void> {
    const placed = yield* this.#placeOrMakeRoom(jobs, context);
    for (const job of placed.jobs) this.#note(job);
    return placed;
  }

  async *#placeOrMakeRoom(
    jobs: readonly Job[],
    context: PlacingContext,
  ): AsyncGenerator<Outcome, Placed, void> {
    const placed = yield* placeWhereFree(jobs, context);
    const found = placed.jobs.filter((job) => this.#keepWellPlaced(job));
    const needy = [
      ...placed.jobs.filter((job) => !found.includes(job)),
      ...placed.refused.filter(({ reason }) => reason === 'no-better-place').map(({ job }) => job),
    ];
    if (needy.length === 0 || context.budget.signal.aborted) return placed;
    // What was allocated for them is given back first: they need the room.
    for (const job of needy) job.segments = [];
    await context.stock.keepOnly(new Set(found.flatMap(({ segments }) => segments.map((s) => s.donorFd))));
    const homeless = yield* this.#accommodate(needy, jobs, context);
    const refused = placed.refused.filter(({ reason }) => reason !== 'no-better-place');
    const housed = [...found, ...needy.filter((job) => !homeless.includes(job))];
    // What is held for these now may make room for the others.
    if (housed.length > 0 || context.budget.signal.aborted) return { jobs: housed, refused, later: homeless };
    // As well as it can be had.
    const rest = yield* placeWhereFree(homeless, {
      ...context,
      stock: context.anotherStock(),
      near: undefined,
    });
    // Why there is no room is known better by now.
    return {
      jobs: rest.jobs,
      refused: [...refused, ...rest.refused.map(({ job }) => ({ job, reason: 'no-better-place' as const }))],
    };
  }

  /** Blocks that a window may have now, beside the reserve. */
  async mostAtOnce(): Promise<number> {
    const { dirFd, reserveShare } = this.#context;
    return Math.floor((await spendableBlocks(dirFd, reserveShare)) * SHARE);
  }

  /**
   * Clears a window that no file is waiting for. The caller commits, and closes what holds it.
   *
   * @param most blocks that it shall have
   * @param least as many in one run it must have
   * @param path what its events are to name
   */
  async *consolidate(
    most: number,
    least: number,
    path: Buffer,
    context: BatchContext,
  ): AsyncGenerator<Outcome, Cleared | Blocked, void> {
    const survey = await this.#surveyed(context.budget.signal);
    if (typeof survey === 'string') return { why: survey };
    return yield* this.#clearOne(most, least, path, { ...survey, open: new Map() }, context);
  }

  /**
   * Whether a file has a place in one piece, or in long ones; or as much of a large one as could be cleared for it. The
   * rest waits for the next round then: what the first one vacates may do for it.
   */
  #keepWellPlaced(job: Job): boolean {
    const well = inLongRuns(job, this.#goodRun);
    const placed = well.reduce((sum, { length }) => sum + length, 0);
    const enough = Math.min(job.plan.blocks, LARGEST_WINDOW / this.#context.filesystem.blockSize);
    if (placed < enough) return false;
    job.cut ||= placed < job.plan.blocks;
    job.segments = well;
    return true;
  }

  /** Blocks. */
  get #goodRun(): number {
    const { filesystem, planOptions } = this.#context;
    return Math.min(planOptions.fragmentBlocks, GOOD_RUN / filesystem.blockSize);
  }

  /**
   * Clears windows and gives them to files.
   *
   * @param open all files of the batch
   * @returns those that got nothing
   */
  async *#accommodate(
    needy: readonly Job[],
    open: readonly Job[],
    context: PlacingContext,
  ): AsyncGenerator<Outcome, readonly Job[], void> {
    const { cleared, why } = yield* this.#clear(needy, open, context);
    const tokens = new Tokens(cleared.flatMap((window) => window.tokens.pieces));
    const pool = new RunPool(tokens.runs);
    const homeless: Job[] = [];
    // The large ones first: the small ones fit into what is left.
    for (const job of needy.toSorted((a, b) => b.plan.blocks - a.plan.blocks)) {
      pool.begin();
      const assigned = assign(job.plan, pool, 1);
      const { fragmentsBefore, fragmentsAfter: planned } = job.plan;
      const after = fragmentsAfter(job.plan.extents, assigned);
      if (after > planned) job.why = why;
      if (fragmentsBefore - after < (fragmentsBefore - planned) * WORTH_MOVING) {
        pool.giveUp();
        homeless.push(job);
        continue;
      }
      job.segments = assigned.flatMap((segment) => tokens.segments(segment));
    }
    return homeless;
  }

  /** Notes where a file will be. Should that not come true, it shows when the file is asked. */
  #note({ candidate, plan, segments }: Job): void {
    if (typeof this.#survey !== 'object') return;
    const { owners, mayGo } = this.#survey;
    const { inode } = candidate.file;
    for (const { physical, length } of movedExtents(plan)) owners.clear(physical, length);
    if (mayGo?.(inode) === false) return;
    for (const { logical, physical, length } of segments) owners.set({ inode, logical, physical, length });
  }

  async *#clear(
    needy: readonly Job[],
    open: readonly Job[],
    context: PlacingContext,
  ): AsyncGenerator<Outcome, Room, void> {
    const { filesystem } = context;
    const cleared: Cleared[] = [];
    const survey = await this.#surveyed(context.budget.signal);
    if (typeof survey === 'string') return { cleared, why: survey };
    const descriptors = new Map(open.map(({ candidate, fd }) => [candidate.file.inode, fd]));
    const around = { ...survey, open: descriptors };
    let why: string | undefined;
    let failed = 0;
    for (const need of needsOf(needy, POOLED / filesystem.blockSize)) {
      for (let left = need.total; left > 0;) {
        if (failed === MOST_FAILED || context.budget.signal.aborted) return { cleared, why };
        const least = Math.min(need.longest, left, this.#leastFor(left, context));
        const result = yield* this.#clearOne(left, least, needy[0].path, around, context);
        if ('why' in result) {
          ({ why } = result);
          failed++;
          break;
        }
        failed = 0;
        cleared.push(result);
        context.stock.adopt(result.fds);
        for (const { length } of result.tokens.runs) if (length >= least) left -= length;
      }
    }
    return { cleared, why };
  }

  /** As short a run, in blocks, is good enough for a range. */
  #leastFor(range: number, { lastChance }: BatchContext): number {
    // Fragments are not cut, so the end of a run that is shorter than the range is not used.
    const good = this.#goodRun + MARGIN;
    // What would be left over is no good run: it shall have all in one as long as that may still come true.
    return !lastChance && range < 2 * good ? range : good;
  }

  /**
   * Clears a window.
   *
   * @param most blocks that are of use
   * @param least as many in one run are needed
   */
  async *#clearOne(
    most: number,
    least: number,
    path: Buffer,
    around: Surroundings,
    context: BatchContext,
  ): AsyncGenerator<Outcome, Cleared | Blocked, void> {
    const { filesystem, budget } = context;
    const size = (count: number) => formatSize(count * filesystem.blockSize);
    const survey = this.#survey as Survey;
    const hopeless: Window[] = [];
    let length = Math.max(least, Math.min(most, LARGEST_WINDOW / filesystem.blockSize));
    /** Windows of that length for which there are no places to be made. */
    let short: Window[] = [];
    let grown = 0;
    let why = '';
    while (hopeless.length < TRIES && !budget.signal.aborted) {
      if (this.#isTooDear(length))
        return { why: 'to make room for more would move more than it puts in order' };
      await this.#look(survey);
      const { terrain, longestRun } = this.#terrain!;
      why = `needs a run of ${size(least)}; the largest is ${size(longestRun)}; `;
      const mostAtOnce = await this.mostAtOnce();
      length = Math.min(length, mostAtOnce);
      if (length < least) {
        why += `the reserve of free space leaves ${size(mostAtOnce)} to clear a window with`;
        break;
      }
      const mostCost = Math.min(Math.ceil(length * MOST_COST), budget.bytesLeft / filesystem.blockSize);
      const demands = {
        length,
        mostCost,
        immovable: this.#immovable,
        apart: [...hopeless, ...short, ...this.#touched],
      };
      const window = terrain.cheapest({ ...demands, snug: true }) ?? terrain.cheapest(demands);
      if (window === undefined || shortageOf(window) > 0) {
        // What is in the way is longer than free runs are: longer ones can be made first.
        if (window !== undefined && grown < MOST_GROWN && (yield* this.#grow(window, around, context))) {
          grown++;
          continue;
        }
        if (window !== undefined && short.length < MOST_FAILED) {
          // It may go better elsewhere.
          short.push(window);
        } else if (length > least) {
          length = Math.max(least, Math.ceil(length / 2));
          short = [];
        } else {
          why += 'no window can be cleared for it';
          break;
        }
        continue;
      }
      const reason = `${why}${size(window.cost)} of other files go out of the way`;
      yield { kind: 'placing', path, step: 'make-room', reason };
      const result = yield* this.#evacuate(window, least, around, context);
      if ('tokens' in result) return result;
      why += `no window could be cleared for it: ${result.why}`;
      hopeless.push(window);
    }
    return { why };
  }

  /**
   * Makes a free run that takes up what finds no place when a window is evacuated.
   *
   * @returns whether there is one now
   */
  async *#grow(
    window: Window,
    around: Surroundings,
    context: BatchContext,
  ): AsyncGenerator<Outcome, boolean, void> {
    const { terrain } = this.#terrain!;
    const longest = Math.max(...window.packing.unplaced.map((i) => window.extents[i].length));
    const apart = [window, ...this.#touched];
    let failed = 0;
    for (let length = Math.max(longest, shortageOf(window)); failed < MOST_FAILED;) {
      if (context.budget.signal.aborted) return false;
      const smaller = terrain.cheapest({
        length,
        mostCost: Math.ceil(length * MOST_COST),
        leastCost: Math.ceil(length * WORTH_GROWING),
        immovable: this.#immovable,
        apart,
      });
      if (smaller !== undefined && shortageOf(smaller) === 0) {
        const result = yield* this.#evacuate(smaller, longest, around, context);
        if (!('tokens' in result)) {
          failed++;
          apart.push(smaller);
          continue;
        }
        await context.barrier.commit();
        await Promise.all(result.fds.map(closeFd));
        // However long that takes: without it nobody knew that there is such a run now.
        this.#looked.at = -Infinity;
        this.#touched = this.#touched.filter((window) => window !== smaller);
        return true;
      }
      if (length === longest) return false;
      length = Math.max(longest, length >> 1);
    }
    return false;
  }

  async *#evacuate(
    window: Window,
    least: number,
    around: Surroundings,
    context: BatchContext,
  ): AsyncGenerator<Outcome, Cleared | Blocked, void> {
    const work = evacuate(window, least, around, context);
    let result: Cleared | Blocked;
    try {
      let step = await work.next();
      for (; !step.done; step = await work.next()) {
        if (step.value.kind === 'evacuated') this.#blocks.evacuated += step.value.moved;
        yield step.value;
      }
      result = step.value;
    } finally {
      // Nobody may ask for more; at its end this does nothing.
      await work.return({ why: 'the run was stopped' });
    }
    if ('tokens' in result) this.#blocks.cleared += window.length;
    else if (result.inode !== undefined) this.#immovable.add(result.inode);
    // What was free is not, and what was full is ours. Where it takes long to look, the rest will do for now.
    if ('tokens' in result && this.#looked.took > LONG_LOOK) this.#touched.push(window);
    else this.#looked.at = -Infinity;
    return result;
  }

  /** Whether making room takes too much in relation to what is won, over the whole run. */
  #isTooDear(length: number): boolean {
    const { evacuated, cleared } = this.#blocks;
    return evacuated > MOST_COST * (cleared + length);
  }

  /** Looks at free space anew, unless that takes too large a share of the time. */
  async #look({ owners, blocksCount }: Survey): Promise<void> {
    const now = performance.now();
    if (this.#terrain !== undefined && (now - this.#looked.at) * LOOK_SHARE < this.#looked.took) return;
    const { dirFd, filesystem, barrier } = this.#context;
    // What was freed can be had only when that is committed.
    await barrier.commit();
    const free = await FreeMap.read(dirFd, filesystem.blockSize, filesystem.geometry);
    const usable = this.#spare < free.longestRun ? shorterThan(this.#spare, free) : free;
    this.#terrain = { terrain: new Terrain(blocksCount, usable, owners), longestRun: usable.longestRun };
    this.#looked = { at: performance.now(), took: performance.now() - now };
    this.#touched = [];
  }

  /** Finds out whose blocks are whose, once. @returns why it cannot */
  async #surveyed(signal: AbortSignal): Promise<Survey | string> {
    this.#survey ??= await this.#readTables(signal);
    return this.#survey ?? 'the run was stopped';
  }

  /** @returns undefined when the signal was aborted */
  async #readTables(signal: AbortSignal): Promise<Survey | string | undefined> {
    const { dirFd, filesystem, pageSize } = this.#context;
    if (filesystem.blockSize !== pageSize) return 'room is made only where blocks are as large as pages';
    if (typeof this.#exclude === 'string') return this.#exclude;
    let device: Ext4Device | undefined;
    try {
      await closeFd(await openByHandle(dirFd, ROOT_INODE, 0, O.RDONLY | O.DIRECTORY));
      const opened = await Ext4Device.open(filesystem.device, filesystem.id);
      if (opened instanceof Invalid) return `room cannot be made: ${filesystem.device}: ${opened.reason}`;
      device = opened;
      const { blocksCount } = device.superblock;
      const owners = new OwnerMap(blocksCount);
      const excluded = this.#exclude;
      // The clock that stamps inodes goes in steps.
      const named = excluded === undefined ? undefined : Date.now() - CLOCK_STEP;
      const mayGo = excluded && (await mayGoOutOfTheWay(device, dirFd, excluded, signal));
      // What is not known to be somebody's stays.
      const extents = (inode: number, logical: number, physical: number, length: number) => {
        if (mayGo?.(inode) !== false) owners.set({ inode, logical, physical, length });
      };
      await readAllTables(device, { extents, signal });
      if (signal.aborted) return undefined;
      return { owners, blocksCount, named, mayGo };
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return `room cannot be made: whose blocks are whose takes root and a readable device (${error.message})`;
    } finally {
      await device?.close();
    }
  }
}

/** Tells which files have no excluded name. */
async function mayGoOutOfTheWay(device: Ext4Device, dirFd: number, excluded: Matcher, signal: AbortSignal) {
  const all = new DirectoryColumns();
  await readAllTables(device, { signal, directories: all });
  return neverExcluded(device, dirFd, all, excluded, { signal });
}

/** Free runs without those of at least so many blocks. */
function shorterThan(length: number, free: FreeMap): FreeMap {
  return FreeMap.of(
    [...free.runs()].filter((run) => run.length < length),
    free.geometry,
  );
}

/** The segments of a file that lie in runs of at least `long` blocks, or as long as their whole range. */
function inLongRuns({ plan, segments }: Job, long: number): Segment[] {
  const well: Segment[] = [];
  let next = 0;
  for (const range of plan.ranges) {
    let run: Segment[] = [];
    const close = () => {
      const length = run.reduce((sum, segment) => sum + segment.length, 0);
      if (length >= Math.min(long, range.blocks)) well.push(...run);
      run = [];
    };
    const end = endOf(plan, range);
    for (; next < segments.length && segments[next].logical < end; next++) {
      const last = run.at(-1);
      const goesOn = last !== undefined && last.physical + last.length === segments[next].physical;
      if (!goesOn) close();
      run.push(segments[next]);
    }
    close();
  }
  return well;
}

/** The logical block behind a range. */
function endOf({ extents, starts }: FilePlan, { endFragment }: Range): number {
  const last = starts[endFragment] - 1;
  return extents.logical[last] + extents.length[last];
}

/** A window is needed for one range, or for several short ones. In blocks. */
interface Need {
  readonly total: number;
  readonly longest: number;
}

/** What plans need, the longest first; short ranges together up to so many blocks. */
function* needsOf(jobs: readonly Job[], pooled: number): Iterable<Need> {
  const ranges = jobs.flatMap(({ plan }) => plan.ranges.map((range) => range.blocks));
  ranges.sort((a, b) => b - a);
  for (let first = 0; first < ranges.length;) {
    const longest = ranges[first];
    let total = 0;
    for (; first < ranges.length && (total === 0 || total + ranges[first] <= pooled); first++) {
      total += ranges[first];
    }
    yield { total, longest };
  }
}
