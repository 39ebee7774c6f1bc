import type { ExtentTable } from '../layout/extents.ts';
import type { OwnedExtent } from '../place/owners.ts';
import type { Relocation } from '../plan/plan.ts';
import type { PlanStep } from '../plan/planFile.ts';
import { counted } from '../report/format.ts';
import type { Candidate } from './candidate.ts';
import { blocksOf } from './stretches.ts';

const USERS = 'are in use by others, or by the kernel for what a file is made of (extent trees)';

/** A file that is to be put back. */
export interface Returning {
  readonly candidate: Candidate;
  /** Where it is to lie again, up to its end. */
  readonly home: ExtentTable;
  /** What moves it there from where it lies now. */
  step: PlanStep;
  /** Merged, and whole. */
  now: ExtentTable;
  wants: readonly Relocation[];
  /** Blocks of that at first. */
  readonly size: number;
  /** What can lie there no more. It has gone out of the way, and goes back but for that. */
  resigned: readonly Relocation[];
  /** Blocks that were moved so far: it does not lie where it was found then. */
  moved: number;
  tries: number;
  why: string | undefined;
}

/** A file that cannot go back now, since others lie in its old place. */
export interface Blocked {
  readonly file: Returning;
  /** What of them, in parts, and which of its blocks belongs there. */
  readonly inTheWay: readonly { readonly part: OwnedExtent; readonly place: Relocation }[];
  /** What of its old place somebody has who does not go away. */
  readonly lost: readonly Relocation[];
}

/**
 * Settles who of blocked files stays where he was found: who has lost too much of his old place, and who waits for
 * those. What lies in the way of the others and stays is lost to them.
 */
export function withoutStaying(blocked: readonly Blocked[], mostLost: number): Blocked[] {
  const waiting = new Map<number, Blocked[]>();
  for (const one of blocked) {
    for (const { part } of one.inTheWay) waiting.set(part.inode, [...(waiting.get(part.inode) ?? []), one]);
  }
  const lostOf = (one: Blocked): Relocation[] => [
    ...one.lost,
    ...one.inTheWay.flatMap(({ part, place }) => (staying.has(part.inode) ? place : [])),
  ];
  const stays = (one: Blocked) => one.file.moved === 0 && blocksOf(lostOf(one)) > mostLost * one.file.size;
  const staying = new Map<number, Blocked>();
  for (const one of blocked) if (stays(one)) staying.set(one.file.candidate.file.inode, one);
  // What is added meanwhile is gone over as well.
  for (const inode of staying.keys()) {
    for (const one of waiting.get(inode) ?? [])
      if (stays(one)) staying.set(one.file.candidate.file.inode, one);
  }
  return blocked.map((one) => {
    const lost = lostOf(one);
    one.file.why =
      lost.length === 0 ? undefined : `${counted(blocksOf(lost), 'block')} of its old place ${USERS}`;
    return { ...one, lost, inTheWay: one.inTheWay.filter(({ part }) => !staying.has(part.inode)) };
  });
}

/** What of a file could not be put back. */
export const butFor = (lost: readonly Relocation[]): string =>
  `${counted(blocksOf(lost), 'block')} of its old place ${USERS}; all others lie where they lay`;
