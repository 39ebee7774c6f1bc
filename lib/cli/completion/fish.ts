import { COMMANDS, SHELLS, visibleCommands, type Command } from '../options.ts';
import { optionsWithValue, quoted, spellings } from './completion.ts';
import { OPTIONS, type OptionSpec } from '../options.ts';

/** Completion for fish. */
export function fishCompletion(): string {
  const commands = Object.keys(COMMANDS) as Command[];
  const withValue = optionsWithValue().flatMap(([name, spec]) => spellings(name, spec));
  const wordless = commands.filter((command) => !COMMANDS[command].takesTargets);
  return `# fish completion for ext4-defrag(8), made from its table of options.

# Prints the command of the line before the cursor, and "none" before there is an operand.
function __ext4_defrag_command
    set -l words (commandline -opc)
    set -l skip
    set -l command none
    for word in $words[2..-1]
        if test -n "$skip"
            set skip
            continue
        end
        switch $word
            case --
                echo defrag
                return
            case -c --check
                set command check
            case ${withValue.join(' ')}
                set skip 1
            case '-*'
            case ${commands.join(' ')}
                echo $word
                return
            case '*'
                test $command = none; and set command defrag
                echo $command
                return
        end
    end
    echo $command
end

# Whether it is one of these commands.
function __ext4_defrag_is
    contains -- (__ext4_defrag_command) $argv
end

${visibleCommands()
  .map((command) => rule('none', `-a ${command} -d ${quoted(COMMANDS[command].help)}`))
  .join('\n')}
${wordless.map((command) => rule(command, ['-f', ...wordsOf(command)].join(' '))).join('\n')}
${Object.entries<OptionSpec>(OPTIONS)
  .map(([name, spec]) => optionRule(name, spec))
  .join('\n')}
`;
}

const rule = (commands: string, what: string): string =>
  `complete -c ext4-defrag -n '__ext4_defrag_is ${commands}' ${what}`;

function wordsOf(command: Command): string[] {
  const { takesWord } = COMMANDS[command];
  if (takesWord === undefined) return [];
  return ['-a', quoted((takesWord === 'SHELL' ? SHELLS : visibleCommands()).join(' '))];
}

function optionRule(name: string, { short, value, choices, commands, help }: OptionSpec): string {
  // Without a command it is defrag, or check by its option.
  const where = commands && [
    ...commands,
    ...(commands.includes('defrag') || name === 'check' ? ['none'] : []),
  ];
  const argument = choices
    ? `-x -a ${quoted(choices.join(' '))}`
    : value === 'FILE'
      ? '-r -F'
      : value
        ? '-x'
        : '';
  const what = [short && `-s ${short}`, `-l ${name}`, argument, `-d ${quoted(help)}`]
    .filter(Boolean)
    .join(' ');
  return where === undefined ? `complete -c ext4-defrag ${what}` : rule(where.join(' '), what);
}
