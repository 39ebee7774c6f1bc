import type { ExtentTable } from '../layout/extents.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { countFragments } from '../layout/fragments.ts';
import { readSeconds, type DeviceProfile } from '../layout/readCost.ts';
import { blocks, toBlocks, toBytes, type Bytes } from '../layout/units.ts';
import { undoRanges } from '../plan/follow.ts';
import { clip } from '../plan/plan.ts';
import { PlanRecorder } from '../plan/planRecorder.ts';
import { nameless } from '../scan/scan.ts';
import type { CommonOptions } from '../scan/session.ts';
import type { Target } from '../scan/targets.ts';
import type { FileId } from '../state/history.ts';
import type { Layouts } from './candidate.ts';

/** A file that was moved. */
interface Moved {
  readonly generation: number;
  /** Below the root of its filesystem. */
  path: Buffer;
  /** Where it lay before the run. */
  readonly before: ExtentTable;
  /** Since it was last recorded. */
  latest: Pick<Layouts, 'after' | 'size'> | undefined;
}

/**
 * Records what puts back every file that a run has moved, also those that only went out of the way of others: where each
 * lay before it was moved for the first time, and where it lies after the last.
 */
export class UndoLog {
  readonly #recorder: PlanRecorder;
  /** By inode, of each filesystem. */
  readonly #filesystems = new Map<string, Map<number, Moved>>();
  #moved = new Map<number, Moved>();
  #blockSize = 0 as Bytes;
  #device: DeviceProfile | undefined;

  private constructor(recorder: PlanRecorder) {
    this.#recorder = recorder;
  }

  /** @throws as {@link PlanRecorder.open} */
  static async open(path: string, options: CommonOptions): Promise<UndoLog> {
    return new UndoLog(await PlanRecorder.open(path, 'undo', options));
  }

  /**
   * What follows is of this target.
   *
   * @throws UnsupportedTarget when its filesystem cannot be told from others
   */
  async begin(target: Target, device: DeviceProfile): Promise<void> {
    this.#flush();
    await this.#recorder.begin(target);
    const { id, blockSize } = target.filesystem;
    this.#moved = this.#filesystems.get(id) ?? new Map<number, Moved>();
    this.#filesystems.set(id, this.#moved);
    this.#blockSize = blockSize;
    this.#device = device;
  }

  /** @param relative the file's path below the target's directory, where it is known */
  moved({ inode, generation }: FileId, relative: Buffer | undefined, { before, ...latest }: Layouts): void {
    const path = this.#recorder.pathOf(relative ?? nameless(inode));
    const known = this.#moved.get(inode);
    // Another file may have got the number.
    if (known?.generation !== generation) this.#moved.set(inode, { generation, path, before, latest });
    else {
      known.latest = latest;
      if (relative !== undefined) known.path = path;
    }
  }

  get saved(): boolean {
    return this.#recorder.saved;
  }

  /** Saves if there is anything that the file does not have. @throws as {@link PlanRecorder.save} */
  async saveChanges(): Promise<void> {
    this.#flush();
    await this.#recorder.saveChanges();
  }

  /** The same if the last time was long ago. */
  async saveNowAndThen(): Promise<void> {
    if (this.#recorder.isDue) await this.saveChanges();
  }

  #flush(): void {
    for (const [inode, moved] of this.#moved) {
      if (moved.latest !== undefined) this.#record(inode, moved, moved.latest);
      moved.latest = undefined;
    }
  }

  #record(
    inode: number,
    { generation, path, before }: Moved,
    { after, size }: Pick<Layouts, 'after' | 'size'>,
  ): void {
    const blockSize = this.#blockSize;
    // What is preallocated behind the end cannot be exchanged, and was not.
    const end = toBlocks(size, blockSize);
    const [was, is] = [clip(before, end), clip(after, end)];
    const ranges = undoRanges(was, is);
    if (ranges.length === 0) {
      this.#recorder.drop(inode);
      return;
    }
    const [fragmentsBefore, fragmentsAfter] = [countFragments(is), countFragments(was)];
    const seconds = (fragments: number) =>
      readSeconds(toBytes(is.blocks, blockSize), fragments, this.#device!);
    this.#recorder.add(path, {
      inode,
      generation,
      size,
      fingerprint: fingerprint(after),
      bytesToMove: toBytes(blocks(ranges.reduce((sum, { length }) => sum + length, 0)), blockSize),
      fragmentsBefore,
      fragmentsAfter,
      savedSeconds: seconds(fragmentsBefore) - seconds(fragmentsAfter),
      ranges: ranges.map(({ logical, physical, length }) => ({
        offset: toBytes(logical, blockSize),
        length: toBytes(length, blockSize),
        fragments: 1,
        destination: { start: physical, length },
      })),
    });
  }
}
