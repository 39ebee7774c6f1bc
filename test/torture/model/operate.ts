import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { compare } from './answers.ts';
import { possibleOf, type Geometry } from './model.ts';
import { lineOf, type Operation } from './operation.ts';
import { shrink } from './shrink.ts';

/** test/support/operate.c, compiled by test/support/build.mjs. */
const OPERATE = fileURLToPath(new URL('../../../build/test/operate', import.meta.url));

/** A log that did not do to a file what it must. */
export interface Failure {
  /** Up to the operation that showed it. */
  readonly log: readonly Operation[];
  readonly what: string;
}

/**
 * Carries out a log on a file of its own, which is removed afterwards.
 *
 * @param log of possible operations
 * @param fault that the program is to have
 */
export async function carryOut(
  path: string,
  log: readonly Operation[],
  geometry: Geometry,
  fault?: string,
): Promise<Failure | undefined> {
  const child = spawn(OPERATE, [path, ...(fault === undefined ? [] : [fault])], { stdio: 'pipe' });
  const input = log.map((operation) => `${lineOf(operation)}\n`).join('');
  // When it ends early, what it answered says why.
  child.stdin.on('error', () => undefined).end(input);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [complaint, [code]] = await Promise.all([
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  const answers = Buffer.concat(chunks);
  await rm(path, { force: true });
  const difference = compare(log, answers, geometry);
  if (difference !== undefined) {
    return { log: log.slice(0, difference.index + 1), what: `${difference.what} ${complaint}`.trim() };
  }
  if (code !== 0) return { log, what: `operate ended with ${code}: ${complaint}` };
  return undefined;
}

/** How often a log is tried that may fail only now and then. */
const TRIES = 6;

/**
 * Looks for the shortest log that fails as well.
 *
 * @param over ends it early
 */
export async function shortest(
  failure: Failure,
  path: string,
  geometry: Geometry,
  fault?: string,
  over?: () => boolean,
): Promise<Failure> {
  let { what } = failure;
  const failingPart = async (part: readonly Operation[]) => {
    const log = possibleOf(part, geometry);
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const again = await carryOut(path, log, geometry, fault);
      if (again === undefined) continue;
      what = again.what;
      return again.log;
    }
    return undefined;
  };
  return { log: await shrink(failure.log, failingPart, over), what };
}

/** For a person to read. */
export const describeFailure = ({ log, what }: Failure): string =>
  `${what}\nafter ${log.length} operations:\n${log.map((operation) => `  ${lineOf(operation)}`).join('\n')}`;
