import { COMMAND_MANUAL } from './manual/commands.ts';
import { wrap } from './manual/wrap.ts';
import { EXIT_TEXTS, operandsOf, optionsOf, SIGNALS_TEXT, VALUES } from './manual/words.ts';
import { COMMANDS, OPTIONS, visibleCommands, type Command, type OptionSpec } from './options.ts';

/** Commands that move files. */
const MOVING: readonly Command[] = ['defrag', 'apply', 'space'];

const WIDTH = 80;
const COLUMN = 28;

/** The text of help, made from the tables of commands and options: of a command, or of all. */
export function helpText(command?: Command): string {
  return command === undefined || command === 'completion' ? generalHelp() : commandHelp(command);
}

function commandHelp(command: Exclude<Command, 'completion'>): string {
  const { text, examples } = COMMAND_MANUAL[command];
  const options = optionsOf(command);
  const values = new Set(options.flatMap(([, { value }]) => value ?? []));
  return [
    `Usage: ext4-defrag ${command} [OPTION]... ${operandsOf(command)}`.trimEnd(),
    ...text.flatMap((paragraph) => ['', ...wrap(paragraph, WIDTH)]),
    '',
    'Options:',
    ...options.map(([name, spec]) =>
      entry(optionHeading(name, spec), spec.help + (spec.repeatable ? ' (repeatable)' : '')),
    ),
    ...(values.size > 0 ? ['', ...valueLines([...values])] : []),
    '',
    'Examples:',
    ...examples.flatMap(({ what, command: line }) => [`  ${what}:`, `    ${line}`]),
    '',
  ].join('\n');
}

/** The text of --help. */
function generalHelp(): string {
  const commands = visibleCommands().map((name) => entry(name, COMMANDS[name].help));
  const specs: [string, OptionSpec][] = Object.entries(OPTIONS);
  const options = specs
    .filter(([, spec]) => !isForMoving(spec))
    .map(([name, spec]) => entry(optionHeading(name, spec), spec.help + notes(spec)));
  const movingOptions = specs
    .filter(([, spec]) => isForMoving(spec))
    .map(([name, spec]) => entry(optionHeading(name, spec), spec.help + movingNotes(spec)));
  return [
    'Usage: ext4-defrag [COMMAND] [OPTION]... TARGET...',
    '',
    'Defragments ext4 while it is in use. A TARGET is a file, a directory, a mount',
    'point or the block device of a mounted ext4; one named like a command is given',
    'as ./NAME. The FILE of apply is one that plan -o or --keep-undo has written.',
    '',
    'Commands:',
    ...commands,
    '',
    'Options:',
    ...options,
    '',
    'Options of defrag, apply and space --consolidate:',
    ...movingOptions,
    '',
    ...valueLines(['SIZE', 'TIME', 'MS', 'PERCENT', 'PROFILE']),
    '',
    ...wrap(SIGNALS_TEXT, WIDTH),
    '',
    ...wrap(`Exit status: ${EXIT_TEXTS.map(([code, text]) => `${code} ${text}`).join('; ')}.`, WIDTH),
    '',
  ].join('\n');
}

const valueLines = (names: readonly (keyof typeof VALUES)[]): string[] =>
  names.map((name) => entry(name, VALUES[name]));

function optionHeading(name: string, { short, value }: OptionSpec): string {
  return `${short ? `-${short}, ` : '    '}--${name}${value ? ` ${value}` : ''}`;
}

/** Whether only commands that move files have an option. */
const isForMoving = ({ commands = [] }: OptionSpec): boolean =>
  commands.includes('defrag') && commands.every((command) => MOVING.includes(command));

function movingNotes({ commands = [] }: OptionSpec): string {
  if (!commands.includes('apply')) return ' (defrag only)';
  return commands.includes('space') ? '' : ' (not space)';
}

function notes({ commands, repeatable }: OptionSpec): string {
  const all = [...(repeatable ? ['repeatable'] : []), ...(commands ? whose(commands) : [])];
  return all.length > 0 ? ` (${all.join('; ')})` : '';
}

/** Which of the commands that take targets have an option: the shorter way to say it. */
function whose(commands: readonly Command[]): string[] {
  const others = (Object.keys(COMMANDS) as Command[]).filter(
    (command) => COMMANDS[command].takesTargets && !commands.includes(command),
  );
  if (others.length === 0) return [];
  return [others.length < commands.length ? `not ${others.join(', ')}` : `${commands.join(', ')} only`];
}

function entry(heading: string, text: string): string {
  const lines = wrap(text, WIDTH - COLUMN);
  const first = `  ${heading}`.padEnd(COLUMN);
  const rest = lines.map((line) => ' '.repeat(COLUMN) + line);
  // A heading that leaves no gap has the line for itself.
  if (!first.endsWith('  ')) return [first.trimEnd(), ...rest].join('\n');
  return [first + lines[0], ...rest.slice(1)].join('\n');
}
