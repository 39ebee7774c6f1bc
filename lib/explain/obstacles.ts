import { refusal } from '../ext4/safety.ts';
import type { ExplainedMove, Obstacle } from '../report/events.ts';
import { formatSize } from '../report/format.ts';
import { REASONS, type Reason } from '../scan/reasons.ts';
import type { Filesystem } from '../scan/filesystem.ts';
import type { Holder } from './holders.ts';

/** What a run does not move files on, as far as it can be told without trying. */
export function filesystemObstacles(filesystem: Filesystem): Obstacle[] {
  const fastCommit = filesystem.features === undefined ? false : undefined;
  const message = refusal({ ...filesystem, fastCommit }, { allowFastCommit: false, allowNoJournal: false });
  if (message === undefined) return [];
  return [{ prevents: true, message: `the filesystem: ${message}` }];
}

export const fileObstacle = (reason: Reason): Obstacle => ({
  prevents: true,
  reason,
  message: REASONS[reason],
});

/** One for all processes that use a file in the same way. */
export function holderObstacles(holders: readonly Holder[]): Obstacle[] {
  const running = holders.filter(({ how }) => how === 'executes');
  const using = holders.filter(({ how }) => how !== 'executes');
  return [
    ...(running.length > 0
      ? [
          {
            prevents: true,
            reason: 'running' as const,
            message: `it is being executed by ${who(running)}: move it when they have ended`,
          },
        ]
      : []),
    ...(using.length > 0
      ? [
          {
            prevents: false,
            message:
              `it is in use by ${who(using)}: it is moved all the same, in small chunks with a commit after each; ` +
              'with --exclusive it is left alone',
          },
        ]
      : []),
  ];
}

/** Names enough of them to know what they are. */
const MOST_NAMED = 5;

function who(holders: readonly Holder[]): string {
  const named = holders.slice(0, MOST_NAMED).map(({ pid, name }) => `${name} (process ${pid})`);
  const others = holders.length - named.length;
  return named.join(', ') + (others > 0 ? ` and ${others} more` : '');
}

/** @param fragmentsBefore in what is to be moved */
export function spaceObstacles(
  { bytesToMove, spendable, pieces, largestRun }: ExplainedMove,
  fragmentsBefore: number,
): Obstacle[] {
  if (pieces === null) {
    const message =
      `${formatSize(bytesToMove)} are to be moved, and ${formatSize(spendable)} may be used beside the reserve: ` +
      'it would be moved in parts, as far as that goes; free some space, or lower --reserve';
    return [{ prevents: spendable === 0, reason: 'no-space', message }];
  }
  if (pieces < fragmentsBefore) return [];
  const message =
    `free space is in pieces, the longest of ${formatSize(largestRun)}: as it is it would not become better; ` +
    'defrag makes room where it can, space shows what is free';
  return [{ prevents: false, reason: 'no-better-place', message }];
}
