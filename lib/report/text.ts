import type { Reporter } from './reporter.ts';
import { ApplyText } from './text/apply.ts';
import { CheckText } from './text/check.ts';
import type { TextOptions } from './text/common.ts';
import { ConsolidateText } from './text/consolidate.ts';
import { DefragText } from './text/defrag.ts';
import { MapText } from './text/map.ts';
import { ExplainText } from './text/explain.ts';
import { PlanText } from './text/plan.ts';
import { SpaceText } from './text/space.ts';

export type { TextOptions };

const REPORTERS = {
  check: CheckText,
  plan: PlanText,
  explain: ExplainText,
  space: SpaceText,
  map: MapText,
  defrag: DefragText,
  apply: ApplyText,
  consolidate: ConsolidateText,
};

/** The report for people of one run of a command, which takes that command's events. */
export function textReporter(command: keyof typeof REPORTERS, options: TextOptions): Reporter {
  const reporter: Reporter<never> = new REPORTERS[command](options);
  return reporter;
}
