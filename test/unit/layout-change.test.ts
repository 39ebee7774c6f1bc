import { expect, test } from 'vitest';
import { ExtentTable } from '../../lib/layout/extents.ts';
import { bytes } from '../../lib/layout/units.ts';
import { changeOf } from '../support/layout.ts';

/** 2048 blocks are 8 MiB. */
const BLOCK = bytes(4096);

/** Files by the lengths of their fragments, in logical order and apart from each other on the device. */
function layout(files: Readonly<Record<string, readonly number[]>>) {
  const tables = Object.entries(files).map(([name, lengths]) => {
    let logical = 0;
    const extents = lengths.map((length) => {
      const extent = { logical, physical: 2 * logical, length };
      logical += length;
      return extent;
    });
    return [name, ExtentTable.from(extents)] as const;
  });
  return { files: new Map(tables) };
}

const change = (before: readonly number[], after: readonly number[]) =>
  changeOf(layout({ a: before }), layout({ a: after }), BLOCK);

test('what lay in short fragments is cured in long ones and in whole files, and nowhere else', () => {
  expect(change([10, 10], [20])).toEqual({ cured: 1, improved: 1, worse: [] });
  expect(change([1000, 1000, 3000], [2000, 3000])).toEqual({ cured: 0, improved: 1, worse: [] });
  expect(change([1000, 1048, 3000], [2048, 3000])).toEqual({ cured: 1, improved: 1, worse: [] });
  expect(change([100, 100, 100, 100], [100, 300])).toEqual({ cured: 0, improved: 1, worse: [] });
  // Of the short ones the second alone; the third was long already.
  expect(change([100, 300, 3000], [100, 3300])).toEqual({ cured: 0.75, improved: 1, worse: [] });
});

test('of many files each counts by its bytes, and those in more fragments are named', () => {
  const before = layout({ whole: [5], cured: [100, 200], left: [60, 40], long: [4000, 4000] });
  const after = layout({ whole: [2, 3], cured: [300], left: [60, 40], long: [8000] });
  expect(changeOf(before, after, BLOCK)).toEqual({ cured: 0.75, improved: 2, worse: ['whole'] });
});
