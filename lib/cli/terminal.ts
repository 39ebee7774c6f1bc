import { COLOURS, NO_COLOURS, type Style } from '../report/style.ts';
import type { Output } from './output.ts';

/** Colours for a terminal that shows them, unless the user wants none (no-color.org). */
export function styleFor(output: Output, env: NodeJS.ProcessEnv = process.env): Style {
  const wanted = (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return output.isTerminal && wanted ? COLOURS : NO_COLOURS;
}
