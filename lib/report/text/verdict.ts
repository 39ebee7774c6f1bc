import type { CheckSummary, TargetEvent } from '../events.ts';
import { formatRoundSize, formatSeconds, formatShare } from '../format.ts';
import { shellWord } from '../names.ts';
import type { Style } from '../style.ts';
import { deviceKind } from './device.ts';

/** Parts of the read time that fragmentation costs: below the first there is nothing to gain, below the second little. */
const NOTHING = 0.02;
const LITTLE = 0.1;

/** A longer command is no help. */
const LONGEST_COMMAND = 100;

/** What the layout of all files together comes to, in words. */
export class Verdict {
  /** How the devices are, in words; several that are alike count once. */
  readonly #devices = new Set<string>();
  #command: string | undefined = 'ext4-defrag';

  addTarget(target: TargetEvent): void {
    this.#devices.add(deviceText(target));
    const word = shellWord(target);
    this.#command = word === undefined ? undefined : this.#command && `${this.#command} ${word}`;
    if (this.#command && this.#command.length > LONGEST_COMMAND) this.#command = undefined;
  }

  /** @param onlyFile whether the summary is that of one file, which the user named */
  lines(summary: CheckSummary, style: Style, onlyFile: boolean): string[] {
    const { files, fragmentedFiles, readSeconds: now, idealReadSeconds: ideal } = summary;
    // Of a part of the files the rest may say otherwise.
    if (files === 0 || summary.interrupted) return [];
    if (fragmentedFiles === 0) {
      return [style.good(`${onlyFile ? 'It is not' : 'No file is'} fragmented: nothing to gain.`)];
    }
    const [device] = this.#devices.size === 1 ? this.#devices : [undefined];
    const what = onlyFile ? 'it' : 'every file';
    const share = now > 0 ? (now - ideal) / now : 0;
    return [
      `Reading ${what} from start to end takes about ${formatSeconds(now)}, ` +
        `and ${formatSeconds(ideal)} if ${onlyFile ? 'it' : 'each'} were ideal:`,
      `fragmentation costs ${formatShare(share, 1)} of the time${device ? ` (${device})` : ''}.`,
      this.#advice(share, style),
    ];
  }

  #advice(share: number, style: Style): string {
    if (share < NOTHING) return style.good('Nothing to gain.');
    if (share < LITTLE) return 'Little to gain.';
    const worth = style.warning('Worth defragmenting');
    return this.#command === undefined ? `${worth}.` : `${worth}: ${this.#command}`;
  }
}

function deviceText(target: TargetEvent): string {
  const { seek, bandwidth } = target.deviceProfile;
  // Three digits, and no more than were given.
  const milliseconds = Number((seek * 1000).toPrecision(3));
  return `${deviceKind(target)}: ${milliseconds} ms a seek, ${formatRoundSize(bandwidth)}/s`;
}
