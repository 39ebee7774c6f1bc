import { OPTIONS, visibleCommands, type Command, type OptionSpec } from '../options.ts';
import { COMMAND_MANUAL, type Example } from './commands.ts';
import { wrap } from './wrap.ts';
import { EXIT_TEXTS, operandsOf, optionsOf, SIGNALS_TEXT, VALUES } from './words.ts';

/**
 * The manual page ext4-defrag(8), in mdoc(7), made from the tables of commands and options.
 *
 * @param date of the page
 */
export function manualPage(date: Date): string {
  return [
    '.\\" Made from the tables in lib/cli: change those.',
    `.Dd ${mdocDate(date)}`,
    '.Dt EXT4-DEFRAG 8',
    '.Os',
    '.Sh NAME',
    '.Nm ext4-defrag',
    '.Nd defragment ext4 while it is in use',
    '.Sh SYNOPSIS',
    ...visibleCommands().flatMap(synopsis),
    '.Sh DESCRIPTION',
    '.Nm',
    ...paragraphs(DESCRIPTION),
    '.Sh COMMANDS',
    ...list(visibleCommands().flatMap(commandItem)),
    '.Sh OPTIONS',
    textLine('What stands in brackets are the commands that have an option; without brackets all have it.'),
    ...list(Object.entries<OptionSpec>(OPTIONS).flatMap(([name, spec]) => optionItem(name, spec))),
    '.Ss Values',
    ...list(Object.entries(VALUES).flatMap(([name, text]) => [`.It Ar ${name}`, textLine(text)])),
    '.Sh SIGNALS',
    textLine(SIGNALS_TEXT),
    textLine(
      'INT, TERM and HUP end it: the chunk in hand is finished and committed first. KILL loses nothing either; the next run puts right what the one before could not.',
    ),
    '.Sh ENVIRONMENT',
    ...list(ENVIRONMENT.flatMap(([name, text]) => [`.It Ev ${name}`, textLine(text)])),
    '.Sh FILES',
    ...list(FILES.flatMap(([path, text]) => [`.It Pa ${escape(path)}`, textLine(text)])),
    '.Sh EXIT STATUS',
    ...list(EXIT_TEXTS.flatMap(([code, text]) => [`.It ${code}`, textLine(text)])),
    '.Sh EXAMPLES',
    ...apart(
      visibleCommands()
        .flatMap((command) => COMMAND_MANUAL[typed(command)].examples)
        .map(exampleLines),
    ),
    '.Sh SEE ALSO',
    ...SEE_ALSO.map(([name, section], i) => `.Xr ${name} ${section}${i < SEE_ALSO.length - 1 ? ' ,' : ''}`),
    '.Sh CAVEATS',
    ...paragraphs(CAVEATS),
    '',
  ].join('\n');
}

const DESCRIPTION = [
  'makes fragmented files of a mounted ext4 contiguous. It moves only what is worth moving, in large ranges, and asks the kernel where the file lies afterwards. Other processes may go on using the files.',
  'A TARGET is a file, a directory, a mount point or the block device of a mounted ext4; one that is named like a command is given as ./NAME. Without a command targets are defragmented.',
  'Called under the name e4defrag it takes the arguments of that program and prints what that program prints.',
];

const ENVIRONMENT: readonly (readonly [name: string, text: string])[] = [
  ['NO_COLOR', 'If it is set and not empty, nothing is coloured, unless --color says so.'],
  ['TERM', 'If it is dumb, nothing is coloured, unless --color says so.'],
  [
    'STATE_DIRECTORY',
    'Where runs keep what the next one can use, as systemd sets it; instead of the folder below.',
  ],
  ['XDG_STATE_HOME', 'Of users other than root: the folder that holds theirs, ~/.local/state by default.'],
];

const FILES: readonly (readonly [path: string, text: string])[] = [
  [
    '/var/lib/ext4-defrag',
    'For each filesystem what a run leaves for the next: how far it came, and which files fragment again. It may be removed at any time.',
  ],
  ['/run/ext4-defrag', "The filesystem's own settings, while one of them is changed."],
];

const SEE_ALSO: readonly (readonly [name: string, section: number])[] = [
  ['chattr', 1],
  ['ionice', 1],
  ['ext4', 5],
  ['e4defrag', 8],
  ['filefrag', 8],
  ['fstrim', 8],
];

const CAVEATS = [
  'A filesystem that cannot be kept safe is refused by name: one without a journal or with data=journal, bigalloc, DAX, and fast_commit before Linux 7.0.',
  'A reserve of free space is never touched. What finds no place is left as it was, with the reason.',
  'Solid-state disks gain little: they have no seeks, and what is moved is written once more.',
];

/** Commands that help names are those that the manual knows. */
const typed = (command: Command) => command as Exclude<Command, 'completion'>;

function synopsis(command: Command): string[] {
  const name = command === 'defrag' ? '.Op Cm defrag' : `.Cm ${command}`;
  const options = optionsOf(command).length > 2 ? ['.Op Ar options'] : [];
  return ['.Nm', name, ...options, ...operands(command)];
}

/** "FILE [TARGET]" or "TARGET..." as macros. */
function operands(command: Command): string[] {
  return operandsOf(command)
    .split(' ')
    .filter(Boolean)
    .map((word) => {
      const name = word.replace(/[[\].]/g, '').toLowerCase();
      return `${word.startsWith('[') ? '.Op Ar' : '.Ar'} ${name}${word.endsWith('...') ? ' ...' : ''}`;
    });
}

function commandItem(command: Command): string[] {
  return [`.It Cm ${command}`, ...paragraphs(COMMAND_MANUAL[typed(command)].text)];
}

function optionItem(name: string, { short, value, help, commands, repeatable }: OptionSpec): string[] {
  const argument = value ? ` Ar ${value}` : '';
  const heading = short
    ? `.It Fl ${short}${argument} , Fl -${name}${argument}`
    : `.It Fl -${name}${argument}`;
  const notes = [...(commands ?? []), ...(repeatable ? ['may be repeated'] : [])];
  return [
    heading,
    textLine(sentence(help)),
    ...(notes.length > 0 ? [textLine(`[${notes.join(', ')}]`)] : []),
  ];
}

const exampleLines = ({ what, command }: Example): string[] => [
  textLine(`${what}:`),
  `.Dl ${escape(command)}`,
];

const paragraphs = (texts: readonly string[]): string[] => apart(texts.map((text) => [textLine(text)]));

/** Blocks of lines with a paragraph's space between them. */
const apart = (blocks: readonly string[][]): string[] =>
  blocks.flatMap((block, i) => (i > 0 ? ['.Pp', ...block] : block));

const list = (items: readonly string[]): string[] => ['.Bl -tag -width indent', ...items, '.El'];

const sentence = (text: string): string => `${text[0].toUpperCase()}${text.slice(1)}.`;

const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);

const mdocDate = (date: Date): string =>
  `${MONTHS[date.getUTCMonth()]} ${date.getUTCDate()}, ${date.getUTCFullYear()}`;

/** What is to be typed as it stands: a minus is no hyphen. */
const escape = (text: string): string =>
  text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('~', '\\(ti');

/** Text that is filled, with each sentence on lines of its own. What begins with a minus in it is to be typed. */
function textLine(text: string): string {
  return text
    .split(/(?<=[.:]) (?=[A-Z])/)
    .flatMap((sentence) => wrap(sentence, 70))
    .join('\n')
    .replaceAll('\\', '\\e')
    .replaceAll('~', '\\(ti')
    .replace(/(?<![\w-])--?\w[\w-]*/g, (option) => option.replaceAll('-', '\\-'))
    .replace(/^(?=[.'])/gm, '\\&');
}
