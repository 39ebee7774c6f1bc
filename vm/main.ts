// `npm run vm`: a command in a guest, with its output and exit status.
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { VmFailure } from './failure.ts';
import { parseCommandLine, usage, UsageError, type CommandLine } from './options.ts';
import { runInVm } from './run.ts';

const shownLogLines = 60;

function say(text: string): void {
  process.stderr.write(`vm: ${text}\n`);
}

function readCommandLine(): CommandLine | undefined {
  try {
    return parseCommandLine(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    say(`${error.message} (see --help)`);
    return undefined;
  }
}

/**
 * A signal stops the guest and removes what belongs to the run; this process then ends with the signal's
 * status. It may come more than once, from the terminal and from the program that started this one.
 */
function stopOnSignals(): { signal: AbortSignal; status: () => number | undefined } {
  const controller = new AbortController();
  let status: number | undefined;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      status = 128 + constants.signals[name];
      controller.abort();
    });
  }
  return { signal: controller.signal, status: () => status };
}

async function run({ vm, log }: CommandLine): Promise<number> {
  const stop = stopOnSignals();
  const { stdout, stderr } = process;
  let kernelLog = '';
  try {
    if (log !== undefined) await writeFile(log, ''); // better to fail now than after the run
    const result = await runInVm({ ...vm, stdout, stderr, say, signal: stop.signal });
    kernelLog = result.kernelLog;
    return result.exitCode;
  } catch (error) {
    if (isSystemError(error)) {
      say(error.message);
      return 125;
    }
    if (!(error instanceof VmFailure)) throw error;
    kernelLog = error.kernelLog;
    if (kernelLog.trim() !== '' && error.kind !== 'aborted') showEnd(kernelLog);
    say(error.message);
    return stop.status() ?? (error.kind === 'timeout' ? 124 : 125);
  } finally {
    if (log !== undefined && kernelLog !== '') await writeFile(log, kernelLog);
  }
}

/** A folder that cannot be written, a full disk: no fault of this program. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

function showEnd(kernelLog: string): void {
  const lines = kernelLog.trimEnd().split('\n').slice(-shownLogLines);
  process.stderr.write(`--- end of the guest's kernel log ---\n${lines.join('\n')}\n---\n`);
}

const commandLine = readCommandLine();
if (commandLine?.help) process.stdout.write(usage);
else process.exitCode = commandLine ? await run(commandLine) : 2;
