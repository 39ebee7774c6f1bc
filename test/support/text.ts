import { REPORTERS, type TextOptions } from '../../lib/report/text.ts';
import type { Reporter } from '../../lib/report/reporter.ts';

type Command = keyof typeof REPORTERS;
type Text = new (options: TextOptions) => Reporter<never>;

const loaded = new Map<Command, Text>();
for (const command of Object.keys(REPORTERS) as Command[]) loaded.set(command, await REPORTERS[command]());

/** {@link textReporter} of the library, of which all are loaded. */
export function textReporter(command: Command, options: TextOptions): Reporter {
  return new (loaded.get(command)!)(options);
}
