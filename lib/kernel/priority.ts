import { check } from './errors.ts';
import { native } from './native.ts';

/** Classes of linux/ioprio.h. */
export const IO_CLASS = { NONE: 0, REALTIME: 1, BEST_EFFORT: 2, IDLE: 3 } as const;
const CLASS_SHIFT = 13;

/** A thread's I/O scheduling class, and its level within it: 0 comes first, 7 last. */
export interface IoPriority {
  readonly class: number;
  readonly level: number;
}

/**
 * ioprio_set(2) for one thread. Only some I/O schedulers look at it (mq-deadline, BFQ).
 *
 * @throws SystemError ESRCH when the thread has ended, EPERM
 */
export async function setIoPriority(thread: number, { class: ioClass, level }: IoPriority): Promise<void> {
  check(await native().setIoPriority(thread, (ioClass << CLASS_SHIFT) | level), 'ioprio_set');
}

/** ioprio_get(2) for one thread. */
export async function getIoPriority(thread: number): Promise<IoPriority> {
  const priority = check<number>(await native().getIoPriority(thread), 'ioprio_get');
  return { class: priority >> CLASS_SHIFT, level: priority & 7 };
}
