import { formatCount, formatSize } from '../format.ts';
import type { PicturedFile } from '../picture/picture.ts';
import { element, fillTable } from './dom.ts';
import type { Layer, PlacedFile } from './layer.ts';

interface FileRow {
  readonly file: PlacedFile;
  readonly before: PlacedFile | undefined;
  readonly now: PlacedFile | undefined;
}

const excess = ({ fragments, idealFragments }: PicturedFile): number => fragments - idealFragments;
const keyOf = ({ inode, generation }: PicturedFile): string => `${inode}.${generation}`;

/** The files that have a name in either picture, the one with the most fragments too many in either first. */
function rowsOf(now: Layer, before: Layer | undefined): FileRow[] {
  const [present, past] = [now.files, before?.files ?? []].map(
    (files) => new Map(files.map((file) => [keyOf(file), file])),
  );
  return [...new Map([...past, ...present])]
    .map(([key, file]) => ({ file, before: past.get(key), now: present.get(key) }))
    .sort((a, b) => worst(b) - worst(a));
}

const worst = ({ before, now }: FileRow): number =>
  Math.max(before ? excess(before) : 0, now ? excess(now) : 0);

/** The list of named files, of which one can be selected. */
export class FileList {
  readonly #buttons: HTMLButtonElement[] = [];
  readonly #select: (file: PicturedFile | undefined) => void;

  constructor(
    table: HTMLTableElement,
    now: Layer,
    before: Layer | undefined,
    select: (file: PicturedFile | undefined) => void,
  ) {
    this.#select = select;
    const heading = before === undefined ? ['fragments'] : ['before', 'after'];
    const rows = rowsOf(now, before).map((row) => [
      this.#button(row.file),
      formatSize(row.file.size),
      ...(before === undefined ? [] : [fragmentsOf(row.before)]),
      fragmentsOf(row.now),
    ]);
    fillTable(table, ['name', 'size', ...heading], rows);
  }

  get count(): number {
    return this.#buttons.length;
  }

  selectFirst(): void {
    this.#buttons[0]?.click();
  }

  /** Selects none. */
  clear(): void {
    for (const button of this.#buttons) button.setAttribute('aria-pressed', 'false');
    this.#select(undefined);
  }

  #button(file: PlacedFile): HTMLButtonElement {
    const attributes = { type: 'button', 'aria-pressed': 'false', title: file.name, dir: 'ltr' };
    const button = element('button', attributes, element('bdi', {}, file.name));
    button.addEventListener('click', () => {
      const pressed = button.getAttribute('aria-pressed') === 'true';
      this.clear();
      if (pressed) return;
      button.setAttribute('aria-pressed', 'true');
      this.#select(file);
    });
    this.#buttons.push(button);
    return button;
  }
}

const fragmentsOf = (file: PicturedFile | undefined): string =>
  file === undefined ? '\u2013' : formatCount(file.fragments);
