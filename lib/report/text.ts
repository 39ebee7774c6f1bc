import type { Reporter } from './reporter.ts';
import type { TextOptions } from './text/common.ts';

export type { TextOptions };

/** Of each command; loaded when it is asked for: to parse all of them is felt at every start. */
export const REPORTERS = {
  check: async () => (await import('./text/check.ts')).CheckText,
  plan: async () => (await import('./text/plan.ts')).PlanText,
  explain: async () => (await import('./text/explain.ts')).ExplainText,
  space: async () => (await import('./text/space.ts')).SpaceText,
  map: async () => (await import('./text/map.ts')).MapText,
  defrag: async () => (await import('./text/defrag.ts')).DefragText,
  apply: async () => (await import('./text/apply.ts')).ApplyText,
  consolidate: async () => (await import('./text/consolidate.ts')).ConsolidateText,
};

/** The report for people of one run of a command, which takes that command's events. */
export async function textReporter(command: keyof typeof REPORTERS, options: TextOptions): Promise<Reporter> {
  const Text = await REPORTERS[command]();
  const reporter: Reporter<never> = new Text(options);
  return reporter;
}
