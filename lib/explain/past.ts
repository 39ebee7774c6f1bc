import { filesystemUuid } from '../kernel/handle.ts';
import type { FileHistory, Obstacle } from '../report/events.ts';
import { REASONS } from '../scan/reasons.ts';
import { generationOf, type ScannedFile } from '../scan/scan.ts';
import type { History } from '../state/history.ts';
import { defaultStatePath, RunState } from '../state/runState.ts';

/** What earlier runs know of a file. */
export interface Past {
  readonly history: FileHistory;
  /** A run would leave the file alone for it. */
  readonly obstacles: readonly Obstacle[];
}

/**
 * What earlier runs left about the filesystem that `fd` is on. It is only read.
 *
 * @param state as in {@link DefragmentOptions}
 * @returns undefined where there is no such file to be expected
 */
export async function openState(fd: number, state: string | true | undefined): Promise<RunState | undefined> {
  const uuid = state === undefined ? undefined : await filesystemUuid(fd);
  if (uuid === undefined) return undefined;
  const path = state === true ? defaultStatePath(uuid) : state;
  return path === undefined ? undefined : RunState.open(path, uuid, Date.now());
}

/** @returns undefined for a file that they did not move, as far as they remember */
export async function pastOf(
  file: ScannedFile,
  fragments: number,
  history: History,
): Promise<Past | undefined> {
  const generation = await generationOf(file);
  if (generation === undefined) return undefined;
  const id = { inode: file.inode, generation };
  const record = history.find(id);
  if (record === undefined) return undefined;
  const { fruitless, perDay, leaveAlone } = history.judge({ ...id, fragments }, Date.now());
  return {
    history: {
      movedAt: new Date(record.at).toISOString(),
      fragmentsBefore: record.before,
      fragmentsAfter: record.after,
      ...(perDay !== undefined && { fragmentsPerDay: perDay }),
      fruitless,
    },
    obstacles: leaveAlone
      ? [{ prevents: true, reason: 'fragments-again', message: REASONS['fragments-again'] }]
      : [],
  };
}
