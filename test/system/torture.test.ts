import { expect, test } from 'vitest';
import { MiB } from '../support/lab.ts';
import { randomFrom } from '../support/random.ts';
import { useLab } from '../support/use.ts';
import { generate } from '../torture/model/generate.ts';
import { carryOut, shortest } from '../torture/model/operate.ts';

const GEOMETRY = { blockSize: 4096, most: 512 * 1024 };
const log = generate(randomFrom(1), 120, GEOMETRY);

test('a file does what the model says', async () => {
  const lab = await useLab({ size: 64 * MiB });
  expect(await carryOut(lab.path('file'), log, GEOMETRY)).toBeUndefined();
});

// The faults of test/support/operate.c, and an operation without which nobody sees them.
test.each([
  { fault: 'write', kind: /write/ },
  { fault: 'after-collapse', kind: /collapse/ },
])('the fault "$fault" is found, and the log that shows it made short', async ({ fault, kind }) => {
  const lab = await useLab({ size: 64 * MiB });
  const path = lab.path('file');
  const failure = await carryOut(path, log, GEOMETRY, fault);
  const short = await shortest(failure!, path, GEOMETRY, fault);
  expect(short.what).toMatch(/^(direct-|mapped-)?read .* differ/);
  expect(short.log.length).toBeLessThanOrEqual(6);
  expect(short.log.some((operation) => kind.test(operation.kind))).toBe(true);
});
