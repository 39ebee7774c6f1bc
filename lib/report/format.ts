/** A count; from five digits on they are grouped. */
export function formatCount(value: number): string {
  return value < 10_000 ? String(value) : String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A count with its noun. */
export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${formatCount(value)} ${value === 1 ? one : many}`;

interface SizeUnits {
  readonly step: number;
  readonly names: readonly string[];
}

const BINARY: SizeUnits = { step: 1024, names: ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] };
const DECIMAL: SizeUnits = { step: 1000, names: ['kB', 'MB', 'GB', 'TB', 'PB'] };

let sizeUnits = BINARY;

/** Makes all sizes appear in powers of 1000 (SI), or of 1024 again. A matter of the whole process, as a locale is. */
export function useDecimalUnits(decimal: boolean): void {
  sizeUnits = decimal ? DECIMAL : BINARY;
}

/** Bytes in the largest unit of which there is at least one. */
export function formatSize(size: number): string {
  const { step, names } = sizeUnits;
  if (size < step) return counted(size, 'byte');
  let value = size / step;
  let unit = 0;
  // A little below, so that rounding never shows 1024.0.
  for (; value >= step - 0.05 && unit < names.length - 1; unit++) value /= step;
  return `${value.toFixed(1)} ${names[unit]}`;
}

/** Bytes as people say a round size: 4 KiB, not 4.0 KiB. */
export const formatRoundSize = (size: number): string => formatSize(size).replace('.0 ', ' ');

/** Seconds, in the units in which people say such a time. */
export function formatSeconds(seconds: number): string {
  if (seconds === 0) return '0 s';
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${formatCount(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}

/** A part of a whole, in percent. */
export function formatShare(part: number, whole: number): string {
  return `${(whole === 0 ? 0 : (part / whole) * 100).toFixed(1)} %`;
}
