import { blocks } from '../layout/units.ts';
import type { Run as BlockRun, Segment } from '../place/assign.ts';
import type { OwnedExtent, OwnerMap } from '../place/owners.ts';

/** Blocks of temporary files for third places. */
export class ThirdPlaces {
  readonly #runs: BlockRun[];

  constructor(runs: readonly BlockRun[]) {
    this.#runs = [...runs];
  }

  /** @returns where parts of a file go, in logical order; undefined when there is not enough */
  place(parts: readonly OwnedExtent[]): Segment[] | undefined {
    const segments: Segment[] = [];
    for (const { logical, length } of parts.toSorted((a, b) => a.logical - b.logical)) {
      for (let done = 0; done < length;) {
        const run = this.#runs.shift();
        if (run === undefined) return undefined;
        const count = Math.min(run.length, length - done);
        segments.push({
          donorFd: run.donorFd,
          donor: run.start,
          logical: blocks(logical + done),
          physical: run.physical,
          length: blocks(count),
        });
        if (count < run.length) this.#runs.unshift(cut(run, run.physical + count, run.physical + run.length));
        done += count;
      }
    }
    return segments;
  }
}

/** The blocks of a run from one to another of the device. */
const cut = (run: BlockRun, from: number, to: number): BlockRun => ({
  donorFd: run.donorFd,
  start: blocks(run.start + from - run.physical),
  physical: blocks(from),
  length: blocks(to - from),
});

/** The parts of a run that are somebody's old place. */
export function wantedIn(run: BlockRun, wanted: OwnerMap): BlockRun[] {
  const end = run.physical + run.length;
  return wanted
    .within(run.physical, end)
    .map(({ physical, length }) =>
      cut(run, Math.max(physical, run.physical), Math.min(physical + length, end)),
    );
}

/** The parts of a run that are nobody's old place. */
export function unwantedIn(run: BlockRun, wanted: OwnerMap): BlockRun[] {
  const parts: BlockRun[] = [];
  let at: number = run.physical;
  for (const { physical, length } of wantedIn(run, wanted)) {
    if (physical > at) parts.push(cut(run, at, physical));
    at = physical + length;
  }
  const end = run.physical + run.length;
  if (end > at) parts.push(cut(run, at, end));
  return parts;
}
