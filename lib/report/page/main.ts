import { counted, formatCount, formatRoundSize, formatShare } from '../format.ts';
import type { PageData, PicturedFile } from '../picture/picture.ts';
import { addHistogram } from './charts.ts';
import { byId, element, fillTable } from './dom.ts';
import { FileList } from './files.ts';
import { Layer, SHOWN, type Shown } from './layer.ts';
import type { Order } from './order.ts';
import { followTheme } from './theme.ts';
import { compositionText, namesFor, sizeOf, timeText, whereText } from './words.ts';
import { View, type Spot } from './view.ts';

/** Files that a tooltip names. */
const NAMED_AT_ONCE = 4;
/** Rows of the table that says what the map shows. */
const REGIONS = 64;

const { before: pictureBefore, now: picture, version } = JSON.parse(byId('data').textContent) as PageData;
const now = new Layer(picture);
const before = pictureBefore === null ? undefined : new Layer(pictureBefore);
const names = namesFor(picture);

const slider = byId<HTMLInputElement>('slider');
const view = new View(byId<HTMLCanvasElement>('canvas'), now, before, {
  point: showSpot,
  zoomed: (factor) =>
    (byId('zoom').textContent = `${factor < 10 ? Number(factor.toFixed(1)) : Math.round(factor)}\u00d7`),
  split: (share) => showSplit(share * 100),
});
const files = new FileList(byId<HTMLTableElement>('files-table'), now, before, (file) => {
  view.select(file);
  if (file !== undefined) announce(selectionText(file));
});

introduce();
addFigures();
addLegend();
addControls();
addFiles();
addCharts();
addRegions();
followTheme(byId<HTMLButtonElement>('theme'), () => view.recolour());

function announce(text: string): void {
  byId('announcement').textContent = text;
}

function introduce(): void {
  const { name, device, mountPoint, blocks, blockSize, unknown } = picture;
  const title = before === undefined ? `Block map of ${name}` : `${name}, before and after`;
  document.title = title;
  byId('title').textContent = title;
  const when =
    before === undefined ? timeText(picture) : `${timeText(before.picture)} and ${timeText(picture)}`;
  byId('subtitle').textContent = [
    `ext4 on ${device}, mounted on ${mountPoint}`,
    `${formatRoundSize(blocks * blockSize)} in blocks of ${formatRoundSize(blockSize)}`,
    when,
  ].join(' \u00b7 ');
  const perCell = now.grid.blocksPerCell;
  const cell =
    perCell === 1
      ? 'Every block is a cell of the map.'
      : `A cell of the map is ${formatRoundSize(Math.round(perCell) * blockSize)}: where exactly blocks lie in it is kept only for the files named here.`;
  byId('notes').textContent = unknown === null ? '' : `Whose blocks are is not known here: ${unknown}`;
  byId('footer').textContent =
    `${cell} Made by ext4-defrag ${version}; this page is complete in itself and asks nothing of the network.`;
}

interface Figure {
  readonly label: string;
  readonly value: (of: Layer) => number | undefined;
  readonly text: (value: number) => string;
  /** Which way is better, for those of which one is. */
  readonly better?: 'less' | 'more';
}

function figures(): Figure[] {
  const size = (blocks: number) => sizeOf(picture, blocks);
  return [
    { label: 'Used', value: ({ picture: { blocks, totals } }) => blocks - totals.free, text: size },
    { label: 'Free', value: ({ picture: { totals } }) => totals.free, text: size },
    { label: 'Free runs', value: ({ picture: { free } }) => free.runs, text: formatCount, better: 'less' },
    { label: 'Longest free run', value: ({ picture: { free } }) => free.longest, text: size, better: 'more' },
    ...(picture.kind === 'file'
      ? []
      : ([
          { label: 'Files', value: ({ picture: { files } }) => files?.count, text: formatCount },
          {
            label: 'Fragmented files',
            value: ({ picture: { files } }) => files?.fragmented,
            text: formatCount,
            better: 'less',
          },
        ] satisfies Figure[])),
    {
      label: 'Fragments',
      value: ({ picture: { files } }) => files?.fragments,
      text: formatCount,
      better: 'less',
    },
  ];
}

function addFigures(): void {
  for (const { label, value, text, better } of figures()) {
    const [present, past] = [value(now), before && value(before)];
    if (present === undefined) continue;
    const item = element(
      'li',
      {},
      element('span', { class: 'label' }, label),
      element('span', { class: 'value' }, text(present)),
    );
    if (past !== undefined) {
      const gained = better === 'less' ? present < past : better === 'more' && present > past;
      const was = past === present ? 'as before' : `was ${text(past)}`;
      item.append(element('span', { class: gained ? 'was better' : 'was' }, was));
    }
    byId('figures').append(item);
  }
}

function totalOf({ sums, grid }: Layer, kind: Shown): number {
  return sums[kind][grid.count];
}

function addLegend(): void {
  for (const kind of SHOWN) {
    const [present, past] = [totalOf(now, kind), before ? totalOf(before, kind) : 0];
    if (present + past === 0) continue;
    const share = (blocks: number) => formatShare(blocks, picture.blocks);
    const amount = before === undefined ? share(present) : `${share(past)} \u2192 ${share(present)}`;
    byId('legend').append(
      element(
        'li',
        {},
        element('span', { class: `swatch ${kind}` }),
        `${names[kind]} `,
        element('span', { class: 'quiet' }, amount),
      ),
    );
  }
}

function setOrder(order: Order): void {
  document.querySelector<HTMLInputElement>(`input[value=${order}]`)!.checked = true;
  view.order = order;
}

function showSplit(percent: number): void {
  slider.value = String(percent);
  slider.setAttribute('aria-valuetext', `${Math.round(percent)} percent before`);
  byId('label-before').hidden = before === undefined || percent < 12;
  byId('label-after').hidden = before === undefined || percent > 88;
}

function addControls(): void {
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=order]')) {
    radio.addEventListener('change', () => setOrder(radio.value as Order));
  }
  byId('zoom-in').addEventListener('click', () => view.zoomBy(2));
  byId('zoom-out').addEventListener('click', () => view.zoomBy(1 / 2));
  byId('zoom-reset').addEventListener('click', () => view.showAll());
  byId('canvas').addEventListener('keydown', ({ key, ctrlKey, metaKey, altKey }) => {
    if (ctrlKey || metaKey || altKey) return;
    if (key === 'h' || key === 'l') setOrder(key === 'h' ? 'hilbert' : 'linear');
  });
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape') files.clear();
  });
  byId('comparison').hidden = before === undefined;
  slider.addEventListener('input', () => {
    view.split = slider.valueAsNumber / 100;
    showSplit(slider.valueAsNumber);
  });
  showSplit(50);
}

function addFiles(): void {
  byId('files').hidden = picture.unknown !== null;
  if (picture.kind === 'file') {
    byId('files-heading').textContent = 'The file';
    // Of a large device it is so little that nobody would see it.
    files.selectFirst();
  }
  const cut = [...now.files, ...(before?.files ?? [])].some(({ extentsLeftOut }) => extentsLeftOut > 0);
  byId('files-note').textContent = [
    files.count === 0 ? 'No file is fragmented.' : 'Choose one to see where it lies.',
    ...(cut ? ['Not all extents of all of them are known here: there are too many.'] : []),
  ].join(' ');
}

function selectionText({ name, inode, generation }: PicturedFile): string {
  const file = now.files.find((one) => one.inode === inode && one.generation === generation);
  return `${name} is highlighted${file ? `, ${counted(file.fragments, 'fragment')}` : ''}`;
}

function showSpot(spot: Spot | undefined): void {
  const tooltip = byId('tooltip');
  tooltip.hidden = spot === undefined;
  if (spot === undefined) return;
  const { layer, ranges } = spot;
  const where = `${whereText(layer, ranges)}${before === undefined ? '' : layer === before ? ', before' : ', after'}`;
  const what = compositionText(layer, ranges);
  const inside = filesIn(spot);
  const lines = inside.slice(0, NAMED_AT_ONCE).map(({ file, blocks }) => {
    const isWhole = file.fragments <= file.idealFragments;
    const name = element('bdi', { class: isWhole ? 'name whole' : 'name' }, file.name);
    const about = ` \u2013 ${counted(file.fragments, 'fragment')}, ${sizeOf(picture, blocks)} of it here`;
    return element('p', { class: 'file' }, name, about);
  });
  const more = inside.length - lines.length;
  tooltip.replaceChildren(
    element('p', { class: 'where' }, where),
    element('p', {}, what),
    ...lines,
    ...(more > 0 ? [element('p', { class: 'file quiet' }, `and ${counted(more, 'named file')} more`)] : []),
  );
  place(tooltip, spot);
  if (spot.byKeyboard) announce([where, what, ...lines.map(({ textContent }) => textContent)].join('. '));
}

function filesIn({ layer, ranges }: Spot): ReturnType<Layer['filesIn']> {
  const { grid } = layer;
  if (ranges.length === 1)
    return layer.filesIn({ start: grid.start(ranges[0].from), end: grid.start(ranges[0].to) });
  const all = new Map<PicturedFile, ReturnType<Layer['filesIn']>[number]>();
  for (const { from, to } of ranges) {
    for (const { file, blocks } of layer.filesIn({ start: grid.start(from), end: grid.start(to) })) {
      all.set(file, { file, blocks: blocks + (all.get(file)?.blocks ?? 0) });
    }
  }
  return [...all.values()].sort((a, b) => b.blocks - a.blocks);
}

/** Beside the pointer, on the side that has more room. */
function place(tooltip: HTMLElement, { x, y }: Spot): void {
  const { clientWidth, clientHeight } = byId('plot');
  const gap = 16;
  const left = x > clientWidth / 2 ? x - gap - tooltip.offsetWidth : x + gap;
  const top = y > clientHeight / 2 ? y - gap - tooltip.offsetHeight : y + gap;
  tooltip.style.left = `${Math.max(0, left)}px`;
  tooltip.style.top = `${top}px`;
}

function addCharts(): void {
  byId('fragment-sizes').hidden = picture.files === null;
  if (picture.files !== null) {
    const series = { now: picture.files.sizes, before: before?.picture.files?.sizes };
    addHistogram(byId('fragment-sizes'), series, 'fragments');
  }
  addHistogram(byId('free-sizes'), { now: picture.free.sizes, before: before?.picture.free.sizes }, 'runs');
}

function addRegions(): void {
  const { grid } = now;
  const count = Math.min(REGIONS, grid.count);
  const share = (layer: Layer, kind: Shown, from: number, to: number) =>
    formatShare(layer.sums[kind][to] - layer.sums[kind][from], grid.start(to) - grid.start(from));
  const kinds = SHOWN.filter((kind) => totalOf(now, kind) + (before ? totalOf(before, kind) : 0) > 0);
  const rows = Array.from({ length: count }, (_, i) => {
    const [from, to] = [(i * grid.count) / count, ((i + 1) * grid.count) / count];
    const shares = kinds.map((kind) => {
      const present = share(now, kind, from, to);
      return before === undefined ? present : `${share(before, kind, from, to)} \u2192 ${present}`;
    });
    return [`${formatCount(grid.start(from))} \u2013 ${formatCount(grid.start(to) - 1)}`, ...shares];
  });
  fillTable(byId<HTMLTableElement>('regions-table'), ['blocks', ...kinds.map((kind) => names[kind])], rows);
}
