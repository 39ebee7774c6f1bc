import { findPressureFile, readNow, readPressure } from './counters.ts';

/** How long others had waited for I/O, and when that was asked; both in milliseconds. */
export interface Beginning {
  readonly time: number;
  readonly stalled: number;
}

let beginning: Beginning | undefined;

/** Notes the pressure before this program does anything, so that later it is known what of it is others'. */
export function noteBeginning(): void {
  const file = findPressureFile(readNow);
  const pressure = file === undefined ? undefined : readPressure(readNow, file);
  beginning = pressure && { time: performance.now(), stalled: pressure.stalled };
}

/** What was noted, once: what follows is not others' alone. */
export function takeBeginning(): Beginning | undefined {
  const noted = beginning;
  beginning = undefined;
  return noted;
}
