import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { randomFrom } from '../support/random.ts';
import { compare } from '../torture/model/answers.ts';
import { contentOf } from '../torture/model/content.ts';
import { generate } from '../torture/model/generate.ts';
import { isPossible, Model, possibleOf } from '../torture/model/model.ts';
import { isRead, lineOf, type Operation } from '../torture/model/operation.ts';
import { shrink } from '../torture/model/shrink.ts';

const GEOMETRY = { blockSize: 16, most: 4096 };

/** What a file has in it after some operations. */
function after(...log: Operation[]): Buffer {
  const model = new Model(GEOMETRY);
  for (const operation of log) model.apply(operation);
  return Buffer.from(model.apply({ kind: 'read', offset: 0, length: GEOMETRY.most }).data!);
}

const write = (offset: number, length: number, tag: number): Operation => ({
  kind: 'write',
  offset,
  length,
  tag,
});
const zeros = (length: number) => Buffer.alloc(length);

describe('the model', () => {
  const [one, two] = [contentOf(1, 64), contentOf(2, 64)];

  test.each<[string, Operation[], Buffer]>([
    ['nothing', [], zeros(0)],
    [
      'a write behind the end',
      [write(0, 8, 1), write(16, 8, 2)],
      Buffer.concat([one.subarray(0, 8), zeros(8), two.subarray(0, 8)]),
    ],
    [
      'truncating down and up',
      [write(0, 64, 1), { kind: 'truncate', size: 10 }, { kind: 'truncate', size: 20 }],
      Buffer.concat([one.subarray(0, 10), zeros(10)]),
    ],
    [
      'punching over the end',
      [write(0, 64, 1), { kind: 'punch', offset: 32, length: 100 }],
      Buffer.concat([one.subarray(0, 32), zeros(32)]),
    ],
    ['zeroing over the end', [write(0, 16, 1), { kind: 'zero', offset: 0, length: 32 }], zeros(32)],
    [
      'zeroing over the end, which stays',
      [write(0, 16, 1), { kind: 'zero-keep', offset: 0, length: 32 }],
      zeros(16),
    ],
    [
      'allocating behind the end',
      [write(0, 64, 1), { kind: 'allocate', offset: 60, length: 8 }],
      Buffer.concat([one, zeros(4)]),
    ],
    ['allocating behind the end, which stays', [{ kind: 'allocate-keep', offset: 60, length: 8 }], zeros(0)],
    [
      'collapsing, and growing again',
      [write(0, 64, 1), { kind: 'collapse', offset: 16, length: 16 }, { kind: 'truncate', size: 64 }],
      Buffer.concat([one.subarray(0, 16), one.subarray(32), zeros(16)]),
    ],
    [
      'inserting',
      [write(0, 64, 1), { kind: 'insert', offset: 16, length: 32 }],
      Buffer.concat([one.subarray(0, 16), zeros(32), one.subarray(16)]),
    ],
    [
      'copying',
      [write(0, 64, 1), { kind: 'copy', offset: 1, length: 3, to: 70 }],
      Buffer.concat([one, zeros(6), one.subarray(1, 4)]),
    ],
    ['what moves nothing', [write(0, 64, 1), { kind: 'fsync' }, { kind: 'drop' }, { kind: 'reopen' }], one],
  ])('%s', (_, log, content) => {
    expect(possibleOf(log, GEOMETRY)).toEqual(log);
    expect(after(...log).equals(content)).toBe(true);
  });

  test('what the kernel refuses is impossible', () => {
    const size = 100;
    const impossible: Operation[] = [
      { kind: 'collapse', offset: 96, length: 16 },
      { kind: 'collapse', offset: 8, length: 16 },
      { kind: 'insert', offset: 112, length: 16 },
      { kind: 'insert', offset: 0, length: 4096 },
      { kind: 'mapped-read', offset: 90, length: 11 },
      { kind: 'mapped-write', offset: 90, length: 11, tag: 1 },
      { kind: 'copy', offset: 0, length: 20, to: 19 },
      { kind: 'copy', offset: 90, length: 11, to: 0 },
      { kind: 'direct-write', offset: 8, length: 16, tag: 1 },
      { kind: 'direct-read', offset: 0, length: 8 },
      { kind: 'truncate', size: 4097 },
      { kind: 'write', offset: 4096, length: 1, tag: 1 },
      { kind: 'punch', offset: 0, length: 0 },
    ];
    for (const operation of impossible) {
      expect([lineOf(operation), isPossible(operation, size, GEOMETRY)]).toEqual([lineOf(operation), false]);
    }
  });
});

/** What operate.c answers when nothing is wrong. */
function answersTo(log: readonly Operation[]): Buffer {
  const model = new Model(GEOMETRY);
  return Buffer.concat(
    log.flatMap((operation) => {
      const { result, size, data } = model.apply(operation);
      return [Buffer.from(`${result} ${size}\n`), Buffer.from(data ?? [])];
    }),
  );
}

describe('a generated log', () => {
  const logOf = (seed: number, count = 300) => generate(randomFrom(seed), count, GEOMETRY);

  test('is possible, the same for the same seed, and looks at everything at its end', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const log = logOf(seed);
        expect(possibleOf(log, GEOMETRY)).toEqual(log);
        expect(logOf(seed)).toEqual(log);
        const { size } = possibleModel(log);
        if (size > 0) expect(log.at(-1)).toEqual({ kind: 'mapped-read', offset: 0, length: size });
      }),
      { numRuns: 20 },
    );
  });

  test('has every kind of operation', () => {
    expect(new Set(logOf(1, 3000).map(({ kind }) => kind)).size).toBe(20);
  });

  test('stays possible when parts of it are left out', () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(fc.nat(299)), (seed, left) => {
        const without = logOf(seed).filter((_, i) => !left.includes(i));
        const possible = possibleOf(without, GEOMETRY);
        expect(possibleOf(possible, GEOMETRY)).toEqual(possible);
      }),
      { numRuns: 20 },
    );
  });

  test('answers are compared to the byte', () => {
    const log = logOf(3);
    const answers = answersTo(log);
    expect(compare(log, answers, GEOMETRY)).toBeUndefined();
    expect(compare(log, answers.subarray(0, -1), GEOMETRY)?.index).toBe(log.length - 1);
    // One bit of what the last operation reads.
    answers[answers.length - 1] ^= 1;
    const { size } = possibleModel(log);
    expect(compare(log, answers, GEOMETRY)?.what).toContain(`bytes ${size - 1} to ${size - 1} differ`);
  });

  test('a result or a size that should be another one is a difference', () => {
    const log: Operation[] = [write(0, 8, 1), { kind: 'truncate', size: 4 }];
    expect(compare(log, Buffer.from('8 8\n0 4\n'), GEOMETRY)).toBeUndefined();
    expect(compare(log, Buffer.from('8 8\n-28 8\n'), GEOMETRY)).toMatchObject({ index: 1 });
    expect(compare(log, Buffer.from('8 8\n0 8\n'), GEOMETRY)).toMatchObject({ index: 1 });
    expect(compare(log, Buffer.from('8 8\n'), GEOMETRY)).toMatchObject({ index: 1 });
  });
});

function possibleModel(log: readonly Operation[]): Model {
  const model = new Model(GEOMETRY);
  for (const operation of log) model.apply(operation);
  return model;
}

describe('shrinking', () => {
  const numbers = Array.from({ length: 100 }, (_, i) => i);
  const failsWith = (needed: readonly number[]) => (log: readonly number[]) =>
    Promise.resolve(needed.every((number) => log.includes(number)) ? log : undefined);

  test('what is needed for the failure is left', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(99), { minLength: 1, maxLength: 6 }), async (needed) => {
        expect(await shrink(numbers, failsWith(needed))).toEqual([...needed].sort((a, b) => a - b));
      }),
    );
  });

  test('what comes behind the failure is left out at once', async () => {
    let asked = 0;
    const shortest = await shrink(numbers, async (log) => {
      asked++;
      return (await failsWith([5, 6])(log))?.slice(0, log.indexOf(6) + 1);
    });
    expect(shortest).toEqual([5, 6]);
    expect(asked).toBeLessThan(40);
  });

  test('a failure that comes only now and then is found when each log is tried a few times', async () => {
    const below = randomFrom(1);
    const racy = async (log: readonly number[]) => {
      for (let attempt = 0; attempt < 5; attempt++) {
        if (below(2) === 0 && (await failsWith([20, 70])(log))) return log;
      }
      return undefined;
    };
    const shortest = await shrink(numbers, racy);
    expect(shortest.length).toBeLessThan(6);
    expect(shortest).toEqual(expect.arrayContaining([20, 70]));
  });

  test('it ends when it is to', async () => {
    let left = 3;
    const shortest = await shrink(numbers, failsWith([1]), () => left-- <= 0);
    expect(shortest.length).toBeGreaterThan(1);
  });
});

test('reads are what has data', () => {
  expect(isRead({ kind: 'mapped-read', offset: 0, length: 1 })).toBe(true);
  expect(isRead(write(0, 1, 1))).toBe(false);
});
