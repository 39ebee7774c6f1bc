import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WorstFirst, type Worthwhile } from '../../lib/plan/worstFirst.ts';

const MiB = 2 ** 20;
const file = (inode: number, bytes: number, saved: number): Worthwhile => ({
  inode,
  generation: 0,
  bytes,
  fragments: saved + 1,
  saved,
});
const inodes = (files: readonly Worthwhile[]) => files.map(({ inode }) => inode);

test('what gains most comes first, whatever comes between', () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.integer({ min: 1, max: 1000 }), { nil: 'pop' as const })), (steps) => {
      const queue = new WorstFirst({ bytes: 1, files: 1 });
      const model: Worthwhile[] = [];
      steps.forEach((step, inode) => {
        if (step !== 'pop') {
          const large = file(inode, 2 * MiB, step);
          queue.push(large);
          model.push(large);
          return;
        }
        const got = queue.popBatch();
        const best = Math.max(...model.map(({ saved }) => saved));
        expect(got).toHaveLength(Math.min(1, model.length));
        if (got.length > 0) expect(got[0].saved).toBe(best);
        model.splice(model.indexOf(got[0]), got.length);
      });
      expect(queue.size).toBe(model.length);
      expect(inodes([...queue]).sort()).toEqual(inodes(model).sort());
    }),
  );
});

test('a batch ends before it grows too large, but is never empty', () => {
  const queue = new WorstFirst({ bytes: 10 * MiB, files: 2 });
  for (let inode = 1; inode <= 3; inode++) queue.push(file(inode, 2 * MiB, 10 - inode));
  queue.push(file(4, 20 * MiB, 50));
  queue.push(file(5, 9 * MiB, 1));
  expect(inodes(queue.popBatch())).toEqual([1, 2]);
  expect(inodes(queue.popBatch())).toEqual([3]);
  expect(inodes(queue.popBatch())).toEqual([4]);
  expect(inodes(queue.popBatch())).toEqual([5]);
  expect(queue.popBatch()).toEqual([]);
});

test('small files wait for their directories, and those of one go together', () => {
  const queue = new WorstFirst({ bytes: MiB, files: 4 });
  // Even inodes are in one directory, odd ones, which gain less, in another.
  for (let inode = 1; inode <= 9; inode++) queue.push(file(inode, MiB / 8, inode % 2 === 0 ? 8 : 2));
  expect(queue.popBatch()).toEqual([]);
  expect(queue.size).toBe(9);
  queue.group((inode) => inode % 2);
  expect(inodes(queue.popBatch())).toEqual([2, 4, 6, 8]);
  expect(inodes(queue.popBatch())).toEqual([1, 3, 5, 7]);
  expect(inodes(queue.popBatch())).toEqual([9]);
  expect(queue.size).toBe(0);
});

test('no group is larger than a batch, and no file gets lost in groups', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 2 * MiB }), { maxLength: 60 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 5 }), (all, directories) => {
      const limits = { bytes: 3 * MiB, files: 7 };
      const queue = new WorstFirst(limits);
      all.forEach((bytes, inode) => queue.push(file(inode, bytes, (inode * 7) % 11)));
      queue.group((inode) => inode % directories);
      const seen: number[] = [];
      for (let batch = queue.popBatch(); batch.length > 0; batch = queue.popBatch()) {
        expect(batch.length).toBeLessThanOrEqual(limits.files);
        const bytes = batch.reduce((sum, next) => sum + next.bytes, 0);
        if (batch.length > 1) expect(bytes).toBeLessThanOrEqual(limits.bytes);
        seen.push(...inodes(batch));
      }
      expect(seen.sort((a, b) => a - b)).toEqual(all.map((_, inode) => inode));
    }),
  );
});
