import { constants } from 'node:fs';
import { access, lstat, readlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode, SystemError } from '../kernel/errors.ts';
import { filesystemUuid } from '../kernel/handle.ts';
import type { Blocks } from '../layout/units.ts';
import { FreeMap } from '../place/freeMap.ts';
import { readMounts, UnsupportedTarget } from '../scan/filesystem.ts';
import { pathInFilesystem } from '../scan/mounts.ts';
import { deviceProfileFor, fragmentSizeFor, type CommonOptions } from '../scan/session.ts';
import { join, type Target } from '../scan/targets.ts';
import { replaceFile } from '../state/regularFile.ts';
import { Destinations } from './destinations.ts';
import {
  encodePlan,
  encodeStep,
  MOST_PLAN_BYTES,
  planFoundation,
  type Destination,
  totalsOf,
  type EncodedFilesystem,
  type PlanHead,
  type PlanKind,
  type PlanStep,
  type PlanTotals,
} from './planFile.ts';

const EFBIG = 27;
/** Kept free for what stands around the steps. */
const MARGIN = 1024 * 1024;
/** Between two saves of an undo file while a run goes on, in milliseconds: what a killed run cannot undo. */
const SAVE_EVERY = 30_000;

/** What stands where a plan file was to be, and stays. In the shape of a system error. */
class NotReplaceable extends Error {
  override readonly name = 'NotReplaceable';
  readonly code = 'EEXIST';
  readonly errno = -17;
}

/** A step, encoded, and what it adds to the totals. */
interface RecordedStep extends Omit<PlanTotals, 'files'> {
  readonly text: string;
}

/** What is recorded of one filesystem. */
interface Section extends PlanHead {
  /** By inode. */
  readonly steps: Map<number, RecordedStep>;
  /** For plans: an undo file has its destinations already. */
  readonly free: Destinations | undefined;
}

/** Collects the steps of a plan file while a run goes on, and writes it. */
export class PlanRecorder {
  readonly path: string;
  readonly #kind: PlanKind;
  readonly #options: CommonOptions;
  /** By UUID. */
  readonly #sections = new Map<string, Section>();
  /** The one that is worked on, and where below its root the target's directory is. */
  #section: Section | undefined;
  #folder: Buffer = Buffer.alloc(0);
  #bytes = 0;
  #omitted = 0;
  /** Whether the file has all that it is to have, and whether there is one. */
  #changed = false;
  #written = false;
  #saved = performance.now();

  private constructor(path: string, kind: PlanKind, options: CommonOptions) {
    this.path = path;
    this.#kind = kind;
    this.#options = options;
  }

  /**
   * Makes sure that a file can be written there, before a long run.
   *
   * @throws a system error; EEXIST for what is no regular file, and for any file where `kind` is undo: it may be the
   *   only way back
   */
  static async open(path: string, kind: PlanKind, options: CommonOptions): Promise<PlanRecorder> {
    const there = await lstat(path).catch((error: unknown) => {
      if (errorCode(error) === 'ENOENT') return undefined;
      throw error;
    });
    if (there?.isFile() === false) {
      throw new NotReplaceable('it is no regular file, and stays as it is: give another name for the plan');
    }
    if (there !== undefined && kind === 'undo') {
      throw new NotReplaceable('it is there already, and an undo file is not replaced: give another name');
    }
    await access(dirname(path), constants.W_OK | constants.X_OK);
    return new PlanRecorder(path, kind, options);
  }

  /**
   * What follows is of this target.
   *
   * @throws UnsupportedTarget when its filesystem cannot be told from others
   */
  async begin(target: Target): Promise<void> {
    const { filesystem, dirFd } = target;
    const uuid = await filesystemUuid(dirFd);
    const path = await readlink(`/proc/self/fd/${dirFd}`, 'buffer');
    const folder = pathInFilesystem(await readMounts(), filesystem.id, path);
    if (uuid === undefined || folder === undefined) {
      throw new UnsupportedTarget(
        uuid === undefined
          ? 'the kernel does not tell its UUID (that takes Linux 6.0), which a plan file needs: leave -o out'
          : 'no mount that it is on is visible here, so that a plan file cannot name its files: leave -o out',
      );
    }
    this.#folder = folder;
    this.#section = this.#sections.get(uuid);
    if (this.#section !== undefined) return;
    const free = this.#kind === 'plan' ? await FreeMap.read(dirFd, filesystem.blockSize) : undefined;
    this.#section = {
      uuid,
      device: filesystem.device,
      mountPoint: filesystem.mountPoint.toString(),
      blockSize: filesystem.blockSize,
      fragmentSize: fragmentSizeFor(target, this.#options),
      deviceProfile: deviceProfileFor(target, this.#options),
      steps: new Map(),
      free: free && new Destinations(free.runs()),
    };
    this.#sections.set(uuid, this.#section);
  }

  /**
   * Free blocks that no other range has been given, where there are so many in one run.
   *
   * @param align as in {@link Destinations.take}
   */
  destination(count: Blocks, align: number): Destination | undefined {
    return this.#section?.free?.take(count, align);
  }

  /** Records a step, instead of the one that there may be for its file. @param path below the root of the filesystem */
  add(path: Buffer, step: Omit<PlanStep, 'path'>): void {
    const text = encodeStep({ path, ...step });
    const size = Buffer.byteLength(text);
    this.drop(step.inode);
    if (this.#bytes + size > MOST_PLAN_BYTES - MARGIN) {
      this.#omitted++;
      return;
    }
    const { bytesToMove, fragmentsBefore, fragmentsAfter, savedSeconds } = step;
    this.#bytes += size;
    this.#changed = true;
    this.#steps.set(step.inode, { text, bytesToMove, fragmentsBefore, fragmentsAfter, savedSeconds });
  }

  /** Takes the step of a file out again, if there is one. */
  drop(inode: number): void {
    const step = this.#steps.get(inode);
    if (step === undefined) return;
    this.#bytes -= Buffer.byteLength(step.text);
    this.#changed = true;
    this.#steps.delete(inode);
  }

  get #steps(): Section['steps'] {
    if (this.#section === undefined) throw new Error('a step of no target');
    return this.#section.steps;
  }

  /** The path below the root of the filesystem of what a target's directory has. */
  pathOf(relative: Buffer): Buffer {
    return join(this.#folder, relative);
  }

  /** Whether there is a target that the plan is for. */
  get begun(): boolean {
    return this.#sections.size > 0;
  }

  /** Whether the file has been written, if not with all that it is to have. */
  get saved(): boolean {
    return this.#written;
  }

  /**
   * Puts the file in its place, in one step.
   *
   * @throws a system error; EFBIG when there were more steps than a plan file can have: the first are written
   */
  async save(): Promise<void> {
    this.#saved = performance.now();
    const { full = false, fragmentSize = null, exclude = [], minSize = null, maxSize = null } = this.#options;
    const options = { full, fragmentSize, exclude, minSize, maxSize };
    this.#changed = false;
    const sections = [...this.#sections.values()].map(encoded);
    try {
      await replaceFile(this.path, encodePlan(planFoundation(this.#kind, options), sections));
    } catch (error) {
      this.#changed = true;
      throw error;
    }
    this.#written = true;
    if (this.#omitted > 0) throw new SystemError(EFBIG, 'write', this.path);
  }

  /** Saves if there is anything that the file does not have. */
  async saveChanges(): Promise<void> {
    if (this.#changed) await this.save();
  }

  /** Whether it was saved last long ago. */
  get isDue(): boolean {
    return performance.now() - this.#saved >= SAVE_EVERY;
  }
}

function encoded({ steps, ...head }: Section): EncodedFilesystem {
  return { ...head, totals: totalsOf(steps.values()), steps: Array.from(steps.values(), ({ text }) => text) };
}
