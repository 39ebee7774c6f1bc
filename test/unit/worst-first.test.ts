import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WorstFirst } from '../../lib/plan/worstFirst.ts';

const file = (inode: number, bytes = 1) => ({ inode, generation: 0, bytes, fragments: 2 });

test('what gains most comes first, whatever comes between', () => {
  fc.assert(
    fc.property(
      fc.array(fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: 'pop' as const })),
      (steps) => {
        const queue = new WorstFirst();
        const model: { inode: number; gain: number }[] = [];
        steps.forEach((step, inode) => {
          if (step !== 'pop') {
            queue.push(file(inode), step);
            model.push({ inode, gain: step });
            return;
          }
          const got = queue.pop();
          const best = Math.max(...model.map(({ gain }) => gain));
          const at = model.findIndex(({ inode: other }) => other === got?.inode);
          expect(got === undefined ? undefined : model[at].gain).toBe(model.length === 0 ? undefined : best);
          if (at >= 0) model.splice(at, 1);
        });
        expect(queue.size).toBe(model.length);
      },
    ),
  );
});

test('a batch ends before it grows too large, but is never empty', () => {
  const queue = new WorstFirst();
  for (let inode = 1; inode <= 5; inode++) queue.push(file(inode, 40), 1 / inode);
  const inodes = () => queue.popBatch(100, 3).map(({ inode }) => inode);
  expect(inodes()).toEqual([1, 2]);
  expect(queue.popBatch(10, 3).map(({ inode }) => inode)).toEqual([3]);
  expect(queue.popBatch(1000, 1).map(({ inode }) => inode)).toEqual([4]);
  expect(inodes()).toEqual([5]);
  expect(inodes()).toEqual([]);
});
