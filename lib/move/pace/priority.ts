import { readdir } from 'node:fs/promises';
import { getPriority, setPriority } from 'node:os';
import { isSystemFailure } from '../../kernel/errors.ts';
import { getIoPriority, IO_CLASS, setIoPriority, type IoPriority } from '../../kernel/priority.ts';

/** How a run competes with others: as it was started, behind them, or only when nobody else wants the device. */
export type Priority = 'normal' | 'low' | 'idle';

interface Level {
  readonly nice: number;
  readonly io: IoPriority;
}

/**
 * Not nice 19: a thread that holds the journal or a file's locks and gets no processor keeps others waiting for
 * those, whatever their own priority is.
 */
const LEVELS: Readonly<Record<Exclude<Priority, 'normal'>, Level>> = {
  low: { nice: 5, io: { class: IO_CLASS.BEST_EFFORT, level: 7 } },
  idle: { nice: 10, io: { class: IO_CLASS.IDLE, level: 0 } },
};

/**
 * Gives every thread of this process a lower priority. Linux has one for each thread, and those that make our system
 * calls may be running already.
 *
 * @returns what gives the threads back what they had, as far as that is permitted
 */
export async function lowerPriority(priority: Priority): Promise<() => Promise<void>> {
  if (priority === 'normal') return () => Promise.resolve();
  const { nice, io } = LEVELS[priority];
  const before = new Map<number, Level>();
  for (const thread of await threads()) {
    await ifItLives(async () => {
      const was = { nice: getPriority(thread), io: await getIoPriority(thread) };
      if (was.nice < nice) setPriority(thread, nice);
      await setIoPriority(thread, io);
      before.set(thread, was);
    });
  }
  return async () => {
    for (const [thread, was] of before) {
      await ifItLives(async () => {
        await setIoPriority(thread, was.io);
        // Becoming less nice again takes a privilege.
        setPriority(thread, was.nice);
      });
    }
  };
}

async function threads(): Promise<number[]> {
  return (await readdir('/proc/self/task')).map(Number);
}

/** A thread may have ended since it was listed, and some of this may be forbidden: that is no reason not to work. */
async function ifItLives(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
  }
}
