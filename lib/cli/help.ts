import { COMMANDS, OPTIONS, type OptionSpec } from './options.ts';

const WIDTH = 80;
const COLUMN = 28;

/** The text of --help, made from the tables of commands and options. */
export function helpText(): string {
  const commands = Object.entries(COMMANDS).map(([name, { help }]) => entry(name, help));
  const options = Object.entries(OPTIONS).map(([name, spec]: [string, OptionSpec]) =>
    entry(optionHeading(name, spec), spec.help + onlyFor(spec)),
  );
  return [
    'Usage: ext4-defrag [COMMAND] [OPTION]... TARGET...',
    '',
    'Defragments ext4 while it is in use. A TARGET is a file, a directory, a mount',
    'point or the block device of a mounted ext4; one named like a command is given',
    'as ./NAME.',
    '',
    'Commands:',
    ...commands,
    '',
    'Options:',
    ...options,
    '',
    'SIZE is in bytes, or has a suffix K, M, G or T (powers of 1024).',
    'PROFILE is seek=TIME,bandwidth=SIZE, or one of them: what a jump on the device',
    'costs, in s, ms or us, and what it reads a second: seek=12ms,bandwidth=180M.',
    '',
    'Exit status: 0 done, or nothing needed; 1 some file failed; 2 usage; 3 target or',
    'kernel not supported; 130 stopped by a signal, with the chunk in hand finished.',
    '',
  ].join('\n');
}

function optionHeading(name: string, { short, value }: OptionSpec): string {
  return `${short ? `-${short}, ` : '    '}--${name}${value ? ` ${value}` : ''}`;
}

function onlyFor({ commands, repeatable }: OptionSpec): string {
  const targeted = Object.entries(COMMANDS).filter(([, { takesTargets }]) => takesTargets);
  const notes = [
    ...(repeatable ? ['repeatable'] : []),
    ...(commands && commands.length < targeted.length ? [`${commands.join(', ')} only`] : []),
  ];
  return notes.length > 0 ? ` (${notes.join('; ')})` : '';
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
