import type { Reporter } from './reporter.ts';
import { CheckText } from './text/check.ts';
import type { TextOptions } from './text/common.ts';
import { DefragText } from './text/defrag.ts';
import { PlanText } from './text/plan.ts';

export type { TextOptions };

/** The report for people of one run of a command, which takes that command's events. */
export function textReporter(command: 'check' | 'plan' | 'defrag', options: TextOptions): Reporter {
  const reporter: Reporter<never> = new { check: CheckText, plan: PlanText, defrag: DefragText }[command](
    options,
  );
  return reporter;
}
