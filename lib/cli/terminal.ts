import type { MapStyle } from '../report/map.ts';
import { COLOURS, NO_COLOURS, type Style } from '../report/style.ts';
import type { Output } from './output.ts';

/** Colours for a terminal that shows them, unless the user wants none (no-color.org). */
export function styleFor(output: Output, env: NodeJS.ProcessEnv = process.env): Style {
  const wanted = (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return output.isTerminal && wanted ? COLOURS : NO_COLOURS;
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
