import { readlink } from 'node:fs/promises';
import { release, version } from 'node:os';
import { knownBugs } from '../ext4/kernelBugs.ts';
import { refusal, type SafetyOverrides } from '../ext4/safety.ts';
import { filesystemUuid, statFilesystem } from '../kernel/handle.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { pageSize } from '../kernel/page.ts';
import { countFragments } from '../layout/fragments.ts';
import { typicalDevice, type DeviceProfile } from '../layout/readCost.ts';
import { blocks, bytes, toBytes, type Bytes } from '../layout/units.ts';
import type { Discovery } from '../plan/discovery.ts';
import type { GroupOptions } from '../plan/groups.ts';
import { checkOrderOptions, OrderList } from '../plan/orderList.ts';
import { planScanned } from '../plan/planScanned.ts';
import type { Worthwhile } from '../plan/worstFirst.ts';
import {
  named,
  type DefragEvent,
  type DefragSummary,
  type MovingEvent,
  type NoticeEvent,
} from '../report/events.ts';
import { excludeMatcherFromRoot, type Matcher } from '../scan/exclude.ts';
import { readMounts, sysfsBlocks, UnsupportedTarget, type Filesystem } from '../scan/filesystem.ts';
import { pathInFilesystem } from '../scan/mounts.ts';
import { hasItsName, Scanner, type ScannedFile } from '../scan/scan.ts';
import {
  deviceProfileFor,
  eachTarget,
  listOf,
  planOptionsFor,
  Tally,
  type CommonOptions,
  type TargetPath,
} from '../scan/session.ts';
import type { FoundByNumber, TableScan } from '../scan/tableScan.ts';
import type { Target } from '../scan/targets.ts';
import { reserveShareFor } from '../place/donors.ts';
import { SearchDepth } from '../place/searchDepth.ts';
import { defaultStatePath } from '../state/runState.ts';
import { Account } from './account.ts';
import type { Arranged, Planned } from './arrange.ts';
import { Barrier } from './barrier.ts';
import { moveBatch, placeWhereFree, type BatchContext } from './batch.ts';
import { Budget, type BudgetLimit } from './budget.ts';
import { leftAlone, type Candidate, type Outcome, type Verdict } from './candidate.ts';
import { BATCH, Gathering } from './gathering.ts';
import { HeadStart } from './headStart.ts';
import { lockFilesystem } from './lock.ts';
import { RoomMaker } from './makeRoom.ts';
import { Measurement } from './measure.ts';
import { Memory } from './memory.ts';
import { Pace, type PaceOptions, type Pause } from './pace/pace.ts';
import { lowerPriority, type Priority } from './pace/priority.ts';
import { probe } from './probe.ts';
import type { UndoLog } from './undo.ts';

/** What {@link defragment} can be told. Nothing of it is needed. */
export interface DefragmentOptions
  extends CommonOptions, GroupOptions, PaceOptions, Partial<SafetyOverrides> {
  /** Leave files alone that another process has open: the only way to leave no window between move and commit. */
  readonly exclusive?: boolean | undefined;
  /**
   * How the threads of this process compete for the processor and the device while the run goes on (`normal`, which
   * leaves them as they are).
   */
  readonly priority?: Priority | undefined;
  /** End after so many seconds. */
  readonly timeLimit?: number | undefined;
  /** End when so many bytes have been moved. */
  readonly maxBytes?: number | undefined;
  /** Move no more on a filesystem than this much of its size, in percent. */
  readonly maxWrittenPercent?: number | undefined;
  /**
   * How much of a filesystem stays free whatever happens, in percent, from 0 to 99: by default the larger of 5 % and what
   * is reserved for root, which anybody but root leaves in any case.
   */
  readonly reserve?: number | undefined;
  /**
   * Where to keep what the next run can use: how far this one came, and which files fragment again. A file's path, or
   * true for the usual place (see {@link defaultStatePath}). Nothing is kept without it.
   */
  readonly state?: string | true | undefined;
  /** Also move files that fragment again as soon as they are moved. */
  readonly ignoreHistory?: boolean | undefined;
  /** Wait while another run is at work on the filesystem, instead of failing. */
  readonly wait?: boolean | undefined;
  /**
   * A file in which to record where what was moved lay before: {@link apply} can put it back as long as nothing else
   * changes. No file is replaced.
   */
  readonly keepUndo?: string | undefined;
  /**
   * Move files out of the way of others where free space is in pieces (true), any files of the filesystem that have no
   * excluded name. That takes root and a device that can be read, and more is written than is defragmented.
   */
  readonly makeRoom?: boolean | undefined;
  /** Refuse to work on a kernel with known bugs in what is used, where its version tells, instead of warning. */
  readonly requireSafeKernel?: boolean | undefined;
  /** Measure what reading a sample of the files takes, before and after. */
  readonly measure?: boolean | undefined;
}

/**
 * Defragments files, directories, mount points or devices of mounted ext4 filesystems, which stay in use meanwhile.
 * Content, size, times, modes and attributes of the files do not change. Nothing is done that the consumer does not
 * ask for with the next step of the iteration, except that what is held is let go of when others need the space; leaving
 * the loop or aborting the signal ends it after the chunk in hand, everything committed. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list, RangeError for an option that makes no sense; whatever is wrong with a
 *   target or a file is an event
 */
export async function* defragment(
  targets: Iterable<TargetPath>,
  options: DefragmentOptions = {},
): AsyncGenerator<DefragEvent, void, void> {
  const paths = listOf(targets);
  yield* inRun(options, paths.length, async function* (run) {
    if (yield* run.begin()) {
      yield* eachTarget(paths, run.options, run.tally, run.scanner, (target, tables) =>
        run.target(target, tables),
      );
      yield* run.end();
    }
    yield run.summary();
  });
}

/**
 * Has work done within a run: with the priority and the limits that the options ask for.
 *
 * @param targets how many there are
 * @throws RangeError for an option that makes no sense
 */
export async function* inRun<E>(
  options: DefragmentOptions,
  targets: number,
  work: (run: Run) => AsyncGenerator<E, void, void>,
): AsyncGenerator<E, void, void> {
  checkDefragOptions(options);
  const { timeLimit, maxBytes, signal, priority = 'normal' } = options;
  using budget = new Budget(signal, { time: timeLimit && timeLimit * 1000, bytes: maxBytes });
  const run = new Run({ ...options, signal: budget.signal }, budget, signal, targets);
  const restore = await lowerPriority(priority);
  try {
    yield* work(run);
  } finally {
    await restore();
    await run.saveUndo();
  }
}

/** @throws RangeError, TypeError */
function checkDefragOptions(options: DefragmentOptions): void {
  for (const name of ['maxRate', 'maxLatency', 'timeLimit', 'maxBytes', 'maxWrittenPercent'] as const) {
    const value = options[name];
    if (value !== undefined && !(value > 0))
      throw new RangeError(`${name} must be more than 0, not ${value}`);
  }
  checkOrderOptions(options);
  const { pressure } = options;
  const { reserve = 0 } = options;
  if (!(reserve >= 0 && reserve <= 99)) {
    throw new RangeError(`reserve must be a percentage from 0 to 99, not ${reserve}`);
  }
  if (pressure !== undefined && !(pressure > 0 && pressure <= 100)) {
    throw new RangeError(`pressure must be a percentage from 1 to 100, not ${pressure}`);
  }
}

/** A run over one or several targets: what all of them share. */
export class Run {
  readonly tally = new Tally();
  readonly options: DefragmentOptions;
  readonly scanner: Scanner;
  readonly #budget: Budget;
  /** What the caller stops the run by. */
  readonly #stopped: AbortSignal | undefined;
  readonly #measurement: Measurement | undefined;
  readonly account = new Account(this.tally);
  #undo: UndoLog | undefined;
  #order: OrderList | undefined;
  /** Targets that have not been begun. */
  #ahead: number;
  #reached: BudgetLimit | undefined;
  /** What has not been told yet of this kernel. */
  #kernelBugs = knownBugs(release(), version());

  // While a target is worked on.
  /** Those that found no place so far, where room is made. */
  #waiting: Verdict[] | undefined;
  #discovery: Discovery<MovingEvent> | undefined;
  /** Files that have been dealt with together with others. */
  #arranged = new Set<number>();
  #memory: Memory | undefined;
  #device: DeviceProfile = typicalDevice(false);

  constructor(options: DefragmentOptions, budget: Budget, stopped: AbortSignal | undefined, targets: number) {
    this.options = options;
    this.#budget = budget;
    this.#stopped = stopped;
    this.#measurement = options.measure ? new Measurement() : undefined;
    this.scanner = new Scanner(options, targets > 1);
    this.#ahead = targets;
  }

  /** Makes ready. @returns whether the run can begin */
  async *begin(): AsyncGenerator<MovingEvent, boolean, void> {
    const { keepUndo, orderFile = '', cluster, order } = this.options;
    // What the run may come to need later is loaded now: the package may be another version by then.
    if (this.#ahead > 1) await Promise.all([import('../scan/tableScan.ts'), import('../plan/discovery.ts')]);
    if (cluster || order !== undefined || orderFile !== '') await loadArranging();
    let path = orderFile;
    try {
      this.#order = await OrderList.of(this.options);
      if (keepUndo !== undefined) {
        const { UndoLog } = await import('./undo.ts');
        this.#undo = await UndoLog.open((path = keepUndo), this.options);
      }
      return true;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      yield this.tally.fail(Buffer.from(path), error);
      return false;
    }
  }

  /** Leaves what was to be kept of the run. */
  async *end(): AsyncGenerator<MovingEvent, void, void> {
    // Of a run that was stopped nobody knows what it would have found.
    const unknown = this.options.signal?.aborted ? [] : (this.#order?.unknown() ?? []);
    for (const path of unknown) yield this.tally.skip(path, 'not-in-target');
    const error = await this.saveUndo();
    if (error !== undefined) yield this.tally.fail(Buffer.from(this.options.keepUndo ?? ''), error);
  }

  /** Writes the undo file, if there is anything in it that is not written. @returns what went wrong */
  async saveUndo(): Promise<Error | undefined> {
    try {
      await this.#undo?.saveChanges();
      return undefined;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return error;
    }
  }

  /** Defragments a target. */
  async *target(target: Target, tables: TableScan | undefined): AsyncGenerator<MovingEvent, void, void> {
    // Before the lock is waited for.
    if (tables !== undefined) await import('../plan/discovery.ts');
    const asked = this.scanner.askFor(target);
    try {
      yield* this.at(target, tables !== undefined, this.options, (context) =>
        this.#work(target, tables, context),
      );
    } finally {
      await asked;
    }
  }

  async *#work(
    target: Target,
    tables: TableScan | undefined,
    context: BatchContext,
  ): AsyncGenerator<MovingEvent, void, void> {
    yield* this.#arrange(target, tables !== undefined, context);
    yield* tables === undefined ? this.#walk(target, context) : this.#worstFirst(target, tables, context);
  }

  /** Lays files one behind the other where that is asked for, before each is looked at by itself. */
  async *#arrange(
    target: Target,
    tables: boolean,
    context: BatchContext,
  ): AsyncGenerator<MovingEvent, void, void> {
    this.#arranged = new Set();
    if (this.#order === undefined && this.options.cluster !== true) return;
    const [{ groupsIn }, { arrange }] = await loadArranging();
    for await (const group of groupsIn(target, tables, this.#order, this.options)) {
      if (context.budget.signal.aborted) return;
      const verdicts: Verdict[] = [];
      try {
        for await (const outcome of arrange(group, context, verdicts)) yield* this.#report(outcome, context);
        while (verdicts.length > 0) yield* this.#report(verdicts.shift()!, context);
      } finally {
        // Nobody is told any more; what was done counts all the same.
        for (const verdict of verdicts) void [...this.#report(verdict, context)];
      }
      await this.saveNowAndThen();
    }
  }

  /** Saves what is kept of the run, if the last time was long ago. */
  async saveNowAndThen(): Promise<void> {
    await this.#memory?.saveNowAndThen();
    await this.#undo?.saveNowAndThen();
  }

  /**
   * Makes ready for moving files on a target's filesystem, has it done, and leaves everything as it should be.
   *
   * @param all the work is on all of a filesystem
   * @param options that may be the target's own
   */
  async *at(
    target: Target,
    all: boolean,
    options: CommonOptions,
    work: (context: BatchContext) => AsyncGenerator<MovingEvent, void, void>,
  ): AsyncGenerator<MovingEvent, void, void> {
    const { filesystem, dirFd } = target;
    this.#ahead--;
    // What waits for the device now does not wait for us.
    const pace = new Pace(this.options, filesystem.id);
    const unlock = await lockFilesystem(filesystem, dirFd, this.options.wait ?? false, this.#budget.signal);
    if (unlock === undefined) {
      this.account.leftComplete = false;
      return;
    }
    try {
      const page = await pageSize();
      await this.#refuseUnsafe(filesystem, dirFd, page);
      yield* this.#warnOfKernel();
      if (pace.blind) {
        yield notice(
          'pressure',
          'this kernel does not tell how long others wait for I/O: nothing makes it pause',
        );
      }
      this.#device = deviceProfileFor(target, options);
      await this.#undo?.begin(target, this.#device);
      using budget = new Budget(this.#budget, { bytes: await this.#shareOf(dirFd) });
      yield* this.#remember(target);
      const barrier = await Barrier.open(dirFd, filesystem.kernel);
      try {
        const surroundings = {
          filesystem,
          dirFd,
          pageSize: page,
          barrier,
          planOptions: planOptionsFor(target, options),
          searchDepth: await SearchDepth.of(filesystem, dirFd),
          reserveShare: await this.#reserveShareOf(filesystem, dirFd),
        };
        // What a killed run left raised.
        surroundings.searchDepth?.restore();
        const { makeRoom = true } = this.options;
        const exclude = makeRoom ? await this.#excludedOn(target) : undefined;
        const context: BatchContext = {
          ...surroundings,
          exclusive: this.options.exclusive ?? false,
          pace,
          budget,
          ending: () => (this.#stopped?.aborted ? 'interrupted' : 'budget'),
          memory: this.#memory,
          measurement: this.#measurement,
          displaced: new Set(),
          undo: this.#undo,
          placer: makeRoom ? new RoomMaker(surroundings, { exclude }).placer : placeWhereFree,
        };
        this.#waiting = makeRoom ? [] : undefined;
        // Before anything of ours is under way.
        for await (const pause of pace.wait(0, budget.signal)) yield this.#pause(pause);
        try {
          yield* work(context);
        } catch (error) {
          yield* displacements(context);
          throw error;
        }
        yield* displacements(context);
        // A part of the filesystem says nothing of how far a run over all of it came.
        const whole = all || !(this.#memory?.continues ?? false);
        yield* this.#forget(whole && !budget.signal.aborted);
      } finally {
        this.#reached ??= budget.reached;
        await barrier.close();
      }
    } finally {
      await this.#memory?.save(false);
      this.#memory = undefined;
      await unlock();
    }
  }

  /** What does not go out of the way either, anywhere on a target's filesystem; or why that cannot be told. */
  async #excludedOn({ filesystem, dirFd }: Target): Promise<Matcher | string | undefined> {
    const { exclude = [] } = this.options;
    if (exclude.length === 0) return undefined;
    const path = await readlink(`/proc/self/fd/${dirFd}`, 'buffer');
    const folder = pathInFilesystem(await readMounts(), filesystem.id, path);
    if (folder === undefined)
      return 'room cannot be made: what is excluded is not known where its mount is not visible';
    return excludeMatcherFromRoot(exclude, folder);
  }

  /** Bytes that may be moved on a filesystem. */
  async #shareOf(dirFd: number): Promise<number | undefined> {
    const { maxWrittenPercent } = this.options;
    if (maxWrittenPercent === undefined) return undefined;
    const { total, blockSize } = await statFilesystem(dirFd);
    return (toBytes(total, blockSize) * maxWrittenPercent) / 100;
  }

  async #reserveShareOf(filesystem: Filesystem, dirFd: number): Promise<number | undefined> {
    const { reserve } = this.options;
    if (reserve === undefined) return undefined;
    const kept = (await sysfsBlocks(filesystem, 'reserved_clusters')) ?? blocks(0);
    return reserveShareFor(reserve, await statFilesystem(dirFd), kept);
  }

  /** Takes up what earlier runs left. */
  async *#remember({ dirFd, kind }: Target): AsyncGenerator<MovingEvent, void, void> {
    const { state, ignoreHistory = false } = this.options;
    if (state === undefined) return;
    const uuid = await filesystemUuid(dirFd);
    const path = uuid === undefined || state !== true ? state : defaultStatePath(uuid);
    if (uuid === undefined || path === undefined || path === true) {
      yield notice('state', 'there is no place to keep what the next run can use');
      return;
    }
    const memory = await Memory.open(path, uuid, { ignoreHistory, asked: kind === 'file' });
    if (memory.ignored !== undefined) yield notice('state', memory.ignored);
    this.account.continued ||= memory.continues;
    this.#memory = memory;
  }

  /** Leaves what the next run can use. */
  async *#forget(finished: boolean): AsyncGenerator<MovingEvent, void, void> {
    const memory = this.#memory;
    this.#memory = undefined;
    await memory?.save(finished);
    if (memory?.failure !== undefined) {
      yield notice('state', `what the next run could use cannot be kept: ${memory.failure.message}`);
    }
  }

  /** Once in a run. */
  *#warnOfKernel(): Iterable<MovingEvent> {
    const bugs = this.#kernelBugs;
    this.#kernelBugs = undefined;
    if (bugs !== undefined) yield notice('kernel', `${bugs}; install a newer kernel`);
  }

  async #refuseUnsafe(filesystem: Filesystem, dirFd: number, page: Bytes): Promise<void> {
    const overrides = {
      allowFastCommit: this.options.allowFastCommit ?? false,
      allowNoJournal: this.options.allowNoJournal ?? false,
    };
    if (this.options.requireSafeKernel && this.#kernelBugs !== undefined) {
      throw new UnsupportedTarget(
        `${this.#kernelBugs}; install a newer kernel, or go without --require-safe-kernel`,
      );
    }
    // What the superblock tells is refused before anything is written; what only trying tells, after the trial.
    const known = { ...filesystem, fastCommit: filesystem.features === undefined ? false : undefined };
    const before = refusal(known, overrides);
    if (before !== undefined) throw new UnsupportedTarget(before);
    const tried = await probe(filesystem, dirFd, page);
    const after = refusal({ ...filesystem, ...tried }, overrides);
    if (after !== undefined) throw new UnsupportedTarget(after);
  }

  /** Files as they are met. */
  async *#walk(target: Target, context: BatchContext): AsyncGenerator<MovingEvent, void, void> {
    const { blockSize } = context.filesystem;
    const gathering = new Gathering();
    const { signal } = context.budget;
    let headStart: HeadStart | undefined;
    try {
      for await (const item of this.scanner.scan(target)) {
        if (signal.aborted) {
          this.account.leftComplete = false;
          break;
        }
        if (item.kind === 'skip') {
          yield this.tally.skip(item.path, item.reason);
          continue;
        }
        if (item.kind === 'failed') {
          yield this.tally.fail(item.path, item.error);
          continue;
        }
        this.tally.files++;
        if (this.#arranged.has(item.inode)) continue;
        if (target.kind === 'file') headStart = await HeadStart.begin(item, context);
        const planned = planScanned(item, context.planOptions);
        if (typeof planned === 'string') {
          const fragments = countFragments(item.extents);
          this.account.count(fragments);
          yield this.tally.skip(item.path, planned, fragments);
          continue;
        }
        const size = toBytes(planned.blocks, blockSize);
        this.account.bytesPlanned += size;
        for (const batch of gathering.add({ file: item, planned: size, plan: planned })) {
          yield* this.move(batch, context);
        }
      }
      // A stopped walk ends quietly, too.
      if (this.options.signal?.aborted) this.account.leftComplete = false;
      yield* this.move(gathering.take(), context, headStart);
      yield* this.#moveWaiting(context);
    } finally {
      await headStart?.end();
    }
  }

  /** A whole filesystem's files, what gains most for each byte moved first, while the scan still goes on. */
  async *#worstFirst(
    target: Target,
    tables: TableScan,
    context: BatchContext,
  ): AsyncGenerator<MovingEvent, void, void> {
    const { Discovery } = await import('../plan/discovery.ts');
    const discovery = new Discovery<MovingEvent>({
      target,
      tables,
      planOptions: context.planOptions,
      batch: BATCH,
      tally: this.tally,
      count: (fragments) => this.account.count(fragments),
      arranged: this.#arranged,
      refuses: (file) => this.#memory?.refuses(file),
      signal: this.options.signal,
    });
    const { signal } = context.budget;
    this.#discovery = discovery;
    discovery.start();
    try {
      for (;;) {
        // Before the queue is looked at: what ended meanwhile has filled it.
        const { ended } = discovery;
        yield* discovery.progress();
        yield* discovery.told();
        const found = signal.aborted ? [] : discovery.queue.popBatch();
        if (found.length > 0) yield* this.#moveFound(await this.#lookAgain(tables, found, context), context);
        else if (ended || signal.aborted) break;
        else await discovery.changed();
      }
      yield* this.#moveWaiting(context);
      await (signal.aborted ? discovery.stop() : discovery.finish());
      if (!discovery.complete) this.account.leftComplete = false;
      yield* discovery.told();
      this.#leave([...discovery.queue], context);
    } catch (error) {
      // What was done is told of, whatever it ended with.
      await discovery.stop();
      yield* discovery.told();
      throw error;
    } finally {
      await discovery.stop();
      this.account.bytesPlanned += discovery.bytesFound;
      this.#discovery = undefined;
    }
  }

  /** Leaves files for another run. */
  #leave(files: readonly Worthwhile[], { ending }: BatchContext): void {
    this.tally.leave(ending(), files.length);
    for (const { bytes, fragments } of files) {
      this.account.leave(bytes);
      this.account.count(fragments);
    }
  }

  /** Asks the kernel about files again that were found some time ago. */
  async #lookAgain(
    tables: TableScan,
    found: readonly Worthwhile[],
    context: BatchContext,
  ): Promise<(FoundByNumber & { planned: Bytes })[]> {
    const items: (FoundByNumber & { planned: Bytes })[] = [];
    for await (const item of tables.inspect(found)) {
      items.push({ ...item, planned: bytes(found[items.length].bytes) });
    }
    // It ends early only when the run is stopped.
    this.#leave(found.slice(items.length), context);
    return items;
  }

  async *#moveFound(
    items: readonly (FoundByNumber & { planned: Bytes })[],
    context: BatchContext,
  ): AsyncGenerator<MovingEvent, void, void> {
    const programs: Candidate[] = [];
    const others: Candidate[] = [];
    for (const { inode, item, planned } of items) {
      if (item.kind === 'skip') yield* this.#tell(this.tally.skip(item.path, item.reason), inode);
      else if (item.kind === 'failed') yield* this.#tell(this.tally.fail(item.path, item.error), inode);
      else {
        const file = this.#discovery?.withName(item) ?? item;
        if (await this.#isExcludedNow(file)) yield* this.#tell(this.tally.skip(file.path, 'vanished'), inode);
        else (file.executable ? programs : others).push({ file, planned });
      }
    }
    yield* this.move(others, context);
    for (const program of programs) yield* this.move([program], context);
  }

  /** With --exclude: a file that has got another name since it was judged by the one that it had. */
  async #isExcludedNow(file: ScannedFile): Promise<boolean> {
    const judged = (this.options.exclude ?? []).length > 0 && this.#discovery?.knowsNames === true;
    return judged && !(await hasItsName(file));
  }

  /** Tells of a file at once, or when its name is known. */
  *#tell(event: MovingEvent, inode: number): Iterable<MovingEvent> {
    if (this.#discovery === undefined) yield event;
    else {
      this.#discovery.tell(event, inode);
      yield* this.#discovery.told();
    }
  }

  /**
   * Moves files, in as many rounds as that takes.
   *
   * @param headStart of the only file; the caller ends it
   */
  async *move(
    candidates: readonly Candidate[],
    context: BatchContext,
    headStart?: HeadStart,
  ): AsyncGenerator<MovingEvent, void, void> {
    const { signal } = context.budget;
    let queue = candidates;
    let round = { ...context, headStart };
    while (queue.length > 0) {
      // Before anything is opened: a pause holds up nobody.
      for await (const pause of context.pace.wait(0, signal)) yield this.#pause(pause);
      const again: Candidate[] = [];
      if (signal.aborted) {
        for (const candidate of queue) yield* this.#report(leftAlone(candidate, context.ending()), context);
        return;
      }
      for await (const outcome of moveBatch(queue, round)) {
        if (outcome.kind === 'again') again.push(outcome.candidate);
        else if (this.#waiting !== undefined && foundNoPlace(outcome)) this.#waiting.push(outcome);
        else yield* this.#report(outcome, context);
      }
      await this.saveNowAndThen();
      queue = again;
      round = { ...context, headStart: undefined };
      // The blocks that this round vacated can be allocated only when their freeing is committed.
      if (queue.length > 0) await context.barrier.commit();
    }
  }

  /** Gives those another chance that found no place, when the others have moved: more has been put in order since. */
  async *#moveWaiting(context: BatchContext): AsyncGenerator<MovingEvent, void, void> {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    const helped = this.account.defragmentedFiles > 0 && !context.budget.signal.aborted;
    if (!helped) for (const outcome of waiting) yield* this.#report(outcome, context);
    else {
      const gathering = new Gathering();
      const last = { ...context, lastChance: true };
      for (const verdict of waiting) {
        for (const batch of gathering.add(asCandidate(verdict))) yield* this.move(batch, last);
      }
      yield* this.move(gathering.take(), last);
    }
  }

  *#report(
    outcome: Exclude<Outcome, { kind: 'again' }> | Planned | Arranged,
    context: BatchContext,
  ): Iterable<MovingEvent> {
    const asBytes = (count: number) => toBytes(blocks(count), context.filesystem.blockSize);
    if (outcome.kind === 'pause') {
      yield this.#pause(outcome.pause);
      return;
    }
    if (outcome.kind === 'moving') {
      const moved = asBytes(outcome.moved);
      this.account.moved(moved);
      context.budget.spend(moved);
      yield this.account.progress(outcome.path, this.#discovery?.bytesFound ?? 0);
      return;
    }
    if (outcome.kind === 'evacuated') {
      const moved = asBytes(outcome.moved);
      this.account.evacuated(moved);
      context.budget.spend(moved);
      yield this.account.progress(outcome.path, this.#discovery?.bytesFound ?? 0);
      return;
    }
    if (outcome.kind === 'placing') {
      const { path, step, reason } = outcome;
      yield { type: 'placement', ...named(path), step, reason };
      return;
    }
    if (outcome.kind === 'planned') {
      this.account.bytesPlanned += asBytes(outcome.blocks);
      return;
    }
    if (outcome.kind === 'arranged') {
      const event = this.account.arranged(outcome, asBytes(outcome.moved));
      if (event !== undefined) yield event;
      return;
    }
    const { file, planned, generation, share } = outcome.candidate;
    if (share !== undefined) this.#arranged.add(file.inode);
    const id = generation === undefined ? undefined : { inode: file.inode, generation };
    if (outcome.kind === 'defragmented') {
      context.displaced.delete(file.inode);
      const { gain, incomplete, why } = outcome;
      const moved = asBytes(outcome.moved);
      if (incomplete === 'budget') this.account.leave(planned - moved);
      // The next run goes on with what was moved in part.
      const inPart = incomplete === 'budget' || incomplete === 'interrupted';
      const better = gain.fragmentsAfter < gain.fragmentsBefore;
      if (id !== undefined && better && !inPart) {
        this.#memory?.moved(id, gain.fragmentsBefore, gain.fragmentsAfter);
      }
      const size = asBytes(gain.blocks);
      if (share !== undefined && !better) {
        this.account.count(gain.fragmentsBefore);
        return;
      }
      const event = this.account.defragmented(file, gain, size, moved, incomplete, why, this.#device);
      yield* this.#tell(event, file.inode);
      return;
    }
    const fragments = countFragments(file.extents);
    this.account.count(fragments);
    if (outcome.kind === 'failed') {
      yield* this.#tell(this.tally.fail(file.path, outcome.error), file.inode);
      return;
    }
    const { reason, why } = outcome;
    if (reason === 'budget') this.account.leave(planned);
    if (id !== undefined) this.#memory?.leftAlone(id, reason);
    const perDay =
      reason === 'fragments-again' && id !== undefined
        ? this.#memory?.fragmentsPerDay({ ...id, fragments })
        : undefined;
    const event = {
      ...this.tally.skip(file.path, reason, fragments),
      ...(why !== undefined && { detail: why }),
    };
    yield* this.#tell(perDay === undefined ? event : { ...event, fragmentsPerDay: perDay }, file.inode);
  }

  /** Tells of what happens where files are not moved by {@link move}, and counts it. */
  tell(outcome: Outcome, context: BatchContext): Iterable<MovingEvent> {
    return outcome.kind === 'again' ? [] : this.#report(outcome, context);
  }

  #pause({ paused, percent }: Pause): MovingEvent {
    return { type: 'pause', paused, percent: Math.round(percent), seconds: this.tally.seconds };
  }

  summary(): DefragSummary {
    const interrupted = this.#stopped?.aborted ?? false;
    const reached = this.#reached ?? this.#budget.reached;
    if (reached !== undefined && this.#ahead > 0) this.account.leftComplete = false;
    return {
      ...this.account.summary(interrupted ? undefined : reached, interrupted),
      ...((this.options.cluster === true || this.#order !== undefined) && {
        arranged: this.account.arrangedSums,
      }),
      ...(this.#undo?.saved === true && { undoFile: this.options.keepUndo }),
    };
  }
}

const loadArranging = () => Promise.all([import('../plan/groups.ts'), import('./arrange.ts')]);

/** Whether a file is to be tried again when more has been put in order. */
const foundNoPlace = (outcome: Outcome): outcome is Exclude<Verdict, { kind: 'failed' }> =>
  (outcome.kind === 'skip' && outcome.reason === 'no-better-place') ||
  (outcome.kind === 'defragmented' && outcome.incomplete === 'no-better-place');

/** A file that was moved in part goes on from there. */
function asCandidate(verdict: Verdict): Candidate {
  const { candidate } = verdict;
  if (verdict.kind !== 'defragmented') return candidate;
  const { gain, moved, layouts } = verdict;
  return { ...candidate, earlier: { gain, moved, layouts, rounds: candidate.earlier?.rounds ?? 1 } };
}

function* displacements({ displaced }: BatchContext): Iterable<NoticeEvent> {
  for (const inode of displaced) {
    yield notice(
      'placement',
      `a block of inode ${inode} was borrowed and could not be given back: it lies elsewhere now, nothing of it is ` +
        `lost; 'find -xdev -inum ${inode}' where it is mounted names the file, which can be defragmented`,
    );
  }
}

const notice = (about: NoticeEvent['about'], message: string): NoticeEvent => ({
  type: 'notice',
  about,
  message,
});
