import { e4defragScore, verdict } from '../layout/score.ts';
import { REASONS, type Reason } from '../scan/reasons.ts';
import type { Named, TargetEvent } from './events.ts';
import { printable, printableText } from './names.ts';
import { err, out, type Line } from './reporter.ts';

// The lines of e4defrag (e2fsprogs misc/e4defrag.c), which scripts parse. Only its cursor movements are left out.

/** What e4defrag prints for arguments that it does not understand. */
export const E4DEFRAG_USAGE = [
  'Usage\t: e4defrag [-v] file...| directory...| device...',
  '\t: e4defrag  -c  file...| directory...| device...',
];

/** Reasons for which e4defrag says "[ OK ]" of a file that it did not move. */
const OK_AS_IT_IS: ReadonlySet<Reason> = new Set<Reason>([
  'already-contiguous',
  'large-fragments',
  'one-block',
  'hard-link',
  'no-better-place',
  'not-improved',
]);

export const isOkAsItIs = (reason: Reason): boolean => OK_AS_IT_IS.has(reason);

const WORDS: Partial<Record<Reason, string>> = {
  'not-regular': 'File is not regular file',
  'lost-found': 'Can not process "lost+found"',
  empty: 'File size is 0',
  'no-blocks': 'File has no blocks',
};

export const e4defragReason = (reason: Reason): string => WORDS[reason] ?? REASONS[reason];

/** What a target that cannot be worked on is answered with. */
export const refusedTarget = (target: Named, message: string): Line[] => [
  err(printableText(message)),
  err(` "${printable(target)}"`),
];

export interface E4defragOptions {
  readonly verbose: boolean;
  readonly root: boolean;
  readonly target: TargetEvent;
  /** Names below the target, its own and directories' included, as nftw(3) counts them; 1 for a file. */
  readonly names: number;
  readonly regularFiles: number;
}

/** e4defrag's counter of names, which never falls behind. */
class Names {
  #seen = 0;
  total: number;

  constructor(total: number) {
    this.total = total;
  }

  next(): string {
    this.#seen++;
    this.total = Math.max(this.total, this.#seen);
    return `[${this.#seen}/${this.total}]`;
  }
}

const percent = (part: number, whole: number): number => (whole === 0 ? 0 : Math.floor((part * 100) / whole));

/** What e4defrag prints while it defragments one target. */
export class E4defragMoves {
  readonly #options: E4defragOptions;
  readonly #names: Names;
  #succeeded = 0;
  readonly #extents = { before: 0, after: 0 };
  readonly #fragmented = { before: 0, after: 0 };

  constructor(options: E4defragOptions) {
    this.#options = options;
    this.#names = new Names(options.names);
  }

  get succeeded(): number {
    return this.#succeeded;
  }

  static heading({ kind, ...target }: TargetEvent): Line[] {
    const name = printable(target);
    return [out(`ext4 defragmentation for ${kind === 'file' ? name : `${kind}(${name})`}`)];
  }

  ok(file: Named, before: number, after: number): Line[] {
    this.#succeeded++;
    this.#extents.before += before;
    this.#extents.after += after;
    if (before !== 1) this.#fragmented.before++;
    if (after !== 1) this.#fragmented.after++;
    const extents = this.#options.verbose ? `  extents: ${before} -> ${after}` : '';
    return [out(`${this.#names.next()}${printable(file)}:\t100%${extents}\t[ OK ]`)];
  }

  notGood(file: Named, why: string): Line[] {
    const number = this.#names.next();
    if (!this.#options.verbose) return [];
    return [err(`${number} "${printable(file)}"`), err(`\t${printableText(why)}\t\t[ NG ]`)];
  }

  summary(): Line[] {
    if (this.#options.target.kind === 'file') return [out(` Success:\t\t\t[${this.#succeeded}/1]`)];
    const { total } = this.#names;
    const { before, after } = this.#extents;
    const share = (files: number) => `${percent(files, this.#options.regularFiles)}%`;
    const lines = [
      '',
      `\tSuccess:\t\t\t[ ${this.#succeeded}/${total} ]`,
      `\tFailure:\t\t\t[ ${total - this.#succeeded}/${total} ]`,
    ];
    const details = [
      `\tTotal extents:\t\t\t${String(before).padStart(4)}->${after}`,
      `\tFragmented percentage:\t\t${share(this.#fragmented.before).padStart(4)}->${share(this.#fragmented.after)}`,
    ];
    return [...lines, ...(this.#options.verbose ? details : [])].map(out);
  }
}

/** A file's layout as e4defrag counts it. */
export interface E4defragFacts {
  readonly now: number;
  readonly best: number;
  readonly blocks: number;
}

const SHOWN = 5;
/** Of the column with names, in bytes; a longer name has its line for itself. */
const NAME_WIDTH = 40;

/** What e4defrag -c prints for one target. */
export class E4defragStatistics {
  readonly #options: E4defragOptions;
  readonly #names: Names;
  readonly #sum = { files: 0, now: 0, best: 0, blocks: 0 };
  readonly #ranks: { readonly file: Named; readonly facts: E4defragFacts; readonly ratio: number }[] = [];

  constructor(options: E4defragOptions) {
    this.#options = options;
    this.#names = new Names(options.names);
  }

  get succeeded(): number {
    return this.#sum.files;
  }

  heading(): Line[] {
    const { target, verbose } = this.#options;
    return target.kind !== 'file' && verbose ? [out(columnHeading('<File>'))] : [];
  }

  /** @param extents physical, logical and length of each extent, for a target that is a file and -v */
  file(
    file: Named,
    facts: E4defragFacts,
    extents: Iterable<{ physical: number; logical: number; length: number }> = [],
  ): Line[] {
    this.#sum.files++;
    this.#sum.now += facts.now;
    this.#sum.best += facts.best;
    this.#sum.blocks += facts.blocks;
    const number = this.#names.next();
    const name = printable(file);
    const { target, verbose } = this.#options;
    if (target.kind !== 'file') {
      this.#rank(file, facts);
      return verbose ? [out(this.#row(`${number}${name}`, facts))] : [];
    }
    if (!verbose) return [out(columnHeading('<File>')), out(this.#row(name, facts))];
    return [
      out('<File>'),
      ...Array.from(extents, ({ physical, logical, length }, i) =>
        out(`[ext ${i + 1}]:\tstart ${physical}:\tlogical ${logical}:\tlen ${length}`),
      ),
    ];
  }

  notGood(file: Named, why: string): Line[] {
    const number = this.#names.next();
    if (!this.#options.verbose) return [];
    const heading = this.#options.target.kind === 'file' ? '<File>\n' : number;
    return [err(`${heading} "${printable(file)}"`), err(`\t${printableText(why)}`)];
  }

  summary(): Line[] {
    const { root, target, verbose } = this.#options;
    const done = out(' Done.');
    if (!root) return [done];
    const name = printable(target);
    if (this.#sum.files === 0) {
      const none =
        target.kind === 'file'
          ? ` This file(${name}) can't be defragmented.`
          : ` In this ${target.kind}(${name}), none can be defragmented.`;
      return [...(verbose ? [out('')] : []), out(none), done];
    }
    return [...this.#ranking(), ...this.#totals(`This ${target.kind} (${name})`), done];
  }

  #rank(file: Named, facts: E4defragFacts): void {
    const ratio = ((facts.now - facts.best) * 100) / facts.blocks;
    // Of equals e4defrag puts the last one first.
    const at = this.#ranks.findIndex((rank) => ratio >= rank.ratio);
    this.#ranks.splice(at === -1 ? this.#ranks.length : at, 0, { file, facts, ratio });
    this.#ranks.length = Math.min(this.#ranks.length, SHOWN);
  }

  #ranking(): Line[] {
    const { target, verbose } = this.#options;
    if (target.kind === 'file') return [];
    const rows = this.#ranks.map(({ file, facts }, i) =>
      out(this.#row(`${i + 1}. ${printable(file)}`, facts)),
    );
    return [...(verbose ? [out('')] : []), out(columnHeading('<Fragmented files>')), ...rows];
  }

  #row(name: string, facts: E4defragFacts): string {
    const { now, best } = facts;
    const numbers = this.#options.root
      ? `${String(now).padStart(10)}/${String(best).padEnd(10)}${String(this.#sizePerExtent(facts)).padStart(6)} KB`
      : `${String(now).padStart(10)}/${'-'.padEnd(10)}${'-'.padStart(7)}`;
    const gap = NAME_WIDTH - Buffer.byteLength(name);
    return gap < 0 ? `${name}\n${' '.repeat(NAME_WIDTH)}${numbers}` : `${name}${' '.repeat(gap)}${numbers}`;
  }

  #sizePerExtent({ blocks, now }: Pick<E4defragFacts, 'blocks' | 'now'>): number {
    return Math.floor((blocks * Math.floor(this.#options.target.blockSize / 1024)) / now);
  }

  #totals(subject: string): Line[] {
    const { now, best, blocks } = this.#sum;
    const score = e4defragScore(now, best, blocks);
    return [
      '',
      ` Total/best extents\t\t\t\t${now}/${best}`,
      ` Average size per extent\t\t\t${this.#sizePerExtent({ blocks, now })} KB`,
      ` Fragmentation score\t\t\t\t${score.toFixed(0)}`,
      ' [0-30 no problem: 31-55 a little bit fragmented: 56- needs defrag]',
      ` ${subject} ${verdict(score) === 'needs defragmentation' ? 'needs' : 'does not need'} defragmentation.`,
    ].map(out);
  }
}

function columnHeading(title: string): string {
  return `${title.padEnd(NAME_WIDTH)}${'now'.padStart(10)}/${'best'.padEnd(10)}${'size/ext'.padStart(9)}`;
}
