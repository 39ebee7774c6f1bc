import { Model, type Geometry } from './model.ts';
import { isRead, lineOf, type Operation } from './operation.ts';

/** Where a file was not what it must be. */
export interface Difference {
  /** Of the operation that showed it. */
  readonly index: number;
  readonly what: string;
}

/** The longest line with a result and a size. */
const LONGEST_LINE = 64;

/**
 * Compares what test/support/operate.c answered to a log with what must come of it.
 *
 * @param log of possible operations
 * @returns the first difference
 */
export function compare(
  log: readonly Operation[],
  answers: Buffer,
  geometry: Geometry,
): Difference | undefined {
  const model = new Model(geometry);
  let at = 0;
  for (const [index, operation] of log.entries()) {
    const expected = model.apply(operation);
    const differs = (what: string): Difference => ({ index, what: `${lineOf(operation)}: ${what}` });
    const end = answers.subarray(at, at + LONGEST_LINE).indexOf('\n');
    if (end < 0) return differs('there is no answer');
    const [result, size] = answers
      .toString('latin1', at, at + end)
      .split(' ')
      .map(Number);
    at += end + 1;
    if (result !== expected.result) return differs(`gave ${result} and should give ${expected.result}`);
    if (size !== expected.size) return differs(`left a size of ${size}, which should be ${expected.size}`);
    if (!isRead(operation)) continue;
    const wrong = firstDifference(answers.subarray(at, at + result), expected.data!);
    at += result;
    if (wrong !== undefined) return differs(wrong(operation.offset));
  }
  return undefined;
}

/** @returns words for it, given where in the file both begin */
function firstDifference(got: Buffer, wanted: Buffer): ((start: number) => string) | undefined {
  if (got.equals(wanted)) return undefined;
  const at = wanted.findIndex((byte, i) => byte !== got[i]);
  const last = wanted.findLastIndex((byte, i) => byte !== got[i]);
  const hex = (bytes: Buffer) => bytes.subarray(at, at + 16).toString('hex');
  return (start) =>
    `bytes ${start + at} to ${start + last} differ, they begin with ${hex(got)} and should with ${hex(wanted)}`;
}
