import { closeFd } from '../kernel/handle.ts';
import { blocks, toBytes, type Blocks } from '../layout/units.ts';
import { FreeMap } from '../place/freeMap.ts';
import {
  named,
  type ConsolidatedEvent,
  type ConsolidateEvent,
  type ConsolidateSummary,
  type FreeSpaceNow,
  type MovingEvent,
} from '../report/events.ts';
import { UnsupportedTarget } from '../scan/filesystem.ts';
import { freeSpaceOf } from '../scan/freeSpace.ts';
import { eachOpened, listOf, targetEvent, type TargetPath } from '../scan/session.ts';
import { openWhole, type Target } from '../scan/targets.ts';
import type { BatchContext } from './batch.ts';
import type { Outcome } from './candidate.ts';
import { inRun, type DefragmentOptions, type Run } from './defragment.ts';
import type { Cleared } from './evacuate.ts';
import { GOOD_RUN, RoomMaker } from './makeRoom.ts';
import { watched, Watchdog } from './watchdog.ts';

/** Bytes of the run that is made where nothing else is asked for. */
const USUAL_RUN = 64 * 2 ** 20;
/** A run that is not all that is wanted is made when it is so many times as long as the longest. */
const WORTH_MAKING = 1.25;

/** What {@link consolidate} can be told: what {@link DefragmentOptions} are, and how much is wanted. */
export interface ConsolidateOptions extends Pick<
  DefragmentOptions,
  | 'signal'
  | 'priority'
  | 'maxRate'
  | 'maxLatency'
  | 'pressure'
  | 'timeLimit'
  | 'maxBytes'
  | 'maxWrittenPercent'
  | 'reserve'
  | 'exclusive'
  | 'wait'
  | 'allowFastCommit'
  | 'allowNoJournal'
  | 'requireSafeKernel'
> {
  /** Until there is one free run of so many bytes (64 MiB, or the most that the reserve allows). */
  readonly run?: number | undefined;
  /** Until so many more bytes lie in free runs of at least 8 MiB. Excludes `run`. */
  readonly bytes?: number | undefined;
}

/**
 * Joins free space into longer runs, by moving files out of the way, and leaves them free; on the filesystem of each
 * target, once. No file ends in more fragments than before, and content, size, times, modes and attributes do not change.
 * That takes root and a device that can be read. Leaving the loop or aborting the signal ends it after the chunk in hand,
 * everything committed. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list, RangeError for an option that makes no sense; whatever is wrong with a
 *   target is an event
 */
export async function* consolidate(
  targets: Iterable<TargetPath>,
  options: ConsolidateOptions = {},
): AsyncGenerator<ConsolidateEvent, void, void> {
  const paths = listOf(targets);
  const { run: length, bytes: amount, ...others } = options;
  checkGoal(length, amount);
  const seen = new Set<string>();
  const sum = { filesystems: 0, reached: 0, windows: 0 };
  yield* inRun<ConsolidateEvent>(others, paths.length, async function* (run) {
    yield* eachOpened(paths, run.options.signal, run.tally, async function* (target) {
      const { id } = target.filesystem;
      if (seen.has(id)) return;
      seen.add(id);
      for await (const event of onFilesystem(target, { run: length, bytes: amount }, run)) {
        if (event.type === 'consolidated') {
          sum.filesystems++;
          sum.reached += Number(event.reached);
          sum.windows += event.windows;
        }
        yield event;
      }
    });
    yield summaryOf(run, sum);
  });
}

/** @throws RangeError */
function checkGoal(run: number | undefined, bytes: number | undefined): void {
  for (const [name, value] of Object.entries({ run, bytes })) {
    if (value !== undefined && !(value > 0))
      throw new RangeError(`${name} must be more than 0, not ${value}`);
  }
  if (run !== undefined && bytes !== undefined) throw new RangeError('run and bytes exclude each other');
}

function summaryOf(
  run: Run,
  sum: { filesystems: number; reached: number; windows: number },
): ConsolidateSummary {
  const { bytesEvacuated, bytesWritten, failed, unsupported, budget, interrupted, seconds } = run.summary();
  return {
    type: 'summary',
    command: 'consolidate',
    ...sum,
    bytesEvacuated,
    bytesWritten,
    failed,
    unsupported,
    ...(budget && { budget: { reached: budget.reached } }),
    interrupted,
    seconds,
  };
}

type Events = AsyncGenerator<MovingEvent | ConsolidatedEvent, void, void>;

async function* onFilesystem(target: Target, wanted: Wanted, run: Run): Events {
  yield { ...targetEvent(target, run.options), method: 'inode-table' };
  const whole = await openWhole(target);
  if (typeof whole === 'string') throw new UnsupportedTarget(whole);
  let report: ConsolidatedEvent | undefined;
  try {
    yield* run.at(whole, false, run.options, async function* (context) {
      const work = new Consolidation(whole, wanted, context);
      for await (const outcome of work.outcomes()) yield* run.tell(outcome, context);
      report = work.report;
      // Whatever limit it was, there is more to do.
      if (!report.reached && context.budget.signal.aborted) run.account.leftComplete = false;
    });
  } finally {
    if (whole !== target) await closeFd(whole.dirFd);
  }
  if (report !== undefined) yield report;
}

/** What is asked for, in bytes. */
interface Wanted {
  readonly run: number | undefined;
  readonly bytes: number | undefined;
}

/** The work on one filesystem. */
class Consolidation {
  readonly #target: Target;
  readonly #context: BatchContext;
  readonly #maker: RoomMaker;
  readonly #wanted: Wanted;
  #goal: ConsolidatedEvent['goal'] = { kind: 'run', bytes: USUAL_RUN };
  #before: FreeSpaceNow | undefined;
  #after: FreeSpaceNow | undefined;
  #windows = 0;
  #evacuated = 0;
  #why: string | undefined;

  constructor(target: Target, wanted: Wanted, context: BatchContext) {
    this.#target = target;
    this.#wanted = wanted;
    this.#context = context;
    // What counts already stays as it is. For one longer run it may be just what is wanted.
    this.#maker = new RoomMaker(
      context,
      wanted.bytes === undefined ? {} : { spare: this.#inBlocks(GOOD_RUN) },
    );
  }

  async *outcomes(): AsyncGenerator<Outcome, void, void> {
    const { budget } = this.#context;
    this.#before = this.#after = await this.#freeSpace();
    this.#goal = await this.#chooseGoal();
    // What one round makes helps the next, as long as others leave it there.
    for (let missing = Infinity; !this.#reached && this.#missing < missing && !budget.signal.aborted;) {
      missing = this.#missing;
      using watchdog = await Watchdog.start(this.#context);
      yield* watchdog.guard(this.#clear(watchdog));
      this.#after = await this.#freeSpace();
    }
  }

  get report(): ConsolidatedEvent {
    const { filesystem, argument } = this.#target;
    const reached = this.#reached;
    const why = this.#context.budget.signal.aborted
      ? 'the run ended before'
      : (this.#why ?? 'others took what was cleared');
    return {
      type: 'consolidated',
      ...named(argument),
      device: filesystem.device,
      mountPoint: filesystem.mountPoint.toString(),
      goal: this.#goal,
      longRun: GOOD_RUN,
      reached,
      ...(!reached && { detail: why }),
      windows: this.#windows,
      bytesEvacuated: this.#evacuated,
      before: this.#before!,
      after: this.#after!,
    };
  }

  async #chooseGoal(): Promise<ConsolidatedEvent['goal']> {
    const { run, bytes } = this.#wanted;
    if (bytes !== undefined) return { kind: 'bytes', bytes };
    if (run !== undefined) return { kind: 'run', bytes: run };
    const most = toBytes(blocks(await this.#maker.mostAtOnce()), this.#context.filesystem.blockSize);
    return { kind: 'run', bytes: Math.min(USUAL_RUN, Math.max(most, this.#after!.largestRun)) };
  }

  /** Bytes that are still to be had. */
  get #missing(): number {
    const { kind, bytes } = this.#goal;
    const [before, after] = [this.#before!, this.#after!];
    return kind === 'run' ? bytes - after.largestRun : bytes - (after.inLongRuns - before.inLongRuns);
  }

  get #reached(): boolean {
    return this.#missing <= 0;
  }

  /**
   * Clears as many windows as are missing, holds them until there are enough, so that nothing is moved from the one into
   * the other, and lets go of all.
   */
  async *#clear(watchdog: Watchdog): AsyncGenerator<Outcome, void, void> {
    const { barrier, budget } = this.#context;
    const path = this.#target.argument;
    const context = watched(this.#context, watchdog);
    const held: Cleared[] = [];
    try {
      this.#why = undefined;
      const one = this.#goal.kind === 'run';
      let left: number = this.#inBlocks(one ? this.#goal.bytes : Math.max(this.#missing, GOOD_RUN));
      while (left > 0 && !context.budget.signal.aborted) {
        const least = one ? this.#least(left) : this.#inBlocks(GOOD_RUN);
        for await (const outcome of this.#clearWindow(Math.max(left, least), least, path, context, held)) {
          if (outcome.kind === 'evacuated') this.#evacuated += this.#inBytes(outcome.moved);
          yield outcome;
        }
        const got = held.at(-1);
        if (this.#why !== undefined || got === undefined) break;
        this.#windows++;
        left -= one ? left : got.tokens.longestRun;
      }
      // There may be windows that cost more than may still be moved.
      if (this.#why !== undefined && this.#inBlocks(budget.bytesLeft) < left) budget.giveUp();
    } finally {
      try {
        // That the files have left is on disk before anybody else is given the blocks.
        await barrier.commit();
      } finally {
        await Promise.all(held.flatMap(({ fds }) => fds).map(closeFd));
      }
    }
    this.#why = watchdog.why ?? this.#why;
  }

  async *#clearWindow(
    most: number,
    least: number,
    path: Buffer,
    context: BatchContext,
    held: Cleared[],
  ): AsyncGenerator<Outcome, void, void> {
    const result = yield* this.#maker.consolidate(most, least, path, context);
    if ('tokens' in result) held.push(result);
    else this.#why = result.why;
  }

  /** Blocks that one run must have at least: all that was asked for; otherwise a good deal more than the longest has. */
  #least(most: number): number {
    if (this.#wanted.run !== undefined) return most;
    return Math.min(most, this.#inBlocks(this.#after!.largestRun * WORTH_MAKING) + 1);
  }

  async #freeSpace(): Promise<FreeSpaceNow> {
    const { dirFd, filesystem, barrier } = this.#context;
    const { blockSize, geometry } = filesystem;
    // What was freed is free only then.
    await barrier.commit();
    const map = await FreeMap.read(dirFd, blockSize, geometry);
    let long = 0;
    for (const { length } of map.runs(this.#inBlocks(GOOD_RUN))) long += length;
    return { ...freeSpaceOf(map, blockSize), inLongRuns: this.#inBytes(long) };
  }

  #inBlocks(size: number): Blocks {
    return blocks(Math.ceil(size / this.#context.filesystem.blockSize));
  }

  #inBytes(count: number): number {
    return toBytes(blocks(count), this.#context.filesystem.blockSize);
  }
}
