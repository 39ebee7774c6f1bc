import type {
  ApplySummary,
  CheckSummary,
  ConsolidateSummary,
  DefragSummary,
  Event,
  FreeSpaceEvent,
  SpaceEvent,
  SpaceSummary,
} from './events.ts';
import { named } from './events.ts';
import { printable } from './names.ts';

/** Free space in runs shorter than this many bytes is what calls free space fragmented. */
const LONG_RUN = 8 * 2 ** 20;

/** How a run ended. */
export interface RunEnd {
  readonly exitCode: number;
  /** Seconds since 1970. */
  readonly time: number;
  /** Seconds that it took. */
  readonly seconds: number;
}

type Labels = Readonly<Record<string, string>>;

/**
 * Every metric there is, in the order in which they are written: the files of several runs are read together, and each
 * must say the same of a name. All are gauges: a new run begins anew.
 */
export const METRICS = {
  last_run_timestamp_seconds: 'When the last run ended, in seconds since 1970.',
  last_run_duration_seconds: 'How long the last run took.',
  last_run_exit_status:
    'Exit status of the last run: 0 done, 1 a file failed, 2 usage, 3 unsupported, 4 limit reached, 130 stopped.',
  last_run_files: 'Files that the last run looked at.',
  last_run_defragmented_files: 'Files whose layout the last run improved.',
  last_run_failed_files: 'Files that failed in the last run; their content is whole.',
  last_run_skipped_files: 'Files that the last run left as they were, by reason.',
  last_run_unsupported_targets: 'Targets that the last run could not work on.',
  last_run_fragments_before: 'Fragments of the files of the last run before it.',
  last_run_fragments_after: 'Fragments of the files of the last run after it.',
  last_run_moved_bytes: 'Bytes of files that the last run moved.',
  last_run_evacuated_bytes: 'Bytes of other files that the last run moved out of the way.',
  last_run_written_bytes: 'Bytes that the last run had written to devices, as far as the kernel tells.',
  last_run_saved_read_seconds: 'Estimated seconds that reading the improved files once takes less.',
  last_run_left_files: 'Files known to be left for the next run when a limit ended the last one.',
  last_run_left_bytes: 'Bytes known to be left for the next run when a limit ended the last one.',
  files: 'Files that have blocks.',
  fragmented_files: 'Files in more fragments than need be.',
  fragments: 'Fragments of all files.',
  ideal_fragments: 'The fewest fragments that the geometry of the filesystem allows.',
  file_bytes: 'Bytes of all files that are mapped to blocks.',
  score: 'Score of fragmentation by the formula of e4defrag: up to 30 no problem, above 55 defragment.',
  read_seconds: 'Estimated seconds of reading all files once.',
  ideal_read_seconds: 'Estimated seconds of reading all files once if none were fragmented.',
  free_bytes: 'Free bytes of the filesystem.',
  free_runs: 'Runs of free blocks.',
  free_largest_run_bytes: 'Bytes of the longest run of free blocks.',
  free_fragmentation_ratio: 'Share of the free bytes that lies in runs shorter than 8 MiB, 0 to 1.',
} as const;

type Metric = keyof typeof METRICS;

/** What a run came to, in Prometheus' text format, for the textfile collector of node_exporter. */
export class Metrics {
  readonly #run: Labels;
  readonly #samples = new Map<Metric, { readonly labels: Labels; readonly value: number }[]>();
  #mountPoint = '';

  /** @param targets as they were given */
  constructor(command: string, targets: readonly (string | Buffer)[]) {
    const names = targets.map((target) => printable(named(Buffer.from(target))));
    this.#run = { command, target: names.join(' ') };
  }

  /** Takes note of an event of the run, or of the check that follows it. */
  see(event: Event): void {
    switch (event.type) {
      case 'target':
        this.#mountPoint = printable({ path: event.mountPoint });
        break;
      case 'freeSpace':
      case 'space':
        this.#free(event);
        break;
      case 'summary':
        if (event.command === 'check') this.#check(event);
        else if (event.command === 'defrag' || event.command === 'apply') this.#moved(event);
        else if (event.command !== 'plan') this.#ended(event);
        break;
      default:
    }
  }

  /** All of it; what is not known is not there. */
  text({ exitCode, time, seconds }: RunEnd): string {
    this.#set('last_run_timestamp_seconds', time);
    this.#set('last_run_duration_seconds', seconds);
    this.#set('last_run_exit_status', exitCode);
    const names = Object.keys(METRICS) as Metric[];
    return names.map((name) => this.#family(name)).join('');
  }

  #family(name: Metric): string {
    const samples = this.#samples.get(name);
    if (samples === undefined) return '';
    const full = `${PREFIX}${name}`;
    const lines = samples.map(({ labels, value }) => `${full}${labelText(labels)} ${value}\n`);
    return `# HELP ${full} ${METRICS[name]}\n# TYPE ${full} gauge\n${lines.join('')}`;
  }

  /** Sets what has no more labels than the run. */
  #set(name: Metric, value: number): void {
    this.#samples.set(name, [{ labels: this.#run, value }]);
  }

  #add(name: Metric, more: Labels, value: number): void {
    const samples = this.#samples.get(name) ?? [];
    // A filesystem that several targets are on is looked at for each: one series has one value.
    const others = samples.filter(({ labels }) => Object.keys(more).some((key) => labels[key] !== more[key]));
    this.#samples.set(name, [...others, { labels: { ...this.#run, ...more }, value }]);
  }

  #check({ files, fragmentedFiles, fragments, idealFragments, ...rest }: CheckSummary): void {
    this.#set('files', files);
    this.#set('fragmented_files', fragmentedFiles);
    this.#set('fragments', fragments);
    this.#set('ideal_fragments', idealFragments);
    this.#set('file_bytes', rest.bytes);
    this.#set('score', rest.score);
    this.#set('read_seconds', rest.readSeconds);
    this.#set('ideal_read_seconds', rest.idealReadSeconds);
    // The check that follows another run tells how things are, not how that went.
    if (this.#run['command'] === 'check') this.#ended(rest);
  }

  #moved(summary: DefragSummary | ApplySummary): void {
    this.#ended(summary);
    const { gained, budget } = summary;
    this.#set('last_run_files', summary.files);
    this.#set(
      'last_run_defragmented_files',
      summary.command === 'apply' ? summary.applied : summary.defragmented,
    );
    for (const [reason, count] of Object.entries(summary.skipped)) {
      this.#add('last_run_skipped_files', { reason }, count);
    }
    this.#set('last_run_fragments_before', summary.fragmentsBefore);
    this.#set('last_run_fragments_after', summary.fragmentsAfter);
    this.#set('last_run_moved_bytes', summary.bytesMoved);
    this.#set('last_run_saved_read_seconds', gained.readSecondsBefore - gained.readSecondsAfter);
    this.#set('last_run_left_files', budget?.filesLeft ?? 0);
    this.#set('last_run_left_bytes', budget?.bytesLeft ?? 0);
  }

  #ended(summary: Counts): void {
    this.#set('last_run_failed_files', summary.failed);
    this.#set('last_run_unsupported_targets', summary.unsupported);
    if (summary.bytesEvacuated !== undefined) this.#set('last_run_evacuated_bytes', summary.bytesEvacuated);
    if (summary.bytesWritten !== undefined) this.#set('last_run_written_bytes', summary.bytesWritten);
  }

  #free(event: FreeSpaceEvent | SpaceEvent): void {
    const { bytes, runs, largestRun, histogram } = event;
    const mountpoint = event.type === 'space' ? printable({ path: event.mountPoint }) : this.#mountPoint;
    const long = histogram.filter(({ atLeast }) => atLeast >= LONG_RUN);
    const inLongRuns = long.reduce((sum, size) => sum + size.bytes, 0);
    this.#add('free_bytes', { mountpoint }, bytes);
    this.#add('free_runs', { mountpoint }, runs);
    this.#add('free_largest_run_bytes', { mountpoint }, largestRun);
    this.#add('free_fragmentation_ratio', { mountpoint }, bytes > 0 ? 1 - inLongRuns / bytes : 0);
  }
}

/** What each command's summary counts, as far as it does. */
type Counts = Pick<
  CheckSummary | SpaceSummary | ConsolidateSummary | DefragSummary,
  'failed' | 'unsupported'
> & { readonly bytesEvacuated?: number; readonly bytesWritten?: number };

/** What all names begin with. */
export const PREFIX = 'ext4_defrag_';

/** What every file of metrics begins with. */
export const HEAD = `# HELP ${PREFIX}`;

/** Prometheus' text format knows these three escapes in a label's value, and no others. */
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (char) => ESCAPES[char])}"`,
  );
  return `{${pairs.join(',')}}`;
}
