/** A count; from five digits on they are grouped. */
export function formatCount(value: number): string {
  return value < 10_000 ? String(value) : String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A count with its noun. */
export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${formatCount(value)} ${value === 1 ? one : many}`;

const SIZE_UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes in the largest unit of which there is at least one. */
export function formatSize(size: number): string {
  if (size < 1024) return counted(size, 'byte');
  let value = size / 1024;
  let unit = 0;
  // Below 1023.95, so that rounding never shows 1024.0.
  for (; value >= 1023.95 && unit < SIZE_UNITS.length - 1; unit++) value /= 1024;
  return `${value.toFixed(1)} ${SIZE_UNITS[unit]}`;
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
