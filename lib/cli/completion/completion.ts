import { OPTIONS, type OptionSpec, type Shell } from '../options.ts';
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { zshCompletion } from './zsh.ts';

const SCRIPTS: Readonly<Record<Shell, () => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

/** The script that makes a shell complete this program's command lines. */
export const completionFor = (shell: Shell): string => SCRIPTS[shell]();

/** An option as it is typed: all its spellings. */
export const spellings = (name: string, { short }: OptionSpec): string[] => [
  ...(short ? [`-${short}`] : []),
  `--${name}`,
];

/** The options that take a value, whatever command has them. */
export const optionsWithValue = (): [name: string, spec: OptionSpec][] =>
  Object.entries<OptionSpec>(OPTIONS).filter(([, { value }]) => value !== undefined);

/** A word for the shell. */
export const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
