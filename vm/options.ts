// The command line of `npm run vm`.
import { defaultKernel, kernelNames } from './kernels.ts';
import { defaultMemory, defaultTimeout, type VmOptions } from './run.ts';

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface CommandLine {
  readonly help: boolean;
  readonly log: string | undefined;
  readonly vm: VmOptions;
}

export const usage = `Usage: npm run vm -- [OPTION]... COMMAND [ARGUMENT]...

Runs a command as root in a virtual machine with a Debian kernel, in a copy of the project (/project).
COMMAND alone is a line for the shell; with arguments it is run as given. Its output and exit status
are passed on. TMPDIR is /scratch, an ext4 of 16 GiB; nothing the guest writes is kept.

  --kernel KERNEL       ${kernelNames.join(', ')} (default ${defaultKernel}), a kernel package's .deb file,
                        or a folder where one is unpacked
  --memory MIB          memory of the guest (default ${defaultMemory})
  --timeout SECONDS     end a run that takes longer (default ${defaultTimeout})
  --env NAME=VALUE      a variable for the command; may be repeated
  --allow-log REGEX     lines of the kernel log that are expected; may be repeated
  --log FILE            save the kernel log, whatever happens
  --disk FILE           attach a raw disk image, writable, as /dev/extra1, /dev/extra2, ...
  --accel kvm|tcg       do not find out whether KVM works here
  --help                show this and exit

Exit status: the command's; 2 bad usage; 124 out of time; 125 no trustworthy result (the guest did not
say "done", or its kernel log shows a panic, an ext4 or I/O error, a warning or a lockup). A test that
provokes such lines writes "ext4-defrag-vm: expect REGEX" to /dev/kmsg before, and after it
"ext4-defrag-vm: expect" to take that back.
`;

function wholeNumber(option: string, text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`${option} needs a whole number above 0, not "${text}"`);
}

function variable(text: string): [string, string] {
  const [, name, value] = /^([A-Za-z_]\w*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new UsageError(`--env needs NAME=VALUE, not "${text}"`);
  return [name, value];
}

function regularExpression(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new UsageError(`--allow-log: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Options end at the first word that is none, or at "--"; all after that is the command. */
export function parseCommandLine(args: readonly string[]): CommandLine {
  let kernel = defaultKernel;
  let memory = defaultMemory;
  let timeout = defaultTimeout;
  let accelerator: VmOptions['accelerator'];
  let log: string | undefined;
  const env: Record<string, string> = {};
  const allowLog: RegExp[] = [];
  const disks: string[] = [];
  const rest = [...args];
  while (rest[0]?.startsWith('-')) {
    const word = rest.shift() ?? '';
    if (word === '--') break;
    if (word === '--help' || word === '-h') return { help: true, log, vm: { command: [] } };
    const [option = '', attached] = splitOnce(word, '=');
    const value = () => {
      const found = attached ?? rest.shift();
      if (found === undefined || found === '') throw new UsageError(`${option} needs a value`);
      return found;
    };
    switch (option) {
      case '--kernel':
        kernel = value();
        break;
      case '--memory':
        memory = wholeNumber(option, value());
        break;
      case '--timeout':
        timeout = wholeNumber(option, value());
        break;
      case '--env': {
        const [name, content] = variable(value());
        env[name] = content;
        break;
      }
      case '--allow-log':
        allowLog.push(regularExpression(value()));
        break;
      case '--log':
        log = value();
        break;
      case '--disk':
        disks.push(value());
        break;
      case '--accel': {
        const wanted = value();
        if (wanted !== 'kvm' && wanted !== 'tcg')
          throw new UsageError(`--accel is kvm or tcg, not "${wanted}"`);
        accelerator = wanted;
        break;
      }
      default:
        throw new UsageError(`there is no option ${option}`);
    }
  }
  if (rest.length === 0) throw new UsageError('which command shall run in the guest?');
  const vm = { command: rest, kernel, memory, timeout, env, allowLog, disks };
  return { help: false, log, vm: accelerator ? { ...vm, accelerator } : vm };
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
