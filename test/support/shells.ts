import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { completionFor } from '../../lib/cli/completion/completion.ts';
import type { Shell } from '../../lib/cli/options.ts';

/** Whether a program can be run here. */
export async function isInstalled(program: string): Promise<boolean> {
  return (await execa('sh', ['-c', 'command -v "$0"', program], { reject: false })).exitCode === 0;
}

/** A folder to complete names of, with the shells' completion scripts beside it. */
export class Shells implements AsyncDisposable {
  readonly folder: string;
  readonly files: string;

  static async create(): Promise<Shells> {
    const shells = new Shells(await mkdtemp(join(tmpdir(), 'ext4-defrag-shells-')));
    await mkdir(shells.files);
    await writeFile(shells.script('bash'), completionFor('bash'));
    await writeFile(shells.script('zsh'), completionFor('zsh'));
    await writeFile(shells.script('fish'), completionFor('fish'));
    return shells;
  }

  private constructor(folder: string) {
    this.folder = folder;
    this.files = join(folder, 'files');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true });
  }

  script(shell: Shell): string {
    return join(this.folder, shell === 'zsh' ? '_ext4-defrag' : `ext4-defrag.${shell}`);
  }

  /** What a shell offers at the end of each line, sorted. */
  async offers(shell: Shell, lines: readonly string[]): Promise<string[][]> {
    const texts = await this.#ask[shell](lines);
    return texts.map((text) => [...new Set(text.split('\n').filter(Boolean))].sort());
  }

  readonly #ask: Readonly<Record<Shell, (lines: readonly string[]) => Promise<string[]>>> = {
    bash: (lines) => this.#bash(lines),
    zsh: (lines) => this.#zsh(lines),
    fish: (lines) => this.#fish(lines),
  };

  /** With readline's part played: the line's words, among which "=" is one. */
  async #bash(lines: readonly string[]): Promise<string[]> {
    const input = lines.map((line) => `${line.replaceAll('=', ' = ')}\n`).join('');
    const args = ['--norc', '-c', BASH, this.script('bash')];
    return answers((await execa('bash', args, { cwd: this.files, input })).stdout);
  }

  async #fish(lines: readonly string[]): Promise<string[]> {
    const script = 'source $argv[1]; for line in $argv[2..-1]; echo LINE; complete -C $line; end';
    const env = { HOME: this.folder, XDG_CONFIG_HOME: this.folder, XDG_DATA_HOME: this.folder };
    const args = ['--no-config', '-c', script, this.script('fish'), ...lines];
    const { stdout } = await execa('fish', args, { cwd: this.files, env });
    return answers(stdout.replace(/\t.*$/gm, '').replace(/^--[a-z-]+=/gm, ''));
  }

  /** A zsh on a terminal of its own: completion exists in its line editor only. */
  async #zsh(lines: readonly string[]): Promise<string[]> {
    const answer = join(this.folder, 'answer');
    await rm(answer, { force: true });
    await writeFile(join(this.folder, 'lines'), lines.map((line) => `${line}\n`).join(''));
    await writeFile(join(this.folder, 'asked.zsh'), ASKED);
    const env = { FOLDER: this.folder, TERM: 'xterm', ZDOTDIR: this.folder };
    await execa('zsh', ['-f', '-c', ASKING], { cwd: this.files, env, timeout: 60_000 });
    return answers(await readFile(answer, 'utf8'));
  }
}

const answers = (text: string): string[] => text.split(/^LINE$/m).slice(1);

const BASH = `
source "$0"
while IFS= read -r line; do
  read -ra COMP_WORDS <<<"$line"
  [[ $line == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
  _ext4_defrag
  printf '%s\\n' LINE "\${COMPREPLY[@]}"
done
`;

/** Notes what completion adds, for each line of a file. */
const ASKED = `
fpath=($FOLDER $fpath)
autoload -Uz compinit
compinit -u -D
compadd() {
  local word
  local -a found
  for word in "$@"; do
    [[ $word == (-|--) ]] && break
    if [[ $word == -[OAD] ]]; then
      builtin compadd "$@"
      return
    fi
  done
  builtin compadd -O found "$@"
  print -rl -- $found >> $FOLDER/answer
  builtin compadd "$@"
}
ask() {
  local line
  while IFS= read -r line; do
    BUFFER=$line CURSOR=\${#line}
    print -r LINE >> $FOLDER/answer
    zle list-choices
  done < $FOLDER/lines
  exit
}
zle -N ask
bindkey '^X' ask
`;

const ASKING = `
zmodload zsh/zpty
zpty asked zsh -f -i
zpty -w asked 'source $FOLDER/asked.zsh'
zpty -w -n asked $'\\x18'
while zpty -r asked text; do :; done
exit 0
`;
