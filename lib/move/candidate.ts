import { blocks, type Blocks, type Bytes } from '../layout/units.ts';
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

/** A file to be moved, and what earlier rounds did to it: a file that does not fit beside itself takes several. */
export interface Candidate {
  readonly file: ScannedFile;
  /** What its plan moves, by the scan. */
  readonly planned: Bytes;
  /** The inode's, once it has been opened. */
  readonly generation?: number;
  readonly earlier?: { readonly gain: Gain; readonly moved: Blocks; readonly rounds: number };
}

/** What became of a candidate. */
export type Verdict =
  | { readonly kind: 'skip'; readonly candidate: Candidate; readonly reason: Reason }
  | { readonly kind: 'failed'; readonly candidate: Candidate; readonly error: Error; readonly moved: Blocks }
  | {
      readonly kind: 'defragmented';
      readonly candidate: Candidate;
      readonly gain: Gain;
      readonly moved: Blocks;
      readonly incomplete: Reason | undefined;
    };

export type Outcome =
  | Verdict
  /** To be tried again in the next batch, with what this one did. */
  | { readonly kind: 'again'; readonly candidate: Candidate }
  /** How far the batch is. */
  | { readonly kind: 'moving'; readonly path: Buffer; readonly moved: Blocks }
  | { readonly kind: 'pause'; readonly pause: Pause };

export const movedEarlier = ({ earlier }: Candidate): Blocks => earlier?.moved ?? blocks(0);

/** The verdict on a file that this round did not move: left as it was, unless an earlier round improved it. */
export function leftAlone(candidate: Candidate, reason: Reason): Verdict {
  const { earlier } = candidate;
  if (earlier === undefined) return { kind: 'skip', candidate, reason };
  const { gain, moved } = earlier;
  return { kind: 'defragmented', candidate, gain, moved, incomplete: reason };
}
