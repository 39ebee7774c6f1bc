import { scaleBand, scaleLinear } from 'd3-scale';
import { joinClasses, type SizeClass, type SizeRange } from '../../layout/sizeClasses.ts';
import { formatCount, formatRoundSize, formatSize } from '../format.ts';
import { element, fillTable } from './dom.ts';

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [560, 240];
const MARGIN = { left: 70, right: 8, top: 10, bottom: 38 };
/** 4 KiB, four times that, and so on to 1 GiB. */
const BOUNDS = Array.from({ length: 10 }, (_, i) => 4096 * 4 ** i);

export interface Series {
  readonly now: readonly SizeClass[];
  readonly before: readonly SizeClass[] | undefined;
}

interface Bucket {
  readonly label: string;
  readonly now: SizeRange | undefined;
  readonly before: SizeRange | undefined;
}

/** A histogram of the bytes that lie in runs of each size, and the same as a table. */
export function addHistogram(card: HTMLElement, series: Series, what: string): void {
  const buckets = bucketsOf(series);
  if (buckets.length === 0) {
    card.append(element('p', { class: 'quiet' }, 'None.'));
    return;
  }
  card.append(draw(buckets, series.before !== undefined, what));
  if (series.before !== undefined) {
    const swatch = (name: string) => element('span', { class: `swatch bar-${name}` });
    card.append(element('p', { class: 'quiet' }, swatch('before'), 'before \u00a0 ', swatch('now'), 'after'));
  }
  const table = element('table');
  fillTable(
    table,
    headingOf(series.before !== undefined, what),
    buckets.map((bucket) => rowOf(bucket, series)),
  );
  card.append(element('details', {}, element('summary', {}, 'As a table'), table));
}

function bucketsOf({ now, before }: Series): Bucket[] {
  const [present, past] = [joinClasses(now, BOUNDS), joinClasses(before ?? [], BOUNDS)];
  const froms = [...present, ...past].map(({ from }) => from);
  const [first, last] = [Math.min(...froms), Math.max(...froms)];
  // What lies between two that there are is shown too, though there is none.
  return [0, ...BOUNDS]
    .filter((from) => from >= first && from <= last)
    .map((from) => ({
      label: labelOf(from),
      now: present.find((range) => range.from === from),
      before: past.find((range) => range.from === from),
    }));
}

const labelOf = (from: number): string => (from === 0 ? '< 4 KiB' : `${formatRoundSize(from)}`);

function draw(buckets: readonly Bucket[], both: boolean, what: string): SVGElement {
  const most = Math.max(...buckets.flatMap(({ now, before }) => [now?.bytes ?? 0, before?.bytes ?? 0]));
  const x = scaleBand()
    .domain(buckets.map(({ label }) => label))
    .range([MARGIN.left, WIDTH - MARGIN.right])
    .padding(0.22);
  // A power of two, so that the numbers at the side are round.
  const step = 2 ** Math.ceil(Math.log2(most / 4));
  const steps = Math.ceil(most / step);
  const y = scaleLinear()
    .domain([0, steps * step])
    .range([HEIGHT - MARGIN.bottom, MARGIN.top]);
  const image = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: 'img',
    'aria-label': `Bytes in ${what}, by size; the table below has the numbers`,
  });
  for (const value of Array.from({ length: steps + 1 }, (_, i) => i * step)) {
    image.append(
      svg('line', { class: 'rule', x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(value), y2: y(value) }),
      svg(
        'text',
        { x: MARGIN.left - 8, y: y(value) + 4, 'text-anchor': 'end' },
        value === 0 ? '0' : formatRoundSize(value),
      ),
    );
  }
  const names = both ? (['before', 'now'] as const) : (['now'] as const);
  const width = x.bandwidth() / names.length;
  for (const bucket of buckets) {
    const left = x(bucket.label)!;
    names.forEach((name, i) => {
      const range = bucket[name];
      if (range === undefined) return;
      // What there is can be seen.
      const height = Math.max(1.5, y(0) - y(range.bytes));
      const bar = svg('rect', { class: name, x: left + i * width, y: y(0) - height, width, height, rx: 2 });
      const when = both ? (name === 'now' ? 'after: ' : 'before: ') : '';
      const size = formatSize(range.bytes);
      bar.append(
        svg('title', {}, `${rangeText(bucket.label)}, ${when}${size} in ${formatCount(range.count)} ${what}`),
      );
      image.append(bar);
    });
    image.append(
      svg('text', { x: left + x.bandwidth() / 2, y: HEIGHT - 20, 'text-anchor': 'middle' }, bucket.label),
    );
  }
  image.append(
    svg(
      'text',
      { x: (WIDTH + MARGIN.left) / 2, y: HEIGHT - 3, 'text-anchor': 'middle' },
      'from this size up to the next; height: bytes',
    ),
  );
  return image;
}

const rangeText = (label: string): string => (label.startsWith('<') ? label : `from ${label}`);

function svg(name: string, attributes: Readonly<Record<string, string | number>>, text = ''): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}

const headingOf = (both: boolean, what: string): string[] =>
  both ? ['size', `${what} before`, 'bytes before', `${what} after`, 'bytes after'] : ['size', what, 'bytes'];

function rowOf({ label, now, before }: Bucket, series: Series): string[] {
  const cells = (range: SizeRange | undefined) => [
    formatCount(range?.count ?? 0),
    formatSize(range?.bytes ?? 0),
  ];
  return [rangeText(label), ...(series.before === undefined ? [] : cells(before)), ...cells(now)];
}
