import { COMMANDS, SHELLS, visibleCommands, type Command, type OptionSpec } from '../options.ts';
import { optionsOf } from '../manual/words.ts';
import { optionsWithValue, quoted, spellings } from './completion.ts';

/** Completion for zsh: which command it is decides which options and operands _arguments is told of. */
export function zshCompletion(): string {
  const commands = Object.keys(COMMANDS) as Command[];
  const withValue = optionsWithValue().flatMap(([name, spec]) => spellings(name, spec));
  return `#compdef ext4-defrag
# zsh completion for ext4-defrag(8), made from its table of options.

_ext4-defrag_commands() {
  local -a commands=(
${visibleCommands()
  .map((command) => `    ${quoted(`${command}:${COMMANDS[command].help.replaceAll(':', '\\:')}`)}`)
  .join('\n')}
  )
  _describe -t commands command commands
}

_ext4-defrag_first() {
  _alternative 'commands:command:_ext4-defrag_commands' 'targets:target:_files'
}

_ext4-defrag() {
  local command= word skip=
  local -a options
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if [[ -n $skip ]]; then
      skip=
      continue
    fi
    case $word in
      (--) command=\${command:-defrag}; break ;;
      (-c|--check) command=check ;;
      (${withValue.join('|')}) skip=1 ;;
      (-*) ;;
      (${commands.join('|')}) command=$word; break ;;
      (*) command=defrag; break ;;
    esac
  done
  case \${command:-defrag} in
${commands.map((command) => `    (${command})\n      options=(\n${specsOf(command).join('\n')}\n      )\n      ;;`).join('\n')}
  esac
  if [[ -z $command ]]; then
    _arguments -s -S : $options '1: :_ext4-defrag_first' '*:target:_files'
    return
  fi
  case $command in
${commands.map((command) => `    (${command}) _arguments -s -S : $options ${operandSpecs(command)} ;;`).join('\n')}
  esac
}

_ext4-defrag "$@"
`;
}

const specsOf = (command: Command): string[] =>
  optionsOf(command).map(([name, spec]) => `        ${optionSpec(name, spec)}`);

function optionSpec(name: string, spec: OptionSpec): string {
  const { value, choices, repeatable, help } = spec;
  const text = `[${help.replace(/[[\]:\\]/g, '\\$&')}]`;
  const action = choices ? `(${choices.join(' ')})` : value === 'FILE' ? '_files' : ' ';
  const argument = value === undefined ? '' : `:${value}:${action}`;
  const all = spellings(name, spec);
  const exclusive = repeatable ? '*' : all.length > 1 ? `(${all.join(' ')})` : '';
  // A value may follow a long option behind "=" or as the next word, and a short one at once.
  const words = all.map((word) =>
    value === undefined ? word : word.startsWith('--') ? `${word}=` : `${word}+`,
  );
  return words.length === 1
    ? quoted(`${exclusive}${words[0]}${text}${argument}`)
    : `${quoted(exclusive)}{${words.join(',')}}${quoted(text + argument)}`;
}

/** What an explicit command takes: its own name is the first operand. */
function operandSpecs(command: Command): string {
  const { takesTargets, takesWord } = COMMANDS[command];
  if (takesTargets) return quoted('*:target:_files');
  if (takesWord === undefined) return "'*: : '";
  if (takesWord === 'COMMAND') return "'1: : ' '2: :_ext4-defrag_commands'";
  return `'1: : ' ${quoted(`2:shell:(${SHELLS.join(' ')})`)}`;
}
