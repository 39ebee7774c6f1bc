import { isAbsolute, join } from 'node:path';
import { errorCode } from '../kernel/errors.ts';
import { ForeignFile, readStateFile, writeStateFile } from './file.ts';
import { MOST_DONE, packDone, packFiles, unpackDone, unpackFiles, type Remembered } from './format.ts';
import { History, type FileId } from './history.ts';

/** What was left of a cycle begun longer ago, in milliseconds, is begun anew. */
const LONGEST_CYCLE = 30 * 24 * 3600 * 1000;

/**
 * What one run on a filesystem leaves for the next: the files that it has dealt with, when it did not come to its end,
 * and what became of the files that were moved. Runs that go on where the last one stopped are a cycle.
 */
export class RunState {
  readonly history: History;
  /** The last run was ended before its end, and this one goes on with its cycle. */
  readonly continues: boolean;
  /** One line that says why a file that is there is not used. */
  readonly ignored: string | undefined;
  readonly #path: string;
  readonly #uuid: string;
  #started: number;
  /** The generation of each inode that earlier runs of the cycle have dealt with. */
  readonly #earlier: ReadonlyMap<number, number>;
  /** The same with this run's. */
  readonly #done: Map<number, number>;
  #saving = Promise.resolve();

  private constructor(path: string, uuid: string, now: number, found: Map<string, Remembered> | string) {
    const { cycle, files = [] } = (typeof found === 'string' ? undefined : found.get(uuid)) ?? {};
    this.#path = path;
    this.#uuid = uuid;
    this.ignored =
      typeof found === 'string' ? `what earlier runs left in ${JSON.stringify(path)} ${found}` : undefined;
    this.history = new History(unpackFiles(files, now));
    // A cycle begun in what is the future by now is begun now, or it would not grow old.
    const started = Math.min(cycle?.started ?? now, now);
    this.continues = cycle !== undefined && now - started < LONGEST_CYCLE;
    this.#started = this.continues ? started : now;
    this.#earlier = unpackDone(this.continues && cycle !== undefined ? cycle.done : []);
    this.#done = new Map(this.#earlier);
  }

  /**
   * Reads what earlier runs on a filesystem left. A file that cannot be read or says anything odd is as good as none.
   *
   * @param now milliseconds since 1970
   */
  static async open(path: string, uuid: string, now: number): Promise<RunState> {
    const found = await readStateFile(path).catch((error: unknown) =>
      error instanceof ForeignFile ? 'is none' : `cannot be read (${errorCode(error) ?? 'unknown error'})`,
    );
    return new RunState(path, uuid, Math.round(now), found);
  }

  /** Whether an earlier run of this cycle has dealt with a file; this run's own files may come up again. */
  isDone({ inode, generation }: FileId): boolean {
    return this.#earlier.get(inode) === generation;
  }

  /** Notes for the next run that a file has been dealt with. It is tried again where there are too many. */
  done({ inode, generation }: FileId): void {
    if (this.#done.size < MOST_DONE || this.#done.has(inode)) this.#done.set(inode, generation);
  }

  /**
   * Replaces the file by one that says how things are now. What it says of other filesystems stays.
   *
   * @param finished the cycle has come to its end
   * @param now milliseconds since 1970
   * @throws a system error; the old file is there still. A file that cannot be read is not replaced.
   */
  async save(finished: boolean, now: number): Promise<void> {
    const saving = this.#saving.then(() => this.#save(finished, now));
    // The next save waits for this one, whatever becomes of it.
    this.#saving = saving.catch(() => undefined);
    return saving;
  }

  async #save(finished: boolean, now: number): Promise<void> {
    const found = await readStateFile(this.#path);
    const filesystems = typeof found === 'string' ? new Map<string, Remembered>() : found;
    if (finished) {
      this.#done.clear();
      this.#started = Math.round(now);
    }
    const cycle = { started: this.#started, done: packDone(this.#done) };
    // Last, so that it is not what is left out when the file gets too large.
    filesystems.delete(this.#uuid);
    filesystems.set(this.#uuid, { ...(!finished && { cycle }), files: packFiles(this.history) });
    await writeStateFile(this.#path, filesystems);
  }
}

/**
 * Where the state of a filesystem is kept unless one says otherwise: where systemd wants a service's to be
 * (systemd.exec(5), StateDirectory=), below /var/lib for root, else where the XDG Base Directory Specification has it.
 *
 * @returns undefined where there is no such place
 */
export function defaultStatePath(
  uuid: string,
  env: NodeJS.ProcessEnv = process.env,
  uid = process.getuid?.(),
): string | undefined {
  // It may be a list.
  const [service] = (env.STATE_DIRECTORY ?? '').split(':');
  const folder = isAbsolute(service) ? service : uid === 0 ? '/var/lib/ext4-defrag' : folderOfUser(env);
  return folder === undefined ? undefined : join(folder, `${uuid}.json`);
}

function folderOfUser({
  XDG_STATE_HOME: state = '',
  HOME: home = '',
}: NodeJS.ProcessEnv): string | undefined {
  if (isAbsolute(state)) return join(state, 'ext4-defrag');
  return isAbsolute(home) ? join(home, '.local', 'state', 'ext4-defrag') : undefined;
}
