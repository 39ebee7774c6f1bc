/** Wraps text in what the terminal needs to show it so; without colours, answers it as it is. */
export interface Style {
  readonly good: (text: string) => string;
  readonly warning: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly strong: (text: string) => string;
}

const sgr = (code: number) => (text: string) => `\x1b[${code}m${text}\x1b[0m`;
const plain = (text: string) => text;

export const COLOURS: Style = { good: sgr(32), warning: sgr(33), bad: sgr(31), strong: sgr(1) };
export const NO_COLOURS: Style = { good: plain, warning: plain, bad: plain, strong: plain };
