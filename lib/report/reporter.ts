import type { Event } from './events.ts';

/** A line of output and where it goes: results to stdout, everything else to stderr. */
export interface Line {
  readonly to: 'out' | 'err';
  readonly text: string;
}

/** Turns what happens into lines. Reporters keep sums, never the events. */
export interface Reporter<E extends Event = Event> {
  lines(event: E): readonly Line[];
}

export const out = (text: string): Line => ({ to: 'out', text });
export const err = (text: string): Line => ({ to: 'err', text });
