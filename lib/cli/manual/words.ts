import { COMMANDS, OPTIONS, type Command, type OptionSpec } from '../options.ts';

/** What the placeholders of values stand for. */
export const VALUES: Readonly<Record<NonNullable<OptionSpec['value']>, string>> = {
  SIZE: 'Bytes, or a number with a suffix K, M, G or T (powers of 1024): 4096, 64K, 8M. A rate may end in "/s".',
  TIME: 'Seconds, or a time with units d, h, m and s: 90, 30m, 1h30m.',
  MS: 'Milliseconds, or a time with a unit ms or s: 100, 50ms, 0.5s.',
  PERCENT:
    'Above 0, and 100 at most, with or without the sign. The one of --reserve may be 0 and is 99 at most; anybody but root leaves what is reserved for root.',
  PROFILE:
    'seek=TIME,bandwidth=SIZE, or one of them: what a jump on the device costs, in s, ms or us, and what it reads a second: seek=12ms,bandwidth=180M.',
  GLOB: 'A pattern as of the shell, such as *.log; with a slash in it, of the path below the target, such as cache/**.',
  LEVEL: 'One of normal, low and idle.',
  WHEN: 'One of auto, always and never.',
  N: 'A whole number.',
  FILE: 'The path of a file, in UTF-8.',
};

export const SIGNALS_TEXT = 'The signal USR1 makes it print on standard error how far it is.';

/** What the exit codes mean, in the order of the codes. */
export const EXIT_TEXTS: readonly (readonly [code: number, text: string])[] = [
  [0, 'done, or nothing needed'],
  [1, 'some file failed'],
  [2, 'usage'],
  [3, 'target or kernel not supported'],
  [4, 'ended at a limit (--time-limit, --max-bytes, --max-written-percent), run it again to go on'],
  [130, 'stopped by a signal, with the chunk in hand finished'],
];

/** What stands behind a command on its command line. */
export function operandsOf(command: Command): string {
  const { takesFile, takesTargets, takesWord } = COMMANDS[command];
  if (takesFile) return 'FILE [TARGET]';
  if (takesTargets) return 'TARGET...';
  if (takesWord === undefined) return '';
  return command === 'help' ? `[${takesWord}]` : takesWord;
}

/** The options that a command has. */
export const optionsOf = (command: Command): [name: string, spec: OptionSpec][] =>
  Object.entries<OptionSpec>(OPTIONS).filter(([, { commands }]) => commands?.includes(command) ?? true);
