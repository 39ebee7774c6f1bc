import { expect, test } from 'vitest';
import { MiB } from '../support/lab.ts';
import { randomFrom } from '../support/random.ts';
import { useLab } from '../support/use.ts';
import { generate } from '../torture/model/generate.ts';
import { carryOut, shortest } from '../torture/model/operate.ts';

const GEOMETRY = { blockSize: 4096, most: 512 * 1024 };
const log = generate(randomFrom(1), 200, GEOMETRY);

test('a file does what the model says', async () => {
  const lab = await useLab({ size: 64 * MiB });
  expect(await carryOut(lab.path('file'), log, GEOMETRY)).toBeUndefined();
});

// The faults of test/support/operate.c, and what a log must have to show them.
test.each([
  { fault: 'write', needed: [/write/, /read/] },
  { fault: 'after-collapse', needed: [/write|truncate|allocate|zero/, /collapse/, /write/, /read/] },
])('the fault "$fault" is found, and what shows it made short', async ({ fault, needed }) => {
  const lab = await useLab({ size: 64 * MiB });
  const path = lab.path('file');
  const failure = await carryOut(path, log, GEOMETRY, fault);
  const { log: short, what } = await shortest(failure!, path, GEOMETRY, fault);
  expect(what).toMatch(/^(direct-|mapped-)?read .* differ/);
  const kinds = short.map(({ kind }) => kind);
  expect(kinds).toEqual(needed.map((pattern) => expect.stringMatching(pattern) as string));
});
