import { REASONS, type Reason } from '../scan/reasons.ts';
import type { SkipEvent } from './events.ts';

/**
 * Reasons that say a file is fine as it is, or none of the run's business. Files left alone for one of them are
 * counted, and named only when the user wants to read everything.
 */
export const FINE_AS_IT_IS: ReadonlySet<Reason> = new Set<Reason>([
  'already-contiguous',
  'large-fragments',
  'empty',
  'no-blocks',
  'one-block',
  'inline-data',
  'not-regular',
  'other-filesystem',
  'hard-link',
  'lost-found',
  'excluded',
  'too-small',
  'too-large',
  'vanished',
  'done-earlier',
]);

/** Reasons that say the run ended before a file's turn came: they say nothing of the file. */
export const ENDED_BEFORE: ReadonlySet<Reason> = new Set<Reason>(['interrupted', 'budget']);

/** Whether a file that was left alone deserves a line of its own. */
export function isWorthTelling(
  { reason }: Pick<SkipEvent, 'reason'>,
  options: { readonly verbose: boolean; readonly targetIsFile: boolean },
): boolean {
  return options.verbose || options.targetIsFile || !FINE_AS_IT_IS.has(reason);
}

export type Skipped = Partial<Record<Reason, number>>;

/** Reasons and how many files each kept, the most frequent first. */
export function byFrequency(skipped: Skipped): [reason: Reason, count: number][] {
  const reasons = Object.keys(REASONS) as Reason[];
  return reasons
    .map((reason): [Reason, number] => [reason, skipped[reason] ?? 0])
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a);
}
