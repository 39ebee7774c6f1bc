import { parseArgs } from 'node:util';
import type { ConsolidateOptions } from '../move/consolidate.ts';
import type { DefragmentOptions } from '../move/defragment.ts';
import type { ReportedRunOptions } from '../move/defragmentAndReport.ts';
import type { PlanTargetsOptions } from '../plan/planTargets.ts';
import type { Priority } from '../move/pace/priority.ts';
import type { MapOptions } from '../scan/map.ts';
import { DEFAULT_TOP, PAGE_TOP } from '../report/worst.ts';
import { parseDeviceProfile } from './deviceProfile.ts';
import { parsePercent, parseReserve } from './percent.ts';
import { parseAlignment, parseCount, parseRate, parseSize, parseSizeAboveZero } from './size.ts';
import { parseDuration, parseLatency } from './time.ts';
import { UsageError } from './usageError.ts';

export type Command =
  'defrag' | 'check' | 'plan' | 'explain' | 'apply' | 'space' | 'map' | 'demo' | 'help' | 'completion';

export interface CommandSpec {
  readonly help: string;
  /** A plan file stands before them. */
  readonly takesFile?: true;
  readonly takesTargets: boolean;
  /** It takes one of these words instead. */
  readonly takesWord?: 'COMMAND' | 'SHELL';
  /** Nobody types it: help and completion do not name it. */
  readonly hidden?: true;
}

/** The commands in the order in which help names them; the first is the default. */
export const COMMANDS: Readonly<Record<Command, CommandSpec>> = {
  defrag: { help: 'make fragmented files contiguous (the default)', takesTargets: true },
  check: { help: 'show how fragmented files are; write nothing', takesTargets: true },
  plan: { help: 'show what defrag would move; write nothing', takesTargets: true },
  explain: { help: 'show all that decides about a file; write nothing', takesTargets: true },
  apply: { help: 'carry out the plan in FILE: apply FILE [TARGET]', takesFile: true, takesTargets: true },
  space: { help: 'show what free space there is, and in what pieces, or join these', takesTargets: true },
  map: { help: 'draw where everything lies, here or as a page; write nothing else', takesTargets: true },
  demo: { help: 'defragment made-up files on a loopback image and prove it', takesTargets: false },
  help: { help: 'print the help of one command: help COMMAND', takesTargets: false, takesWord: 'COMMAND' },
  completion: {
    help: 'print what completes command lines in a shell: completion SHELL',
    takesTargets: false,
    takesWord: 'SHELL',
    hidden: true,
  },
};

/** The shells for which there is completion. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export interface OptionSpec {
  readonly short?: string;
  /** What the value is called, for options that take one. */
  readonly value?: 'SIZE' | 'GLOB' | 'N' | 'PROFILE' | 'LEVEL' | 'MS' | 'PERCENT' | 'TIME' | 'FILE' | 'WHEN';
  /** The only values that there are. */
  readonly choices?: readonly string[];
  readonly repeatable?: true;
  /** The commands that have it; all when absent. */
  readonly commands?: readonly Command[];
  readonly help: string;
}

const ENGINE: readonly Command[] = ['defrag', 'check', 'plan'];
const PLANNING: readonly Command[] = ['defrag', 'plan'];
const MAPPING: readonly Command[] = ['map'];
/** What is worth moving is decided by the same options. */
const DECIDING: readonly Command[] = [...PLANNING, 'explain'];
const MOVING: readonly Command[] = ['defrag', 'apply'];
/** `space` moves files as well when it is to consolidate. */
const MOVING_ANYTHING: readonly Command[] = [...MOVING, 'space'];
const SPACE: readonly Command[] = ['space'];
const DEFRAGMENTING: readonly Command[] = ['defrag'];
/** What uses what earlier runs learned. */
const REMEMBERING: readonly Command[] = [...DEFRAGMENTING, 'explain'];

export type Colouring = 'auto' | 'always' | 'never';
const COLOURING: readonly Colouring[] = ['auto', 'always', 'never'];

const PRIORITIES: readonly Priority[] = ['normal', 'low', 'idle'];

/** How the command `defrag` gives way; the library's own defaults do not. */
const DEFAULT_PRIORITY: Priority = 'idle';
const DEFAULT_PRESSURE = 15;

/** Every option there is, in the order in which help names them. */
export const OPTIONS = {
  check: { short: 'c', commands: ['check'], help: 'the same as the command check, as in e4defrag' },
  verbose: {
    short: 'v',
    commands: [...ENGINE, 'explain', 'apply', 'space'],
    help: 'name every file, also those left alone; of a whole filesystem those in fragments',
  },
  json: {
    commands: [...ENGINE, 'explain', 'apply', 'space', 'map'],
    help: 'print events as JSON lines; the last is the summary',
  },
  metrics: {
    value: 'FILE',
    commands: ['defrag', 'check', 'apply', 'space'],
    help: "write what the run came to into FILE, for the textfile collector of Prometheus' node_exporter",
  },
  top: {
    value: 'N',
    commands: ['check', 'map'],
    help: `list the N worst files (${DEFAULT_TOP} by default, on a page ${PAGE_TOP}; 0 for none)`,
  },
  full: { commands: DECIDING, help: 'one fragment a file, however much has to be moved' },
  'fragment-size': {
    value: 'SIZE',
    commands: DECIDING,
    help: 'leave fragments of at least SIZE where they are (8M, on disks that turn 32M)',
  },
  align: {
    value: 'SIZE',
    commands: PLANNING,
    help: 'let what is moved begin at a multiple of SIZE where it is that long (a power of two)',
  },
  cluster: {
    commands: PLANNING,
    help: 'also pack the small files of each directory together, in the order of reading it',
  },
  'order-file': {
    value: 'FILE',
    commands: PLANNING,
    help: 'lay the files that FILE lists, a path a line or up to each NUL, one behind the other',
  },
  exclude: {
    value: 'GLOB',
    repeatable: true,
    commands: ENGINE,
    help: 'leave out names, or with a slash paths below the target, that match',
  },
  'min-size': { value: 'SIZE', commands: ENGINE, help: 'leave out files smaller than SIZE' },
  'max-size': { value: 'SIZE', commands: ENGINE, help: 'leave out files larger than SIZE' },
  'device-profile': {
    value: 'PROFILE',
    commands: [...ENGINE, 'explain'],
    help: 'estimate read times by PROFILE; by default as for a typical disk or SSD',
  },
  output: {
    short: 'o',
    value: 'FILE',
    commands: ['plan', 'map'],
    help: 'write the plan into FILE, for apply, or the map, for --compare',
  },
  html: {
    value: 'FILE',
    commands: MAPPING,
    help: 'write a page into FILE that shows the map, and needs nothing else',
  },
  compare: {
    value: 'FILE',
    commands: MAPPING,
    help: 'with --html: show on the page also what map -o has written into FILE before',
  },
  consolidate: {
    commands: SPACE,
    help: 'join free space into longer runs, by moving files out of the way',
  },
  run: {
    value: 'SIZE',
    commands: SPACE,
    help: 'with --consolidate: until one free run has SIZE (64M, or the most that the reserve allows)',
  },
  bytes: {
    value: 'SIZE',
    commands: SPACE,
    help: 'with --consolidate: until SIZE more lies in free runs of at least 8M',
  },
  priority: {
    value: 'LEVEL',
    choices: PRIORITIES,
    commands: MOVING_ANYTHING,
    help: `how to compete for processor and device: normal, low or idle (${DEFAULT_PRIORITY} by default)`,
  },
  'max-rate': { value: 'SIZE', commands: MOVING_ANYTHING, help: 'move no more than SIZE a second' },
  'max-latency': {
    value: 'MS',
    commands: MOVING_ANYTHING,
    help: "hold a file's locks for no longer than MS at a time (100)",
  },
  pressure: {
    value: 'PERCENT',
    commands: MOVING_ANYTHING,
    help: `pause while others wait for the device for more than PERCENT of the time (${DEFAULT_PRESSURE}; 100 never pauses)`,
  },
  'time-limit': { value: 'TIME', commands: MOVING_ANYTHING, help: 'end after TIME' },
  'max-bytes': { value: 'SIZE', commands: MOVING_ANYTHING, help: 'end when SIZE has been moved in all' },
  'max-written-percent': {
    value: 'PERCENT',
    commands: MOVING_ANYTHING,
    help: 'end when so much of the size of the filesystem has been moved',
  },
  reserve: {
    value: 'PERCENT',
    commands: MOVING_ANYTHING,
    help: "leave so much of the filesystem free, always (5, or root's reserve where that is more; 0 uses it all)",
  },
  state: {
    value: 'FILE',
    commands: REMEMBERING,
    help: 'what a run leaves for the next is kept in FILE, instead of in its usual place',
  },
  'no-state': {
    commands: REMEMBERING,
    help: 'keep nothing for the next run, and use nothing of earlier ones',
  },
  'ignore-history': {
    commands: DEFRAGMENTING,
    help: 'also move files that fragment again as soon as they are moved',
  },
  'no-make-room': {
    commands: DEFRAGMENTING,
    help: 'move no other file out of the way where free space is in pieces',
  },
  'keep-undo': {
    value: 'FILE',
    commands: MOVING,
    help: 'record in FILE where what is moved lay before; apply puts it back',
  },
  report: {
    value: 'FILE',
    commands: DEFRAGMENTING,
    help: 'write a page into FILE that shows where everything lay before, and lies after',
  },
  wait: {
    commands: MOVING_ANYTHING,
    help: 'wait while another run works on the filesystem, instead of failing',
  },
  measure: {
    commands: MOVING,
    help: 'measure what reading a sample of the files takes, before and after',
  },
  exclusive: { commands: MOVING_ANYTHING, help: 'leave files alone that another process has open' },
  'allow-fast-commit': {
    commands: MOVING_ANYTHING,
    help: 'take the risk of fast_commit before Linux 7.0: a crash can lose synced writes',
  },
  'allow-no-journal': {
    commands: MOVING_ANYTHING,
    help: 'take the risk of no journal: a crash can corrupt files being moved',
  },
  'require-safe-kernel': {
    commands: MOVING_ANYTHING,
    help: 'refuse to work on a kernel with known bugs, instead of warning',
  },
  si: {
    commands: [...ENGINE, 'explain', 'apply', 'space', 'map'],
    help: 'print sizes in powers of 1000 (kB, MB) and not of 1024 (KiB, MiB)',
  },
  color: {
    value: 'WHEN',
    choices: COLOURING,
    commands: [...ENGINE, 'explain', 'apply', 'space', 'map', 'demo'],
    help: 'colour the output: auto (on a terminal, unless NO_COLOR is set), always or never',
  },
  help: { short: 'h', help: 'print this help' },
  version: { short: 'V', help: 'print the version' },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof OPTIONS;

/** Those that write a file about one filesystem, beside `plan`. */
const ONE_TARGET: readonly OptionName[] = ['html', 'output', 'report'];

/** Those that `space` has when it only looks. */
const LOOKING: ReadonlySet<OptionName> = new Set(['json', 'metrics', 'si', 'color', 'help', 'version']);

const specOf = (name: OptionName): OptionSpec => OPTIONS[name];

/** A run that the command line asks for. */
export interface Invocation {
  readonly kind: 'run';
  readonly command: Exclude<Command, 'help' | 'completion'> | 'consolidate';
  readonly targets: readonly (string | Buffer)[];
  readonly verbose: boolean;
  readonly json: boolean;
  /** Sizes in powers of 1000. */
  readonly si: boolean;
  readonly color: Colouring;
  /** How many of the worst files the report lists. */
  readonly top: number;
  /** Where to write metrics. */
  readonly metrics: string | undefined;
  readonly engine: ReportedRunOptions &
    Pick<PlanTargetsOptions, 'output'> &
    Pick<MapOptions, 'top' | 'html' | 'compare'> &
    Pick<ConsolidateOptions, 'run' | 'bytes'>;
}

export type CommandLine =
  | Invocation
  | { readonly kind: 'help'; readonly command?: Command | undefined }
  | { readonly kind: 'version' }
  | { readonly kind: 'completion'; readonly shell: Shell };

type Values = Map<OptionName, string[]>;

/**
 * Reads the arguments behind the program's name.
 *
 * @param bytesOf an argument's bytes, for those that are not UTF-8
 * @throws UsageError
 */
export function parseCommandLine(
  args: readonly string[],
  bytesOf: (index: number) => Buffer | undefined = () => undefined,
): CommandLine {
  const { values, words } = readTokens(args);
  const named = words.length > 0 && !words[0].literal && isCommand(words[0].text) ? words[0].text : undefined;
  if (values.has('help')) return { kind: 'help', command: named };
  if (values.has('version')) return { kind: 'version' };
  const command = chooseCommand(named, values);
  checkOptions(command, values);
  const targets = named === undefined ? words : words.slice(1);
  if (command === 'help') {
    return { kind: 'help', command: targets.length === 0 ? undefined : wordOf(command, targets, isCommand) };
  }
  if (command === 'completion') return { kind: 'completion', shell: wordOf(command, targets, isShell) };
  checkTargets(command, targets);
  for (const name of ONE_TARGET) {
    if (values.has(name) && targets.length > 1 && command !== 'plan') {
      throw new UsageError(
        `--${name} takes one target, but there are ${targets.length}: run it once for each`,
      );
    }
  }
  return {
    kind: 'run',
    command: values.has('consolidate') ? 'consolidate' : command,
    targets: targets.map(({ text, index }) => (text.includes('\ufffd') ? (bytesOf(index) ?? text) : text)),
    verbose: values.has('verbose'),
    json: values.has('json'),
    si: values.has('si'),
    color: valueOf(values, 'color', oneOf(COLOURING)) ?? 'auto',
    top: valueOf(values, 'top', parseCount) ?? DEFAULT_TOP,
    metrics: valueOf(values, 'metrics', parsePath),
    engine: {
      ...engineOptions(values),
      output: valueOf(values, 'output', parsePath),
      // A list of some has no use for the other files' names.
      ...(command === 'check' &&
        !values.has('json') &&
        !values.has('verbose') && { top: valueOf(values, 'top', parseCount) ?? DEFAULT_TOP }),
      ...(command === 'map' && {
        top: valueOf(values, 'top', parseCount),
        html: valueOf(values, 'html', parsePath),
        compare: valueOf(values, 'compare', parsePath),
      }),
      ...(MOVING_ANYTHING.includes(command) && movingOptions(values)),
      ...(command === 'space' && {
        run: valueOf(values, 'run', parseSizeAboveZero),
        bytes: valueOf(values, 'bytes', parseSizeAboveZero),
      }),
      ...(REMEMBERING.includes(command) && stateOption(values)),
      ...(command === 'defrag' && defragOptions(values)),
      ...(PLANNING.includes(command) && arrangingOptions(values)),
    },
  };
}

const isCommand = (word: string): word is Command => Object.hasOwn(COMMANDS, word);
const isShell = (word: string): word is Shell => SHELLS.some((shell) => shell === word);
const isOption = (name: string): name is OptionName => Object.hasOwn(OPTIONS, name);

interface Word {
  readonly text: string;
  readonly index: number;
  /** It stands behind "--". */
  readonly literal: boolean;
}

function readTokens(args: readonly string[]): { values: Values; words: Word[] } {
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      Object.entries(OPTIONS).map(([name, spec]: [string, OptionSpec]) => [
        name,
        { type: spec.value ? 'string' : 'boolean', ...(spec.short && { short: spec.short }) },
      ]),
    ),
    allowPositionals: true,
    // Its own messages are long and not about this program.
    strict: false,
    tokens: true,
  });
  const values: Values = new Map();
  const words: Word[] = [];
  let literal = false;
  for (const token of tokens) {
    if (token.kind === 'option-terminator') literal = true;
    else if (token.kind === 'positional') words.push({ text: token.value, index: token.index, literal });
    else readOption(token, values);
  }
  return { values, words };
}

function readOption(
  token: { name: string; rawName: string; value: string | undefined; inlineValue: boolean | undefined },
  values: Values,
): void {
  const { name, rawName, value, inlineValue } = token;
  if (!isOption(name)) throw new UsageError(`there is no option ${rawName}: leave it out`);
  const wanted = specOf(name).value;
  if (wanted === undefined && value !== undefined)
    throw new UsageError(`option ${rawName} takes no value: leave it out`);
  const missing = value === undefined || value === '' || (!inlineValue && /^-./.test(value));
  if (wanted !== undefined && missing) throw new UsageError(`option ${rawName} needs a value: ${wanted}`);
  values.set(name, [...(values.get(name) ?? []), value ?? '']);
}

function chooseCommand(named: Command | undefined, values: Values): Command {
  if (!values.has('check')) return named ?? 'defrag';
  if (named !== undefined && named !== 'check') {
    throw new UsageError(
      `option -c means the command check, but the command is ${named}: leave one of them out`,
    );
  }
  return 'check';
}

function checkOptions(command: Command, values: Values): void {
  for (const name of values.keys()) {
    const { commands } = specOf(name);
    if (commands?.includes(command) === false) {
      throw new UsageError(
        `the command ${command} has no option --${name}: leave it out (it belongs to ${commands.join(', ')})`,
      );
    }
  }
  if (values.has('full') && values.has('fragment-size')) {
    throw new UsageError('--full and --fragment-size exclude each other: give one of them');
  }
  if (command === 'space' && !values.has('consolidate')) {
    const name = [...values.keys()].find((one) => !LOOKING.has(one));
    if (name !== undefined) {
      throw new UsageError(`the command space has no option --${name} without --consolidate: give that too`);
    }
  }
  if (values.has('compare') && !values.has('html')) {
    throw new UsageError('--compare is for the page of --html: give that too');
  }
  if (values.has('run') && values.has('bytes')) {
    throw new UsageError('--run and --bytes exclude each other: give one of them');
  }
  if (values.has('output') && (values.has('cluster') || values.has('order-file'))) {
    throw new UsageError('a plan file is about files one by one: leave --cluster and --order-file out');
  }
  if (values.has('state') && values.has('no-state')) {
    throw new UsageError('--state and --no-state exclude each other: give one of them');
  }
}

function checkTargets(command: Command, targets: readonly Word[]): void {
  if (COMMANDS[command].takesFile) {
    if (targets.length === 0)
      throw new UsageError(
        `the command ${command} needs a plan file: give one that plan -o or --keep-undo has written`,
      );
    if (targets.length > 2)
      throw new UsageError(`the command ${command} takes a plan file and one target: leave the others out`);
    return;
  }
  if (!COMMANDS[command].takesTargets) {
    if (targets.length > 0) throw new UsageError(`the command ${command} takes no target: leave it out`);
  } else if (targets.length === 0) {
    throw new UsageError('no target: name a file, a directory, a mount point or a mounted block device');
  }
}

/** The one word that a command takes. */
function wordOf<T extends string>(
  command: 'help' | 'completion',
  words: readonly Word[],
  isOne: (text: string) => text is T,
): T {
  if (words.length === 1 && isOne(words[0].text)) return words[0].text;
  const known = command === 'completion' ? SHELLS : visibleCommands();
  const given = words.map(({ text }) => text).join(' ') || 'nothing';
  throw new UsageError(`the command ${command} cannot do with ${given}: give one of ${known.join(', ')}`);
}

/** The commands that help names. */
export const visibleCommands = (): Command[] =>
  (Object.keys(COMMANDS) as Command[]).filter((command) => COMMANDS[command].hidden !== true);

/** An option's value, the last one when it was given more than once. */
function valueOf<T>(
  values: Values,
  name: OptionName,
  parse: (text: string, where: string) => T,
): T | undefined {
  const text = values.get(name)?.at(-1);
  return text === undefined ? undefined : parse(text, `--${name}`);
}

function engineOptions(values: Values): DefragmentOptions {
  const exclude = values.get('exclude') ?? [];
  for (const pattern of exclude) {
    if (/^\/*$/.test(pattern))
      throw new UsageError(`--exclude ${pattern} matches nothing: give a pattern such as *.log`);
  }
  const minSize = valueOf(values, 'min-size', parseSize);
  const maxSize = valueOf(values, 'max-size', parseSize);
  if (minSize !== undefined && maxSize !== undefined && minSize > maxSize) {
    throw new UsageError('--min-size is more than --max-size, so that no file can match: give a smaller one');
  }
  return {
    full: values.has('full'),
    fragmentSize: valueOf(values, 'fragment-size', parseSizeAboveZero),
    exclude,
    minSize,
    maxSize,
    deviceProfile: valueOf(values, 'device-profile', parseDeviceProfile),
  };
}

/** Where files are to go. */
const arrangingOptions = (values: Values) => ({
  align: valueOf(values, 'align', parseAlignment),
  cluster: values.has('cluster'),
  orderFile: valueOf(values, 'order-file', parsePath),
});

/** Where what earlier runs learned is. */
const stateOption = (values: Values): Pick<DefragmentOptions, 'state'> => ({
  state: values.has('no-state') ? undefined : (valueOf(values, 'state', parsePath) ?? true),
});

/** What `defrag` alone has. */
function defragOptions(values: Values): ReportedRunOptions {
  return {
    ignoreHistory: values.has('ignore-history'),
    makeRoom: !values.has('no-make-room'),
    report: valueOf(values, 'report', parsePath),
  };
}

/** What the commands have that move files. */
function movingOptions(values: Values): DefragmentOptions {
  return {
    priority: valueOf(values, 'priority', oneOf(PRIORITIES)) ?? DEFAULT_PRIORITY,
    maxRate: valueOf(values, 'max-rate', parseRate),
    maxLatency: valueOf(values, 'max-latency', parseLatency),
    pressure: valueOf(values, 'pressure', parsePercent) ?? DEFAULT_PRESSURE,
    timeLimit: valueOf(values, 'time-limit', parseDuration),
    maxBytes: valueOf(values, 'max-bytes', parseSizeAboveZero),
    maxWrittenPercent: valueOf(values, 'max-written-percent', parsePercent),
    reserve: valueOf(values, 'reserve', parseReserve),
    keepUndo: valueOf(values, 'keep-undo', parsePath),
    wait: values.has('wait'),
    measure: values.has('measure'),
    exclusive: values.has('exclusive'),
    allowFastCommit: values.has('allow-fast-commit'),
    allowNoJournal: values.has('allow-no-journal'),
    requireSafeKernel: values.has('require-safe-kernel'),
  };
}

/** Reads one of the values that there are. */
const oneOf =
  <T extends string>(choices: readonly T[]) =>
  (text: string, where: string): T => {
    const choice = choices.find((one) => one === text);
    if (choice !== undefined) return choice;
    throw new UsageError(`${where} ${text} is not known: give ${choices.join(', ')}`);
  };

/** Targets may have names that are not text; this file's name is the user's to choose. */
function parsePath(text: string, where: string): string {
  if (!text.includes('\ufffd')) return text;
  throw new UsageError(`${where} ${text} is not UTF-8: give a file whose name is`);
}
