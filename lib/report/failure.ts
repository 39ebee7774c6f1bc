import type { FailedEvent } from './events.ts';
import { printableText } from './names.ts';

/** What to do about it, where that is not plain. */
const HINTS: Readonly<Record<string, string>> = {
  EIO: 'the kernel log says more',
  EROFS: 'the kernel log says why',
  EMFILE: 'ulimit -n allows more',
};

/** What failed, in one printable line and without the path that system errors repeat. */
export function failureText({ code, message }: Pick<FailedEvent, 'code' | 'message'>): string {
  const match = /^E\w+: (?<what>.*?), (?<call>[\w() ]+)(?: '.*')?$/s.exec(message);
  const text = match ? `${match.groups!['what']} (${code}, ${match.groups!['call']})` : message;
  const hint = Object.hasOwn(HINTS, code) ? `; ${HINTS[code]}` : '';
  return printableText(text + hint);
}
