import type { ExtentTable } from '../layout/extents.ts';
import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
import type { Segment } from '../place/assign.ts';
import type { Share } from '../plan/arrange.ts';
import type { FilePlan } from '../plan/plan.ts';
import type { PlanKind, PlanStep } from '../plan/planFile.ts';
import type { PlacementStep } from '../report/events.ts';
import type { Reason } from '../scan/reasons.ts';
import type { ScannedFile } from '../scan/scan.ts';
import type { Pause } from './pace/pace.ts';

/** A file before and after. */
export interface Gain {
  readonly fragmentsBefore: number;
  readonly fragmentsAfter: number;
  /** Merged extents. */
  readonly extentsBefore: number;
  readonly extentsAfter: number;
  /** Mapped. */
  readonly blocks: Blocks;
  /** Of reading it from the device, where it was measured. */
  readonly measured?: { readonly secondsBefore: number; readonly secondsAfter: number };
}

/** Where a file lay and lies: enough to put it back. */
export interface Layouts {
  /** Merged, and whole. */
  readonly before: ExtentTable;
  readonly after: ExtentTable;
  /** Of the file. */
  readonly size: Bytes;
}

/** A step of a plan file that is carried out, instead of what the planner would choose. */
export interface Prescription {
  readonly kind: PlanKind;
  readonly step: PlanStep;
  /** What is held for it, in logical order; otherwise places are looked for when the file is open. */
  readonly segments?: readonly Segment[];
}

/** A file to be moved, and what earlier rounds did to it: a file that does not fit beside itself takes several. */
export interface Candidate {
  readonly file: ScannedFile;
  /** What its plan moves, by the scan. */
  readonly planned: Bytes;
  /** That plan, which still holds where the file has not changed since. */
  readonly plan?: FilePlan | undefined;
  /** The inode's, once it has been opened. */
  readonly generation?: number;
  /** For the first round; what is left then is planned anew. */
  readonly prescribed?: Prescription | undefined;
  /** Where it goes together with others, instead of what the planner would choose. */
  readonly share?: Share | undefined;
  readonly earlier?: {
    readonly gain: Gain;
    readonly moved: Blocks;
    readonly rounds: number;
    readonly layouts: Layouts;
  };
}

/** What became of a candidate. */
export type Verdict =
  | {
      readonly kind: 'skip';
      readonly candidate: Candidate;
      readonly reason: Reason;
      readonly why?: string | undefined;
    }
  | { readonly kind: 'failed'; readonly candidate: Candidate; readonly error: Error; readonly moved: Blocks }
  | {
      readonly kind: 'defragmented';
      readonly candidate: Candidate;
      readonly gain: Gain;
      readonly moved: Blocks;
      readonly incomplete: Reason | undefined;
      readonly layouts: Layouts;
      readonly why?: string | undefined;
    };

export type Outcome =
  | Verdict
  /** To be tried again in the next batch, with what this one did. */
  | { readonly kind: 'again'; readonly candidate: Candidate }
  /** How far the batch is. */
  | { readonly kind: 'moving'; readonly path: Buffer; readonly moved: Blocks }
  /** What is done to find a place. */
  | { readonly kind: 'placing'; readonly path: Buffer; readonly step: PlacementStep; readonly reason: string }
  /** Blocks of other files went elsewhere, to make room. */
  | { readonly kind: 'evacuated'; readonly path: Buffer; readonly moved: Blocks }
  | { readonly kind: 'pause'; readonly pause: Pause };

/** What has been allocated for a candidate already, if anything. */
export const placesOf = ({ share, prescribed }: Candidate): readonly Segment[] | undefined =>
  share?.segments ?? prescribed?.segments;

export const movedEarlier = ({ earlier }: Candidate): Blocks => earlier?.moved ?? blocks(0);

/** The verdict on a file that this round did not move: left as it was, unless an earlier round improved it. */
export function leftAlone(candidate: Candidate, found: Reason, why?: string): Verdict {
  const { earlier, prescribed } = candidate;
  // Who planned it has seen the file there.
  const reason = found === 'vanished' && prescribed !== undefined ? 'changed-since-plan' : found;
  if (earlier === undefined) return { kind: 'skip', candidate, reason, why };
  const { gain, moved, layouts } = earlier;
  return { kind: 'defragmented', candidate, gain, moved, incomplete: reason, why, layouts };
}
