import type { MapStyle } from '../report/map.ts';
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

/** How a terminal, or what is none, shows a map. */
export function mapStyleFor(output: Output, env: NodeJS.ProcessEnv = process.env): MapStyle {
  const { LC_ALL, LC_CTYPE, LANG } = env;
  return {
    // Some terminals do not know their width, and say 0.
    width: Math.min(output.stream.columns || 80, 120),
    // The first that is set and not empty counts (locale(7)).
    unicode: /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || ''),
    colour: styleFor(output, env) === COLOURS,
  };
}
