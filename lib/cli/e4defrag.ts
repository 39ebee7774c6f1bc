import { parseArgs } from 'node:util';
import { defragment } from '../move/defragment.ts';
import { E4DEFRAG_USAGE } from '../report/e4defrag.ts';
import type { Event } from '../report/events.ts';
import { err, out } from '../report/reporter.ts';
import { check } from '../scan/check.ts';
import { argumentBytes } from './arguments.ts';
import { loadAddon } from './addon.ts';
import { Console } from './console.ts';
import { TargetReport } from './e4defrag/report.ts';
import { EXIT, type ExitCode } from './exitCode.ts';
import { keepHeapSmall, keepNurserySmall } from './memory.ts';
import { Output } from './output.ts';
import { finish, report } from './run.ts';
import { StopSignals } from './signals.ts';
import { version } from '../report/version.ts';

interface Arguments {
  readonly statistics: boolean;
  readonly verbose: boolean;
  readonly targets: readonly (string | Buffer)[];
}

/** Takes e4defrag's arguments, and prints and exits as it does. */
export async function e4defrag(args: readonly string[]): Promise<number> {
  const console = new Console(new Output(process.stdout), new Output(process.stderr));
  await console.print([out(`e4defrag (ext4-defrag ${version()})`)]);
  const parsed = parse(args);
  if (typeof parsed === 'string' || parsed.targets.length === 0) {
    if (typeof parsed === 'string') await console.print([err(`e4defrag: invalid option -- '${parsed}'`)]);
    await console.print(E4DEFRAG_USAGE.map(out));
    return finish(EXIT.FAILED, console);
  }
  if (!loadAddon()) return EXIT.UNSUPPORTED;
  keepNurserySmall();
  if (!parsed.statistics) keepHeapSmall();
  return finish(await runAll(parsed, console), console);
}

/** The arguments, or the option that e4defrag does not have. */
function parse(args: readonly string[]): Arguments | string {
  const { tokens } = parseArgs({
    args: [...args],
    options: { statistics: { type: 'boolean', short: 'c' }, verbose: { type: 'boolean', short: 'v' } },
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const bytesOf = argumentBytes(args.length);
  const flags = new Set<string>();
  const targets: (string | Buffer)[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') {
      targets.push(token.value.includes('\ufffd') ? (bytesOf(token.index) ?? token.value) : token.value);
    } else if (token.kind === 'option') {
      if (token.rawName !== '-c' && token.rawName !== '-v') return token.rawName.replace(/^-/, '')[0];
      flags.add(token.name);
    }
  }
  return { statistics: flags.has('statistics'), verbose: flags.has('verbose'), targets };
}

/** Each target is a run of its own: e4defrag counts, and sums up, for each. */
async function runAll({ statistics, verbose, targets }: Arguments, console: Console): Promise<ExitCode> {
  using stop = new StopSignals(() => {
    void console.warn('stopping: finishing the chunk in hand');
  });
  const options = { verbose, root: process.getuid?.() === 0, statistics };
  let anySuccess = false;
  for (const [i, target] of targets.entries()) {
    if (statistics && i > 0) await console.print([out('')]);
    // e4defrag tells of every file.
    const engine = { everyFile: true, signal: stop.signal };
    // Scripts run several at a time.
    const events: AsyncIterable<Event> = statistics
      ? check([target], engine)
      : defragment([target], { ...engine, priority: 'idle', wait: true });
    const targetReport = new TargetReport(options);
    const code = await report(events, (event) => targetReport.lines(event), console);
    if (code === EXIT.INTERRUPTED) return code;
    anySuccess ||= targetReport.succeeded;
  }
  return anySuccess ? EXIT.OK : EXIT.FAILED;
}
