import { verdict } from '../../layout/score.ts';
import type { CheckEvent, CheckSummary, FileEvent } from '../events.ts';
import { formatCount, formatSeconds, formatShare, formatSize } from '../format.ts';
import { FINE_AS_IT_IS } from '../leftAlone.ts';
import { printable } from '../names.ts';
import { out, type Line, type Reporter } from '../reporter.ts';
import { Greatest } from '../worst.ts';
import { CommonText, problemLines, reasonLines, type TextOptions } from './common.ts';

const WORST = 10;

const savedSeconds = (file: FileEvent): number => file.readSeconds - file.idealReadSeconds;

/** How files lie, for people. */
export class CheckText implements Reporter<CheckEvent> {
  readonly #common: CommonText;
  readonly #worst = new Greatest(WORST, savedSeconds);
  #blockSize = 0;

  constructor(options: TextOptions) {
    this.#common = new CommonText(options);
  }

  lines(event: CheckEvent): readonly Line[] {
    switch (event.type) {
      case 'target':
        this.#blockSize = event.blockSize;
        return this.#common.lines(event) ?? [];
      case 'file':
        return this.#file(event).map(out);
      case 'summary':
        return this.#summary(event).map(out);
      default:
        return this.#common.lines(event) ?? [];
    }
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
    const { verbose } = this.#common.options;
    const notSeen = reasonLines(
      'Not counted:',
      summary.skipped,
      (reason) => verbose || !FINE_AS_IT_IS.has(reason),
    );
    const stopped = summary.interrupted ? ['Stopped by a signal; these are the files seen until then.'] : [];
    const onlyFile = this.#common.targets === 1 && this.#common.targetIsFile;
    if (onlyFile) return [...problemLines(summary), ...stopped];
    const lines = [
      ...totals(summary),
      ...notSeen,
      ...problemLines(summary),
      ...stopped,
      ...this.#worstTable(),
    ];
    return verbose ? ['', ...lines] : lines;
  }

  #worstTable(): string[] {
    const files = this.#worst.items;
    if (files.length === 0) return [];
    const heading = files.length === 1 ? 'The fragmented file:' : 'Most to gain, by read time saved:';
    const { style } = this.#common.options;
    return [
      '',
      style.strong(heading),
      '     saved  fragments  ideal        size  file',
      ...files.map((file) => {
        const cells = [
          formatSeconds(savedSeconds(file)).padStart(10),
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

const row = (label: string, value: string): string => `${label.padEnd(18)}${value}`;

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
