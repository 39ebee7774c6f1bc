import type { DefragmentOptions } from '../move/defragment.ts';
import type { ReportedRunOptions } from '../move/defragmentAndReport.ts';
import { PlanFileError } from '../plan/planFileError.ts';
import { named, type Event } from '../report/events.ts';
import { printable, printableText } from '../report/names.ts';
import type { Line } from '../report/reporter.ts';
import { textReporter } from '../report/text.ts';
import { loadAddon } from './addon.ts';
import { Console } from './console.ts';
import { EXIT, exitCodeOf, withoutMetrics, type ExitCode } from './exitCode.ts';
import { keepHeapSmall, keepNurserySmall } from './memory.ts';
import type { MetricsFile } from './metricsFile.ts';
import type { Invocation } from './options.ts';
import { Output } from './output.ts';
import { onStatusSignal, StopSignals } from './signals.ts';
import { mapStyleFor, styleFor } from './terminal.ts';

/** Of each command what does it; loaded when it is asked for, since to parse all of them is felt at every start. */
const ENGINE = {
  defrag: async ({ report }: ReportedRunOptions) =>
    report === undefined
      ? (await import('../move/defragment.ts')).defragment
      : (await import('../move/defragmentAndReport.ts')).defragmentAndReport,
  check: async () => (await import('../scan/check.ts')).check,
  plan: async () => (await import('../plan/planTargets.ts')).plan,
  explain: async () => (await import('../explain/explain.ts')).explain,
  apply: async () => {
    const { apply } = await import('../move/apply.ts');
    /** A plan file, and perhaps the filesystem that is meant. */
    return ([file, target]: readonly (string | Buffer)[], options: DefragmentOptions) =>
      apply(file, { ...options, target });
  },
  space: async () => (await import('../scan/space.ts')).space,
  map: async () => (await import('../scan/map.ts')).map,
  consolidate: async () => (await import('../move/consolidate.ts')).consolidate,
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
  const { command } = invocation;
  const metrics = await openMetrics(invocation);
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

// A function of its own: where there is `using`, TypeScript 6.0 does not rewrite the name of what is imported.
async function openMetrics(invocation: EngineInvocation): Promise<MetricsFile | undefined> {
  const { metrics: path } = invocation;
  if (path === undefined) return undefined;
  const { MetricsFile } = await import('./metricsFile.ts');
  return MetricsFile.open(path, invocation);
}

async function runReported(
  invocation: EngineInvocation,
  console: Console,
  metrics: MetricsFile | undefined,
  signal: AbortSignal,
): Promise<ExitCode> {
  const loading = load(invocation, console);
  // It is awaited later; without the addon what is missing besides is nobody's concern.
  loading.catch(() => undefined);
  if (!loadAddon()) return EXIT.UNSUPPORTED;
  keepNurserySmall();
  if (MOVING.has(invocation.command)) keepHeapSmall();
  const stopTelling = onStatusSignal(() => void console.tellStatus());
  try {
    const { events, reporter } = await loading;
    const { targets, engine } = invocation;
    const lines = (event: Event) => {
      metrics?.see(event);
      return reporter.lines(event);
    };
    return await finish(await report(events(targets, { ...engine, signal }), lines, console), console);
  } catch (error) {
    if (!(error instanceof PlanFileError)) throw error;
    const name = Buffer.from(invocation.targets[0]);
    await console.warn(`${printable(named(name))}: ${printableText(error.message)}`);
    return EXIT.USAGE;
  } finally {
    stopTelling();
  }
}

/** What answers the command's events, and who tells of them. */
async function load({ command, json, top, engine, ...asked }: EngineInvocation, console: Console) {
  // Whoever asks where a file lies is told why it lies nowhere.
  const verbose = asked.verbose || command === 'map';
  const [events, reporter] = await Promise.all([
    ENGINE[command](engine),
    json
      ? import('../report/json.ts').then(({ JsonReporter }) => new JsonReporter({ verbose }))
      : textReporter(command, {
          verbose,
          top,
          map: mapStyleFor(console.out),
          style: styleFor(console.out),
          errorStyle: styleFor(console.err),
        }),
  ]);
  return { events, reporter };
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
