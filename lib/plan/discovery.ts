import { isSystemFailure } from '../kernel/errors.ts';
import { countFragments } from '../layout/fragments.ts';
import { toBytes } from '../layout/units.ts';
import { named, type FailedEvent, type ScanningEvent, type SkipEvent } from '../report/events.ts';
import type { InodeSet } from '../scan/inodeSet.ts';
import type { Reason } from '../scan/reasons.ts';
import type { ScannedFile } from '../scan/scan.ts';
import type { Tally } from '../scan/session.ts';
import type { FileNames, TableScan } from '../scan/tableScan.ts';
import type { Target } from '../scan/targets.ts';
import type { PlanOptions } from './plan.ts';
import { planScanned } from './planScanned.ts';
import { WorstFirst, type BatchLimits } from './worstFirst.ts';

/** Reasons that say that nothing has to be done: such files are counted and not named. */
const NOTHING_TO_DO: ReadonlySet<Reason> = new Set<Reason>([
  'already-contiguous',
  'large-fragments',
  'one-block',
  'no-blocks',
  'done-earlier',
]);

/** An event about a file whose name may not be known yet. */
interface Unnamed<E> {
  readonly event: E;
  readonly inode: number;
}

export interface DiscoveryContext {
  readonly target: Target;
  readonly tables: TableScan;
  readonly planOptions: PlanOptions;
  /** What is worked on at once. */
  readonly batch: BatchLimits;
  readonly tally: Tally;
  readonly signal: AbortSignal | undefined;
  /** Is told of every file's fragments that does not go into the queue. */
  readonly count: (fragments: number) => void;
  /** Files that have been dealt with already. */
  readonly arranged?: ReadonlySet<number>;
  /** Why a file that is worth moving stays all the same. */
  readonly refuses?: (file: { inode: number; generation: number; fragments: number }) => Reason | undefined;
}

/**
 * Finds what is worth moving on a whole filesystem, while the first finds are being worked on already. The names of
 * files are known only when everything is found, so what is to be told of a file may have to wait.
 */
export class Discovery<E extends object> {
  readonly queue: WorstFirst;
  readonly #context: DiscoveryContext;
  /** Files that may have to be named. */
  readonly #known: InodeSet;
  #bytesFound = 0;
  #waiting: Unnamed<E | SkipEvent | FailedEvent>[] = [];
  #names: FileNames | undefined;
  #scanning: ScanningEvent | undefined;
  #fragmentedFiles = 0;
  #running: Promise<void> | undefined;
  readonly #stopping = new AbortController();
  #ended = false;
  #complete = false;
  #failure: unknown;
  #wake: () => void = () => undefined;

  constructor(context: DiscoveryContext) {
    this.#context = context;
    this.queue = new WorstFirst(context.batch);
    this.#known = context.tables.inodeSet();
  }

  /** Begins; nothing is thrown before {@link finish}. */
  start(): void {
    this.#running = this.#run()
      .catch((error: unknown) => {
        this.#failure = error;
      })
      .finally(() => {
        this.#ended = true;
        this.#wake();
      });
  }

  /** Bytes that the plans of all files found so far move. */
  get bytesFound(): number {
    return this.#bytesFound;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Whether everything was found. */
  get complete(): boolean {
    return this.#complete;
  }

  /** How far it is, once for each step. */
  *progress(): Iterable<ScanningEvent> {
    if (this.#scanning !== undefined) yield this.#scanning;
    this.#scanning = undefined;
  }

  /** Waits until something was found, or everything. */
  async changed(): Promise<void> {
    if (this.#ended) return;
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  /** Waits for the end. @throws what ended it early */
  async finish(): Promise<void> {
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  /** Ends it early, and waits for that. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  pathOf(inode: number): Buffer | undefined {
    return this.#names?.pathOf(this.#context.target, inode);
  }

  /** A file as it is known by now: with its name, below the filesystem's root, and the directory that it is in. */
  withName(file: ScannedFile): ScannedFile {
    const names = this.#names;
    if (names === undefined || file.handle === undefined) return file;
    const { target } = this.#context;
    const relative = names.relativePath(file.inode);
    const handle = { ...file.handle, parent: names.parentOf(file.inode) };
    return { ...file, relative, path: names.pathOf(target, file.inode), handle };
  }

  get knowsNames(): boolean {
    return this.#names !== undefined;
  }

  /** Tells of a file as soon as its name is known. */
  tell(event: E | SkipEvent | FailedEvent, inode: number): void {
    this.#waiting.push({ event, inode });
  }

  /** What can be told by now. */
  *told(): Iterable<E | SkipEvent | FailedEvent> {
    if (this.#names === undefined && !this.#ended) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { event, inode } of waiting) {
      const path = this.pathOf(inode);
      yield path === undefined ? event : { ...event, ...named(path) };
    }
  }

  async #run(): Promise<void> {
    const { tables, tally } = this.#context;
    const signal = AbortSignal.any([
      this.#stopping.signal,
      ...(this.#context.signal ? [this.#context.signal] : []),
    ]);
    for await (const { contiguous, confirmed, failed, done, total } of tables.batches(signal)) {
      if (this.#stopping.signal.aborted) return;
      tally.files += contiguous.count + confirmed.length;
      const { arranged } = this.#context;
      let [oneBlock, others] = [0, 0];
      for (let row = 0; row < contiguous.count; row++) {
        if (arranged?.has(contiguous.inode[row])) continue;
        if (contiguous.blocks[row] === 1) oneBlock++;
        else others++;
      }
      tally.leave('one-block', oneBlock);
      tally.leave('already-contiguous', others);
      this.#context.count(oneBlock + others);
      for (const file of confirmed) this.#weigh(file);
      for (const { path, error, inode } of failed) this.#tellLater(tally.fail(path, error), inode);
      this.#scanning = {
        type: 'scanning',
        inodes: done,
        inodesTotal: total,
        files: tally.files,
        fragmentedFiles: this.#fragmentedFiles,
        seconds: tally.seconds,
      };
      this.#wake();
    }
    // It ends quietly when it is stopped.
    this.#complete = !signal.aborted;
    for (const [reason, count] of tables.skipped()) tally.leave(reason, count);
    try {
      this.#names = await tables.names((inode) => this.#known.has(inode), signal);
    } catch (error) {
      // Without them files are called by their numbers.
      if (!isSystemFailure(error)) throw error;
    }
    this.queue.group((inode) => this.#names?.parentOf(inode));
  }

  #weigh(file: ScannedFile): void {
    const { target, planOptions, tally, count, refuses } = this.#context;
    if (this.#context.arranged?.has(file.inode)) return;
    const fragments = countFragments(file.extents);
    const generation = file.handle?.generation ?? 0;
    const worthwhile = planScanned(file, planOptions);
    const refused =
      typeof worthwhile === 'string' ? undefined : refuses?.({ inode: file.inode, generation, fragments });
    const plan = refused ?? worthwhile;
    if (fragments > 1) this.#fragmentedFiles++;
    if (typeof plan !== 'string') {
      const bytes = toBytes(plan.blocks, target.filesystem.blockSize);
      this.#bytesFound += bytes;
      this.#known.add(file.inode);
      const saved = plan.fragmentsBefore - plan.fragmentsAfter;
      this.queue.push({ inode: file.inode, generation, bytes, fragments, saved });
      return;
    }
    count(fragments);
    if (NOTHING_TO_DO.has(plan)) tally.leave(plan, 1);
    else this.#tellLater(tally.skip(file.path, plan, fragments), file.inode);
  }

  #tellLater(event: SkipEvent | FailedEvent, inode: number): void {
    this.#known.add(inode);
    this.tell(event, inode);
  }
}
