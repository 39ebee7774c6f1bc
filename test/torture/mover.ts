// A process that defragments a filesystem again and again, each time in another way:
// mover.ts MOUNTPOINT SEED [FOLDER]. Before each time it fragments some files below FOLDER. It says when it begins, and
// what it did when it is told to stop.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { consolidate, defragment, type Event } from '../../lib/index.ts';
import type { DefragmentOptions } from '../../lib/index.ts';
import { AT_FDCWD, closeFd, O, openAt, statFd } from '../../lib/kernel/handle.ts';
import { errorCode } from '../../lib/kernel/errors.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { fragmentFile } from '../../lib/move/fragment.ts';
import { between, oneOf, randomFrom } from '../support/random.ts';

/** What a mover has done. */
export interface Moved {
  readonly runs: number;
  readonly defragmented: number;
  readonly bytesMoved: number;
  readonly bytesEvacuated: number;
  /** Files that could not be moved, by reason. */
  readonly skipped: Readonly<Record<string, number>>;
  /** What should not happen. */
  readonly failures: readonly string[];
}

const [mountPoint, seed, folder] = process.argv.slice(2);
const below = randomFrom(Number(seed));
const controller = new AbortController();
const sum = {
  runs: 0,
  defragmented: 0,
  bytesMoved: 0,
  bytesEvacuated: 0,
  skipped: {} as Record<string, number>,
  failures: [] as string[],
};

/** Nothing of a directory that is gone by now. */
function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? filesIn(path) : entry.isFile() ? [path] : [];
    });
  } catch (error) {
    if (!HARMLESS.has(errorCode(error) ?? '')) throw error;
    return [];
  }
}

/** What others do to a file meanwhile: it may be shorter, protected, or gone. */
const HARMLESS = new Set(['EINVAL', 'EBUSY', 'ENOENT', 'ETXTBSY', 'EPERM', 'ENOSPC']);

/** At once. */
const FRAGMENTED = 6;

async function fragmentSome(directory: string): Promise<void> {
  const dirFd = await openAt(AT_FDCWD, Buffer.from(directory), O.RDONLY | O.DIRECTORY);
  try {
    const blockSize = bytes(Number((await statFd(dirFd)).blksize));
    const files = filesIn(directory);
    for (let i = 0; i < Math.min(FRAGMENTED, files.length); i++) {
      const path = oneOf(below, files);
      if (controller.signal.aborted) return;
      try {
        const fd = await openAt(AT_FDCWD, Buffer.from(path), O.RDWR);
        try {
          await fragmentFile(fd, dirFd, blockSize, () => blocks(between(below, 1, 64)));
        } finally {
          await closeFd(fd);
        }
      } catch (error) {
        if (!HARMLESS.has(errorCode(error) ?? '')) throw error;
      }
    }
  } finally {
    await closeFd(dirFd);
  }
}

function note(event: Event): void {
  if (event.type === 'failed' && event.code !== 'ENOENT') {
    sum.failures.push(`${event.path}: ${event.code} ${event.message}`);
  }
  if (event.type === 'unsupported') sum.failures.push(`${event.path}: ${event.message}`);
  if (event.type !== 'summary') return;
  sum.runs++;
  if (event.command === 'defrag') {
    sum.defragmented += event.defragmented;
    sum.bytesMoved += event.bytesMoved;
    for (const [reason, count] of Object.entries(event.skipped)) {
      sum.skipped[reason] = (sum.skipped[reason] ?? 0) + count;
    }
  }
  if (event.command === 'defrag' || event.command === 'consolidate') {
    sum.bytesEvacuated += event.bytesEvacuated;
  }
}

/** A whole filesystem is read from its inode tables, directories are walked. */
const WAYS: readonly DefragmentOptions[] = [
  { full: true },
  { full: true, everyFile: true },
  { fragmentSize: 64 * 1024 },
  { full: true, exclusive: true },
  { full: true, maxLatency: 5 },
  { cluster: true },
];

/** How many of so many runs join free space instead. */
const CONSOLIDATIONS = 6;

async function run(): Promise<void> {
  const { signal } = controller;
  const events: AsyncIterable<Event> =
    below(CONSOLIDATIONS) === 0
      ? consolidate([mountPoint], { run: 8 * 2 ** 20, signal })
      : defragment([mountPoint], { ...oneOf(below, WAYS), signal });
  for await (const event of events) note(event);
}

process.on('SIGTERM', () => controller.abort());
process.on('disconnect', () => controller.abort());
process.send?.('at work');
while (!controller.signal.aborted) {
  if (folder !== undefined) await fragmentSome(folder);
  await run();
}
process.send?.(sum satisfies Moved, () => process.disconnect());
