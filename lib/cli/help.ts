import { COMMANDS, OPTIONS, type Command, type OptionSpec } from './options.ts';

/** Commands that move files. */
const MOVING: readonly Command[] = ['defrag', 'apply', 'space'];

const WIDTH = 80;
const COLUMN = 28;

/** The text of --help, made from the tables of commands and options. */
export function helpText(): string {
  const commands = Object.entries(COMMANDS).map(([name, { help }]) => entry(name, help));
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
    'SIZE is in bytes, or has a suffix K, M, G or T (powers of 1024). TIME is in',
    'seconds, or has units d, h, m and s: 90, 30m, 1h30m. MS is in milliseconds, or',
    'has a unit ms or s. PERCENT is above 0, and 100 at most; the one of --reserve',
    'may be 0 and is 99 at most. Anybody but root leaves what is reserved for root.',
    'PROFILE is seek=TIME,bandwidth=SIZE, or one of them: what a jump on the device',
    'costs, in s, ms or us, and what it reads a second: seek=12ms,bandwidth=180M.',
    '',
    'The signal USR1 makes it print on standard error how far it is.',
    '',
    'Exit status: 0 done, or nothing needed; 1 some file failed; 2 usage; 3 target or',
    'kernel not supported; 4 ended at a limit (--time-limit, --max-bytes,',
    '--max-written-percent), run it again to go on; 130 stopped by a signal, with the',
    'chunk in hand finished.',
    '',
  ].join('\n');
}

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

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
