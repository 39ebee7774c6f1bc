// Random operations on several files, each compared with a model of the file in memory, while a defragmenter moves them.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFailed, test } from 'vitest';
import { age } from '../support/age.ts';
import { MiB } from '../support/lab.ts';
import { contentsOf } from '../support/layout.ts';
import { oneOf, randomFrom } from '../support/random.ts';
import { useLab } from '../support/use.ts';
import { generate } from './model/generate.ts';
import { carryOut, describeFailure, shortest, type Failure } from './model/operate.ts';
import { describeMoved, imagesInMemory, SECONDS, SEED, timeout, whileMoving } from './support.ts';

/** Files that are operated on at the same time. */
const FILES = 4;
/** Of each log. */
const OPERATIONS = 800;
/** How long a shorter log is looked for, in milliseconds. */
const SHRINKING = 120_000;

const KiB = 1024;

/**
 * Carries out logs on one file after the other, until time is over or one fails.
 *
 * @returns how many operations there were, or the failure, as short as it becomes
 */
async function operate(
  path: string,
  seed: number,
  until: number,
  blockSize: number,
  sizes: readonly number[],
): Promise<number | Failure> {
  const below = randomFrom(seed);
  let operations = 0;
  while (performance.now() < until) {
    const geometry = { blockSize, most: oneOf(below, sizes) };
    const log = generate(below, OPERATIONS, geometry);
    const failure = await carryOut(path, log, geometry);
    if (failure !== undefined) {
      const end = performance.now() + SHRINKING;
      return shortest(failure, path, geometry, undefined, () => performance.now() > end);
    }
    operations += log.length;
  }
  return operations;
}

imagesInMemory();

test.each([
  { blockSize: 4096, what: 'little room', size: 384 * MiB, fill: 0.75, sizes: [256 * KiB, 2 * MiB] },
  { blockSize: 1024, what: 'room enough', size: 512 * MiB, fill: 0, sizes: [256 * KiB, 2 * MiB, 8 * MiB] },
])(
  'files have in them what they must, with blocks of $blockSize and $what',
  { timeout: timeout(SECONDS) },
  async ({ blockSize, size, fill, sizes }) => {
    onTestFailed(() => console.log(`EXT4_DEFRAG_TORTURE_SEED=${SEED}`));
    const lab = await useLab({ blockSize, size });
    const others = fill > 0 ? await age(lab, { fill }) : [];
    const contents = contentsOf(lab, others);
    const folder = lab.path('busy');
    mkdirSync(folder);
    const { result, moved } = await whileMoving(lab.mountPoint, folder, () => {
      const until = performance.now() + (SECONDS / 2) * 1000;
      return Promise.all(
        Array.from({ length: FILES }, (_, i) =>
          operate(join(folder, `file${i}`), SEED + i, until, blockSize, sizes),
        ),
      );
    });
    const failures = result.filter((one) => typeof one === 'object').map(describeFailure);
    expect(failures.join('\n')).toBe('');
    expect(moved.failures).toEqual([]);
    expect(contentsOf(lab, others)).toEqual(contents);
    const operations = result.reduce<number>((sum, one) => sum + Number(one), 0);
    console.log(`${operations} operations (seed ${SEED}); ${describeMoved(moved)}`);
    // A test in which nothing moved would prove nothing.
    expect(moved.bytesMoved).toBeGreaterThan(0);
  },
);
