import { check } from '../scan/check.ts';
import { map } from '../scan/map.ts';
import { explain } from '../explain/explain.ts';
import { space } from '../scan/space.ts';
import { apply } from '../move/apply.ts';
import { consolidate } from '../move/consolidate.ts';
import type { DefragmentOptions } from '../move/defragment.ts';
import { defragmentAndReport } from '../move/defragmentAndReport.ts';
import { PlanFileError } from '../plan/planFile.ts';
import { plan } from '../plan/planTargets.ts';
import { named, type Event } from '../report/events.ts';
import { JsonReporter } from '../report/json.ts';
import { printable, printableText } from '../report/names.ts';
import type { Line } from '../report/reporter.ts';
import { textReporter } from '../report/text.ts';
import { loadAddon } from './addon.ts';
import { Console } from './console.ts';
import { EXIT, exitCodeOf, type ExitCode } from './exitCode.ts';
import { keepNurserySmall } from './nursery.ts';
import { MetricsFile, withoutMetrics } from './metricsFile.ts';
import type { Invocation } from './options.ts';
import { Output } from './output.ts';
import { onStatusSignal, StopSignals } from './signals.ts';
import { mapStyleFor, styleFor } from './terminal.ts';

/** A plan file, and perhaps the filesystem that is meant. */
const applyFile = ([file, target]: readonly (string | Buffer)[], options: DefragmentOptions) =>
  apply(file, { ...options, target });

const ENGINE = {
  defrag: defragmentAndReport,
  check,
  plan,
  explain,
  apply: applyFile,
  space,
  map,
  consolidate,
};

/** What finishes something when it is stopped. */
const MOVING: ReadonlySet<EngineCommand> = new Set(['defrag', 'apply', 'consolidate']);

/** The commands that are one run of the engine. */
export type EngineCommand = keyof typeof ENGINE;

type EngineInvocation = Invocation & { readonly command: EngineCommand };

/**
 * Runs a command of the engine and reports what happens.
 *
 * @throws UsageError
 */
export async function run(invocation: EngineInvocation): Promise<ExitCode> {
  const { command, metrics: path } = invocation;
  const metrics = path === undefined ? undefined : await MetricsFile.open(path, invocation);
  keepNurserySmall();
  const console = new Console(new Output(process.stdout), new Output(process.stderr));
  using stop = new StopSignals(
    () => void console.warn(MOVING.has(command) ? 'stopping: finishing the chunk in hand' : 'stopping'),
    // A call in the kernel cannot be taken back, by no signal.
    () => void console.warn('still waiting: the filesystem may be frozen (fsfreeze), or its device slow'),
  );
  // What is left when something is thrown.
  let code: ExitCode = EXIT.FAILED;
  try {
    code = await runReported(invocation, console, metrics, stop.signal);
  } finally {
    const failure = await metrics?.write(code, stop.signal);
    if (failure !== undefined) {
      await console.warn(failure);
      code = withoutMetrics(code);
    }
  }
  return code;
}

async function runReported(
  invocation: EngineInvocation,
  console: Console,
  metrics: MetricsFile | undefined,
  signal: AbortSignal,
): Promise<ExitCode> {
  if (!loadAddon()) return EXIT.UNSUPPORTED;
  const stopTelling = onStatusSignal(() => void console.tellStatus());
  try {
    return await finish(await runEngine(invocation, console, metrics, signal), console);
  } catch (error) {
    if (!(error instanceof PlanFileError)) throw error;
    const name = Buffer.from(invocation.targets[0]);
    await console.warn(`${printable(named(name))}: ${printableText(error.message)}`);
    return EXIT.USAGE;
  } finally {
    stopTelling();
  }
}

async function runEngine(
  { command, json, top, targets, engine, ...asked }: EngineInvocation,
  console: Console,
  metrics: MetricsFile | undefined,
  signal: AbortSignal,
): Promise<ExitCode> {
  // Whoever asks where a file lies is told why it lies nowhere.
  const verbose = asked.verbose || command === 'map';
  const reporter = json
    ? new JsonReporter({ verbose })
    : textReporter(command, {
        verbose,
        top,
        map: mapStyleFor(console.out),
        style: styleFor(console.out),
        errorStyle: styleFor(console.err),
      });
  const lines = (event: Event) => {
    metrics?.see(event);
    return reporter.lines(event);
  };
  return await report(ENGINE[command](targets, { ...engine, signal }), lines, console);
}

/**
 * Shows a run's events until it ends or nobody reads any more; leaving it then makes the engine finish the chunk in
 * hand and commit.
 */
export async function report(
  events: AsyncIterable<Event>,
  linesOf: (event: Event) => readonly Line[] | Promise<readonly Line[]>,
  console: Console,
): Promise<ExitCode> {
  for await (const event of events) {
    await console.print(await linesOf(event));
    if (event.type === 'summary') return exitCodeOf(event);
    if (console.out.closed) break;
    console.see(event);
  }
  return EXIT.INTERRUPTED;
}

/** Waits for the output, and says so when it could not be written. */
export async function finish(code: ExitCode, console: Console): Promise<ExitCode> {
  await console.flush();
  const { failure } = console.out;
  if (failure === undefined) return code;
  await console.warn(`standard output cannot be written: ${failure.message}`);
  return EXIT.FAILED;
}
