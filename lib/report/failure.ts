import type { FailedEvent } from './events.ts';
import { printableText } from './names.ts';

/** What to do about a system's error, by its code. */
export const HINTS: Readonly<Record<string, string>> = {
  EACCES: 'run as its owner or as root',
  EBUSY: 'try again when it is less in use',
  EDQUOT: 'free some of the quota',
  EIO: 'see the kernel log',
  EISDIR: 'name a file',
  ELOOP: 'name what the links lead to',
  EMFILE: 'see ulimit -n, which allows more',
  ENAMETOOLONG: 'name a directory further down',
  ENOENT: 'see whether it is spelled right and mounted',
  ENOSPC: 'free some space',
  ENOTDIR: 'see whether it is spelled right: a part of the path is a file',
  EPERM: 'run as root',
  EROFS: 'see the kernel log for why it is',
};

/**
 * What failed, in one printable line and without the path that system errors repeat. Our own errors say themselves what
 * to do.
 */
export function failureText({ code, message }: Pick<FailedEvent, 'code' | 'message'>): string {
  const match = /^E\w+: (?<what>.*?), (?<call>[\w() ]+)(?: '.*')?$/s.exec(message);
  if (match === null) return printableText(message);
  const hint = Object.hasOwn(HINTS, code) ? `; ${HINTS[code]}` : '';
  return printableText(`${match.groups!['what']} (${code}, ${match.groups!['call']})${hint}`);
}
