import { fork } from 'node:child_process';
import { once } from 'node:events';
import { statfsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Moved } from './mover.ts';

/** `npm run torture`, not the share of it that belongs to `npm test`. */
export const LONG = process.env.EXT4_DEFRAG_TORTURE === 'long';

/** Of each kind of torture. Time for what comes before and after is extra. */
export const SECONDS = Number(process.env.EXT4_DEFRAG_TORTURE_SECONDS ?? (LONG ? 600 : 60));

/** Milliseconds: how long a test may take that tortures for so many seconds. */
export const timeout = (seconds: number): number => (seconds * 2 + 240) * 1000;

/** Whatever is random begins with it; the same seed does not make the same races. */
export const SEED = Number(process.env.EXT4_DEFRAG_TORTURE_SEED ?? Date.now() % 1_000_000);

const ROOM = { folder: '/dev/shm', bytes: 6 * 2 ** 30 };

/** Images lie in memory where there is enough of it: more can happen there in the same time. */
export function imagesInMemory(): void {
  const { bavail, bsize } = statfsSync(ROOM.folder);
  if (bavail * bsize >= ROOM.bytes) process.env.TMPDIR = ROOM.folder;
}

const MOVER = fileURLToPath(new URL('mover.ts', import.meta.url));

/**
 * Has a filesystem defragmented again and again while something else is done.
 *
 * @param folder whose files are fragmented before each time
 */
export async function whileMoving<T>(
  mountPoint: string,
  folder: string | undefined,
  work: () => Promise<T>,
): Promise<{ result: T; moved: Moved }> {
  const mover = fork(MOVER, [mountPoint, String(SEED), ...(folder === undefined ? [] : [folder])], {
    execArgv: ['--import', 'tsx'],
  });
  const answer = async <A>() => ((await Promise.race([once(mover, 'message'), ended])) as [A])[0];
  const ended = once(mover, 'exit').then(([code, signal]) => {
    throw new Error(`the mover ended with ${code ?? signal}`);
  });
  // It is awaited below, unless something else goes wrong before.
  ended.catch(() => undefined);
  try {
    await answer<'at work'>();
    const result = await Promise.race([work(), ended]);
    mover.kill('SIGTERM');
    return { result, moved: await answer<Moved>() };
  } finally {
    if (mover.exitCode === null && mover.signalCode === null) {
      mover.kill('SIGTERM');
      await ended.catch(() => undefined);
    }
  }
}

const MiB = 2 ** 20;

/** For a person to read. */
export const describeMoved = ({ runs, defragmented, bytesMoved, bytesEvacuated, skipped }: Moved): string =>
  `${runs} runs defragmented files ${defragmented} times (${Math.round(bytesMoved / MiB)} MiB, ` +
  `${Math.round(bytesEvacuated / MiB)} MiB went out of the way); left alone: ${JSON.stringify(skipped)}`;
