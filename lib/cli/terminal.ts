import { COLOURS, NO_COLOURS, type Style } from '../report/style.ts';
import type { Colouring } from './options.ts';
import type { Output } from './output.ts';

let colouring: Colouring = 'auto';

/** What the user wants of colours in this process. */
export function useColouring(wanted: Colouring): void {
  colouring = wanted;
}

/** Colours where they were asked for, else for a terminal that shows them, unless the user wants none (no-color.org). */
export function styleFor(
  output: Pick<Output, 'isTerminal'>,
  env: NodeJS.ProcessEnv = process.env,
  wanted = colouring,
): Style {
  if (wanted !== 'auto') return wanted === 'always' ? COLOURS : NO_COLOURS;
  const bearable = (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return output.isTerminal && bearable ? COLOURS : NO_COLOURS;
}
