import { refusal, type SafetyOverrides } from '../ext4/safety.ts';
import { pageSize } from '../kernel/page.ts';
import { countFragments } from '../layout/fragments.ts';
import { blocks, bytes, toBytes, type Bytes } from '../layout/units.ts';
import { Discovery } from '../plan/discovery.ts';
import { planScanned } from '../plan/planScanned.ts';
import { named, type DefragEvent } from '../report/events.ts';
import { UnsupportedTarget, type Filesystem } from '../scan/filesystem.ts';
import type { Worthwhile } from '../plan/worstFirst.ts';
import { hasItsName, Scanner, type ScannedFile } from '../scan/scan.ts';
import type { FoundByNumber, TableScan } from '../scan/tableScan.ts';
import {
  eachTarget,
  listOf,
  planOptionsFor,
  Tally,
  type CommonOptions,
  type TargetPath,
} from '../scan/session.ts';
import type { Target } from '../scan/targets.ts';
import { Barrier } from './barrier.ts';
import { leftAlone, moveBatch, type BatchContext, type Candidate, type Outcome } from './batch.ts';
import { probe } from './probe.ts';

export interface DefragmentOptions extends CommonOptions, Partial<SafetyOverrides> {
  /** Leave files alone that another process has open: the only way to leave no window between move and commit. */
  readonly exclusive?: boolean | undefined;
}

const MiB = 1024 * 1024;

/** Files that share donors and a barrier: enough that the commit is not felt, few enough to hold open. */
const BATCH = { bytes: 64 * MiB, files: 128 };

/**
 * Defragments files, directories, mount points or devices of mounted ext4 filesystems, which stay in use meanwhile.
 * Content, size, times, modes and attributes of the files do not change. Nothing is done that the consumer does not
 * ask for with the next step of the iteration; leaving the loop or aborting the signal ends it after the chunk in
 * hand, everything committed. The last event is the summary.
 *
 * @throws TypeError when `targets` is no list; whatever is wrong with a target or a file is an event
 */
export async function* defragment(
  targets: Iterable<TargetPath>,
  options: DefragmentOptions = {},
): AsyncGenerator<DefragEvent, void, void> {
  const paths = listOf(targets);
  const run = new Run(options, paths.length > 1);
  yield* eachTarget(paths, options, run.tally, run.scanner, (target, tables) => run.target(target, tables));
  yield run.summary();
}

class Run {
  readonly tally = new Tally();
  readonly #options: DefragmentOptions;
  readonly scanner: Scanner;
  /** While a whole filesystem is worked on. */
  #discovery: Discovery<DefragEvent> | undefined;
  readonly #sum = { defragmented: 0, fragmentsBefore: 0, fragmentsAfter: 0, bytesMoved: 0 };
  #bytesPlanned = 0;

  constructor(options: DefragmentOptions, overlapping: boolean) {
    this.#options = options;
    this.scanner = new Scanner(options, overlapping);
  }

  async *target(target: Target, tables: TableScan | undefined): AsyncGenerator<DefragEvent, void, void> {
    const { filesystem, dirFd } = target;
    const page = await pageSize();
    await this.#refuseUnsafe(filesystem, dirFd, page);
    const barrier = await Barrier.open(dirFd, filesystem.kernel);
    try {
      const context: BatchContext = {
        filesystem,
        dirFd,
        pageSize: page,
        barrier,
        planOptions: planOptionsFor(target, this.#options),
        exclusive: this.#options.exclusive ?? false,
        signal: this.#options.signal,
      };
      if (tables === undefined) yield* this.#walk(target, context);
      else yield* this.#worstFirst(target, tables, context);
    } finally {
      await barrier.close();
    }
  }

  async #refuseUnsafe(filesystem: Filesystem, dirFd: number, page: Bytes): Promise<void> {
    const overrides = {
      allowFastCommit: this.#options.allowFastCommit ?? false,
      allowNoJournal: this.#options.allowNoJournal ?? false,
    };
    // What the superblock tells is refused before anything is written; what only trying tells, after the trial.
    const known = { ...filesystem, fastCommit: filesystem.features === undefined ? false : undefined };
    const before = refusal(known, overrides);
    if (before !== undefined) throw new UnsupportedTarget(before);
    const tried = await probe(filesystem, dirFd, page);
    const after = refusal({ ...filesystem, ...tried }, overrides);
    if (after !== undefined) throw new UnsupportedTarget(after);
  }

  /** Files as they are met. */
  async *#walk(target: Target, context: BatchContext): AsyncGenerator<DefragEvent, void, void> {
    const { blockSize } = context.filesystem;
    let batch: Candidate[] = [];
    let batchBytes = 0;
    for await (const item of this.scanner.scan(target)) {
      if (item.kind === 'skip') {
        yield this.tally.skip(item.path, item.reason);
        continue;
      }
      if (item.kind === 'failed') {
        yield this.tally.fail(item.path, item.error);
        continue;
      }
      this.tally.files++;
      const planned = planScanned(item, context.planOptions);
      if (typeof planned === 'string') {
        const fragments = countFragments(item.extents);
        this.#count(fragments);
        yield this.tally.skip(item.path, planned, fragments);
        continue;
      }
      const size = toBytes(planned.blocks, blockSize);
      this.#bytesPlanned += size;
      if (item.executable) {
        // A program is open for as short a time as possible: it cannot be executed meanwhile.
        yield* this.#move([{ file: item }], context);
        continue;
      }
      // A large file does not make small ones wait for it, nor them for its barrier.
      if (batch.length > 0 && batchBytes + size > BATCH.bytes) {
        yield* this.#move(batch, context);
        batch = [];
        batchBytes = 0;
      }
      batch.push({ file: item });
      batchBytes += size;
      if (batch.length >= BATCH.files) {
        yield* this.#move(batch, context);
        batch = [];
        batchBytes = 0;
      }
    }
    yield* this.#move(batch, context);
  }

  /** A whole filesystem's files, what gains most for each byte moved first, while the scan still goes on. */
  async *#worstFirst(
    target: Target,
    tables: TableScan,
    context: BatchContext,
  ): AsyncGenerator<DefragEvent, void, void> {
    const discovery = new Discovery<DefragEvent>({
      target,
      tables,
      planOptions: context.planOptions,
      tally: this.tally,
      count: (fragments) => this.#count(fragments),
      signal: this.#options.signal,
    });
    this.#discovery = discovery;
    discovery.start();
    try {
      for (;;) {
        // Before the queue is looked at: what ended meanwhile has filled it.
        const { ended } = discovery;
        yield* discovery.progress();
        yield* discovery.told();
        const found = this.#aborted ? [] : discovery.queue.popBatch(BATCH.bytes, BATCH.files);
        if (found.length > 0) yield* this.#moveFound(await this.#lookAgain(tables, found), context);
        else if (ended || this.#aborted) break;
        else await discovery.changed();
      }
      await (this.#aborted ? discovery.stop() : discovery.finish());
      yield* discovery.told();
      this.#count(discovery.queue.fragments);
      this.tally.leave('interrupted', discovery.queue.size);
    } catch (error) {
      // What was done is told of, whatever it ended with.
      await discovery.stop();
      yield* discovery.told();
      throw error;
    } finally {
      await discovery.stop();
      this.#bytesPlanned += discovery.bytesFound;
      this.#discovery = undefined;
    }
  }

  get #aborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  /** Asks the kernel about files again that were found some time ago. */
  async #lookAgain(tables: TableScan, found: readonly Worthwhile[]): Promise<FoundByNumber[]> {
    const items: FoundByNumber[] = [];
    for await (const item of tables.inspect(found)) items.push(item);
    // It ends early only when the run is stopped.
    this.tally.leave('interrupted', found.length - items.length);
    return items;
  }

  async *#moveFound(
    items: readonly FoundByNumber[],
    context: BatchContext,
  ): AsyncGenerator<DefragEvent, void, void> {
    const programs: Candidate[] = [];
    const others: Candidate[] = [];
    for (const { inode, item } of items) {
      if (item.kind === 'skip') yield* this.#tell(this.tally.skip(item.path, item.reason), inode);
      else if (item.kind === 'failed') yield* this.#tell(this.tally.fail(item.path, item.error), inode);
      else {
        const file = this.#discovery?.withName(item) ?? item;
        if (await this.#isExcludedNow(file)) yield* this.#tell(this.tally.skip(file.path, 'vanished'), inode);
        else (file.executable ? programs : others).push({ file });
      }
    }
    yield* this.#move(others, context);
    for (const program of programs) yield* this.#move([program], context);
  }

  /** With --exclude: a file that has got another name since it was judged by the one that it had. */
  async #isExcludedNow(file: ScannedFile): Promise<boolean> {
    const judged = (this.#options.exclude ?? []).length > 0 && this.#discovery?.knowsNames === true;
    return judged && !(await hasItsName(file));
  }

  /** Tells of a file at once, or when its name is known. */
  *#tell(event: DefragEvent, inode: number): Iterable<DefragEvent> {
    if (this.#discovery === undefined) yield event;
    else {
      this.#discovery.tell(event, inode);
      yield* this.#discovery.told();
    }
  }

  async *#move(
    candidates: readonly Candidate[],
    context: BatchContext,
  ): AsyncGenerator<DefragEvent, void, void> {
    let queue = candidates;
    while (queue.length > 0) {
      const again: Candidate[] = [];
      if (this.#options.signal?.aborted) {
        for (const candidate of queue) yield* this.#report(leftAlone({ candidate }, 'interrupted'), context);
        return;
      }
      for await (const outcome of moveBatch(queue, context)) {
        if (outcome.kind === 'again') again.push(outcome.candidate);
        else yield* this.#report(outcome, context);
      }
      queue = again;
      // The blocks that this round vacated can be allocated only when their freeing is committed.
      if (queue.length > 0) await context.barrier.commit();
    }
  }

  *#report(outcome: Exclude<Outcome, { kind: 'again' }>, context: BatchContext): Iterable<DefragEvent> {
    const asBytes = (count: number) => toBytes(blocks(count), context.filesystem.blockSize);
    if (outcome.kind === 'moving') {
      this.#sum.bytesMoved += asBytes(outcome.moved);
      yield this.#progress(outcome.path);
      return;
    }
    const { file } = outcome;
    if (outcome.kind === 'defragmented') {
      const { fragmentsBefore, fragmentsAfter, incomplete } = outcome;
      this.#sum.defragmented++;
      this.#count(fragmentsBefore, fragmentsAfter);
      const event: DefragEvent = {
        type: 'defragmented',
        ...named(file.path),
        inode: file.inode,
        fragmentsBefore,
        fragmentsAfter,
        bytesMoved: asBytes(outcome.moved),
        ...(incomplete && { incomplete }),
      };
      yield* this.#tell(event, file.inode);
      return;
    }
    const fragments = countFragments(file.extents);
    this.#count(fragments);
    const event =
      outcome.kind === 'skip'
        ? this.tally.skip(file.path, outcome.reason, fragments)
        : this.tally.fail(file.path, outcome.error);
    yield* this.#tell(event, file.inode);
  }

  #count(before: number, after = before): void {
    this.#sum.fragmentsBefore += before;
    this.#sum.fragmentsAfter += after;
  }

  #progress(path: Buffer): DefragEvent {
    return {
      type: 'progress',
      ...named(path),
      files: this.tally.files,
      bytesMoved: bytes(this.#sum.bytesMoved),
      bytesPlanned: this.#bytesPlanned + (this.#discovery?.bytesFound ?? 0),
      seconds: this.tally.seconds,
    };
  }

  summary(): DefragEvent {
    const { tally } = this;
    return {
      type: 'summary',
      command: 'defrag',
      files: tally.files,
      defragmented: this.#sum.defragmented,
      skipped: tally.skipped,
      failed: tally.failed,
      unsupported: tally.unsupported,
      fragmentsBefore: this.#sum.fragmentsBefore,
      fragmentsAfter: this.#sum.fragmentsAfter,
      bytesMoved: this.#sum.bytesMoved,
      interrupted: this.#options.signal?.aborted ?? false,
      seconds: tally.seconds,
    };
  }
}
