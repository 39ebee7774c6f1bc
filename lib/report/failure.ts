import type { FailedEvent } from './events.ts';
import { printableText } from './names.ts';

/** What failed, in one printable line and without the path that system errors repeat. */
export function failureText({ code, message }: Pick<FailedEvent, 'code' | 'message'>): string {
  const match = /^E\w+: (?<what>.*?), (?<call>[\w() ]+)(?: '.*')?$/s.exec(message);
  return printableText(match ? `${match.groups!['what']} (${code}, ${match.groups!['call']})` : message);
}
