import { verdict } from '../../layout/score.ts';
import type { CheckEvent, CheckSummary, FileEvent, FreeSpaceEvent, TargetEvent } from '../events.ts';
import { formatCount, formatRoundSize, formatSeconds, formatShare, formatSize } from '../format.ts';
import { FINE_AS_IT_IS } from '../leftAlone.ts';
import { printable, printableText } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { DEFAULT_TOP, Greatest } from '../worst.ts';
import { CommonText, problemLines, reasonLines, row, type TextOptions } from './common.ts';
import { freeSpaceTable, sizeTable } from './sizes.ts';
import { Verdict } from './verdict.ts';

const savedSeconds = (file: FileEvent): number => file.readSeconds - file.idealReadSeconds;

/** How files lie, for people. */
export class CheckText implements Reporter<CheckEvent> {
  readonly #common: CommonText;
  readonly #worst: Greatest<FileEvent>;
  readonly #verdict = new Verdict();
  readonly #free: FreeSpaceEvent[] = [];
  #blockSize = 0;
  /** Whether there is something on stdout already. */
  #begun = false;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
    this.#worst = new Greatest(options.top ?? DEFAULT_TOP, savedSeconds);
  }

  lines(event: CheckEvent): readonly Line[] {
    const lines = this.#lines(event);
    this.#begun ||= lines.some(({ to }) => to === 'out');
    return lines;
  }

  #lines(event: CheckEvent): readonly Line[] {
    switch (event.type) {
      case 'target':
        this.#blockSize = event.blockSize;
        this.#verdict.addTarget(event);
        return [...(this.#common.lines(event) ?? []), ...this.#heading(event).map(out)];
      case 'file':
        return this.#file(event).map(out);
      case 'freeSpace':
        this.#free.push(event);
        return [];
      case 'summary':
        return this.#summary(event).map(out);
      default:
        return this.#common.lines(event) ?? [];
    }
  }

  #heading(target: TargetEvent): string[] {
    const { kind, method, walkReason, blockSize, rotational } = target;
    const whole = kind === 'device' || method === 'inode-table' || walkReason !== undefined;
    if (kind === 'file' || (!whole && !this.#common.options.verbose)) return [];
    const device = printableText(target.device);
    const where = whole ? `${device} on ${printable({ path: target.mountPoint })}` : printable(target);
    const facts = [
      whole ? 'ext4' : `on ${device}`,
      `blocks of ${formatRoundSize(blockSize)}`,
      rotational ? 'rotational' : 'not rotational',
    ];
    const why = walkReason === undefined ? '' : `, since ${printableText(walkReason)}`;
    const how = method === 'inode-table' ? 'reading its inode tables' : `going through it name by name${why}`;
    return [`${where}: ${facts.join(', ')}; ${how}`];
  }

  #file(file: FileEvent): string[] {
    if (file.fragments > file.idealFragments) this.#worst.add(file);
    if (this.#common.targetIsFile) return this.#details(file);
    return this.#common.options.verbose ? [this.#oneLine(file)] : [];
  }

  #oneLine(file: FileEvent): string {
    const { style } = this.#common.options;
    const { fragments, idealFragments: ideal } = file;
    const count = `${formatCount(fragments)} fragments (ideal ${formatCount(ideal)})`;
    return `${printable(file)}: ${fragments > ideal ? style.warning(count) : count}, ${formatSize(file.size)}`;
  }

  #details(file: FileEvent): string[] {
    const { fragments, idealFragments } = file;
    return [
      `${printable(file)}:`,
      row('Inode', String(file.inode)),
      row('Size', `${formatSize(file.size)} (${formatSize(file.blocks * this.#blockSize)} of blocks)`),
      row('Fragments', `${formatCount(fragments)}, ideal ${formatCount(idealFragments)}`),
      row('Extents', formatCount(file.extents)),
      row("e4defrag's score", scoreText(file.score)),
      row('Estimated read', readText(file)),
    ];
  }

  #summary(summary: CheckSummary): string[] {
    const { verbose, style } = this.#common.options;
    const notSeen = reasonLines(
      'Not counted:',
      summary.skipped,
      (reason) => verbose || !FINE_AS_IT_IS.has(reason),
    );
    const stopped = summary.interrupted ? ['Stopped by a signal; these are the files seen until then.'] : [];
    const problems = [...problemLines(summary), ...stopped];
    const onlyFile = this.#common.targets === 1 && this.#common.targetIsFile;
    const sections = [
      onlyFile ? problems : [...totals(summary), ...notSeen, ...problems],
      this.#fragmentSizes(summary),
      ...this.#free.map((free) => freeSpaceTable(free, style, this.#common.targets > 1)),
      onlyFile ? [] : this.#worstTable(summary),
      this.#verdict.lines(summary, style, onlyFile),
    ].filter((section) => section.length > 0);
    return sections.flatMap((section, i) => (i > 0 || this.#begun ? ['', ...section] : section));
  }

  #fragmentSizes({ fragments, fragmentSizes }: CheckSummary): string[] {
    // One says nothing that the totals do not.
    if (fragments <= 1 || fragmentSizes.length === 0) return [];
    return sizeTable('fragments', fragmentSizes, this.#common.options.style.strong('Fragments by size:'));
  }

  #worstTable({ fragmentedFiles }: CheckSummary): string[] {
    const files = this.#worst.items;
    if (files.length === 0) return [];
    const heading = fragmentedFiles === 1 ? 'The fragmented file:' : 'Most to gain, by read time saved:';
    const { style } = this.#common.options;
    return [
      style.strong(heading),
      '  read now       ideal  fragments  ideal        size  file',
      ...files.map((file) => {
        const cells = [
          formatSeconds(file.readSeconds).padStart(10),
          formatSeconds(file.idealReadSeconds).padStart(10),
          formatCount(file.fragments).padStart(9),
          formatCount(file.idealFragments).padStart(5),
          formatSize(file.size).padStart(10),
        ];
        return `${cells.join('  ')}  ${printable(file)}`;
      }),
    ];
  }
}

function totals(summary: CheckSummary): string[] {
  const { files, fragmentedFiles, fragments, idealFragments, bytes, score } = summary;
  if (files === 0) return ['No file with blocks of its own was found.'];
  return [
    row('Files', formatCount(files)),
    row('Fragmented', `${formatCount(fragmentedFiles)} (${formatShare(fragmentedFiles, files)})`),
    row('Fragments', `${formatCount(fragments)}, ideal ${formatCount(idealFragments)}`),
    row('Data', formatSize(bytes)),
    row("e4defrag's score", scoreText(score)),
    row('Estimated read', readText(summary)),
  ];
}

const scoreText = (score: number): string => `${score.toFixed(1)}: ${verdict(score)}`;

function readText({
  readSeconds,
  idealReadSeconds,
}: {
  readSeconds: number;
  idealReadSeconds: number;
}): string {
  return `${formatSeconds(readSeconds)}, ideal ${formatSeconds(idealReadSeconds)}`;
}
