#!/usr/bin/env node
import { basename } from 'node:path';
import { noteBeginning } from '../move/pace/beginning.ts';
import { EXIT } from './exitCode.ts';
import { parseCommandLine, type CommandLine } from './options.ts';
import { UsageError } from './usageError.ts';

// Everything else is imported when it is needed: --version and --help answer at once.

async function main(program: string, args: readonly string[]): Promise<number> {
  if (basename(program).replace(/\.[cm]?js$/, '') === 'e4defrag') {
    const { e4defrag } = await import('./e4defrag.ts');
    return e4defrag(args);
  }
  try {
    return await execute(await parse(args));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { printableText } = await import('../report/names.ts');
    process.stderr.write(
      `ext4-defrag: ${printableText(error.message)}. Try 'ext4-defrag --help' for the usage.\n`,
    );
    return EXIT.USAGE;
  }
}

async function parse(args: readonly string[]): Promise<CommandLine> {
  const lossy = args.some((argument) => argument.includes('\ufffd'));
  return parseCommandLine(
    args,
    lossy ? (await import('./arguments.ts')).argumentBytes(args.length) : undefined,
  );
}

/** What has pauses: they are measured from the beginning on. */
const MOVING = new Set<string>(['defrag', 'apply', 'consolidate']);

async function execute(line: CommandLine): Promise<number> {
  if (line.kind === 'help') {
    process.stdout.write((await import('./help.ts')).helpText(line.command));
    return EXIT.OK;
  }
  if (line.kind === 'completion') {
    process.stdout.write((await import('./completion/completion.ts')).completionFor(line.shell));
    return EXIT.OK;
  }
  if (line.kind === 'version') {
    const { version } = await import('../report/version.ts');
    process.stdout.write(`ext4-defrag ${version()}\n`);
    return EXIT.OK;
  }
  if (MOVING.has(line.command)) noteBeginning();
  const { command } = line;
  // All at once: one after the other, each would wait for its own files.
  const [{ useColouring }, { useDecimalUnits }, { run }] = await Promise.all([
    import('./terminal.ts'),
    import('../report/format.ts'),
    import('./run.ts'),
  ]);
  useColouring(line.color);
  useDecimalUnits(line.si);
  if (command !== 'demo') return run({ ...line, command });
  const { loadAddon } = await import('./addon.ts');
  if (!loadAddon()) return EXIT.UNSUPPORTED;
  return (await import('./demo.ts')).demo();
}

// A run answers this signal. Without a listener Node would open its debugger, which a process of root must not do.
process.on('SIGUSR1', () => undefined);

process.exitCode = await main(process.argv[1], process.argv.slice(2));
