import fc from 'fast-check';
import { ExtentTable } from '../../lib/layout/extents.ts';

/** Layouts of up to 40 extents: some end to end, some with holes, at places that do not overlap. */
export function layouts(): fc.Arbitrary<ExtentTable> {
  const step = fc.record({
    length: fc.integer({ min: 1, max: 64 }),
    hole: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 100 })),
    jump: fc.oneof(
      { weight: 1, arbitrary: fc.constant('none' as const) },
      { weight: 1, arbitrary: fc.constant('mirrored' as const) },
      { weight: 3, arbitrary: fc.constant('far' as const) },
    ),
  });
  return fc.array(step, { maxLength: 40 }).map((steps) => {
    let logical = 0;
    let physical = 1000;
    return ExtentTable.from(
      steps.map(({ length, hole, jump }, i) => {
        logical += hole;
        physical += jump === 'none' ? 0 : jump === 'mirrored' ? hole : 10_000 + i;
        const extent = { logical, physical, length };
        logical += length;
        physical += length;
        return extent;
      }),
    );
  });
}
