// The command as the guest gets it: a script, so that every byte of its arguments and variables arrives.

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The variables every command in the guest has; `given` ones win. */
export function guestEnvironment(
  release: string,
  given: Readonly<Record<string, string>>,
): Record<string, string> {
  return {
    PATH: '/project/node_modules/.bin:/usr/bin',
    HOME: '/root',
    LANG: 'C.UTF-8',
    TMPDIR: '/scratch',
    CI: '1',
    NO_COLOR: '1',
    EXT4_DEFRAG_IN_VM: release,
    ...given,
  };
}

/** One word is a line for the shell, several are a program and its arguments, taken as they are. */
export function jobScript(command: readonly string[], environment: Readonly<Record<string, string>>): string {
  const [line] = command;
  const program = command.length === 1 && line !== undefined ? ['/usr/bin/bash', '-c', line] : command;
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const words = ['/usr/bin/env', '-i', ...variables, ...program];
  return `#!/bin/sh\ncd /project\nexec ${words.map(quoted).join(' ')}\n`;
}
