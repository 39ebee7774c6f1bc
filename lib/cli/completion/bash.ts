import { COMMANDS, SHELLS, visibleCommands, type Command } from '../options.ts';
import { optionsOf } from '../manual/words.ts';
import { optionsWithValue, spellings } from './completion.ts';

/**
 * Completion for bash, which needs no package of it. Readline takes "=" for a word of its own, unless the user has
 * taken it out of COMP_WORDBREAKS.
 */
export function bashCompletion(): string {
  const commands = Object.keys(COMMANDS) as Command[];
  return `# bash completion for ext4-defrag(8), made from its table of options.

_ext4_defrag_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_ext4_defrag_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

# The values of the option $1 that begin with $2.
_ext4_defrag_value() {
    case $1 in
${valueCases()}
    *) COMPREPLY=() ;;
    esac
}

_ext4_defrag() {
    local cur=\${COMP_WORDS[COMP_CWORD]} word option= command= named= literal= operands=0 i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=\${COMP_WORDS[i]}
        if [[ $option ]]; then
            [[ $word == = ]] || option=
        elif [[ ! $literal && $word == -* ]]; then
            case $word in
            --) literal=1 ;;
            -c | --check) command=check ;;
            ${optionsWithValue()
              .flatMap(([name, spec]) => spellings(name, spec))
              .join(' | ')}) option=$word ;;
            esac
        elif [[ $word == = ]]; then
            :
        elif [[ ! $literal && ! $named && $operands == 0 && " ${commands.join(' ')} " == *" $word "* ]]; then
            command=$word named=1
        else
            ((operands += 1))
        fi
    done
    if [[ $option ]]; then
        _ext4_defrag_value "$option" "\${cur#=}"
    elif [[ ! $literal && $cur == --*=* ]]; then
        _ext4_defrag_value "\${cur%%=*}" "\${cur#*=}"
        COMPREPLY=("\${COMPREPLY[@]/#/\${cur%%=*}=}")
    elif [[ ! $literal && $cur == -* ]]; then
        case \${command:-defrag} in
${commands.map((command) => `        ${command}) _ext4_defrag_words '${optionWords(command)}' "$cur" ;;`).join('\n')}
        esac
    else
        case $command in
${commands.map((command) => `        ${command}) ${operandAction(command)} ;;`).join('\n')}
        *)
            _ext4_defrag_files "$cur"
            if [[ ! $literal && $operands == 0 ]]; then
                mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -W '${visibleCommands().join(' ')}' -- "$cur")
            fi
            ;;
        esac
    fi
}

complete -F _ext4_defrag ext4-defrag
`;
}

function valueCases(): string {
  return optionsWithValue()
    .flatMap(([name, spec]) => {
      const action =
        spec.choices !== undefined
          ? `_ext4_defrag_words '${spec.choices.join(' ')}' "$2"`
          : spec.value === 'FILE'
            ? '_ext4_defrag_files "$2"'
            : undefined;
      return action === undefined ? [] : [`    ${spellings(name, spec).join(' | ')}) ${action} ;;`];
    })
    .join('\n');
}

const optionWords = (command: Command): string =>
  optionsOf(command)
    .flatMap(([name, spec]) => spellings(name, spec))
    .join(' ');

function operandAction(command: Command): string {
  const { takesTargets, takesWord } = COMMANDS[command];
  if (takesTargets) return '_ext4_defrag_files "$cur"';
  if (takesWord === undefined) return ':';
  const words = takesWord === 'SHELL' ? SHELLS : visibleCommands();
  return `((operands)) || _ext4_defrag_words '${words.join(' ')}' "$cur"`;
}
