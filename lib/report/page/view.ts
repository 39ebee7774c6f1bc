import { select } from 'd3-selection';
import { zoom, zoomIdentity, type D3ZoomEvent, type ZoomTransform } from 'd3-zoom';
import type { PicturedFile } from '../picture/picture.ts';
import { drawSquares, type Window } from './image.ts';
import type { Layer } from './layer.ts';
import { cellAt, placeOf, rangesOf, type CellRange, type Order, type Place } from './order.ts';
import { readPalette, type Palette } from './palette.ts';

/** Pixels of the screen along a square at least: as drawn, and to be stepped through by keyboard. */
const LEAST_SQUARE = 2;
const LEAST_STEP = 14;
/** Pixels along a cell at the closest, and of the least zoom that there is. */
const LARGEST_CELL = 48;
/** From so many pixels on, squares are apart. */
const APART = 9;
/** Pixels to either side where the divider can be taken. */
const GRIP = 7;

/** Part of the map that is pointed at. */
export interface Spot {
  readonly layer: Layer;
  readonly ranges: readonly CellRange[];
  /** In pixels of the page, from the canvas's corner. */
  readonly x: number;
  readonly y: number;
  readonly byKeyboard: boolean;
}

export interface ViewEvents {
  readonly point: (spot: Spot | undefined) => void;
  readonly zoomed: (factor: number) => void;
  readonly split: (share: number) => void;
}

/** The map on its canvas: what of it is shown, and how it is moved. */
export class View {
  readonly #canvas: HTMLCanvasElement;
  readonly #now: Layer;
  readonly #before: Layer | undefined;
  readonly #events: ViewEvents;
  readonly #zoom = zoom<HTMLCanvasElement, unknown>();
  readonly #images = new Map<Layer, { readonly key: string; readonly image: HTMLCanvasElement }>();
  readonly #selected = new Map<Layer, Float64Array | undefined>();
  #palette: Palette = readPalette();
  #transform: ZoomTransform = zoomIdentity;
  #order: Order = 'hilbert';
  /** Share of the width that shows how it was before. */
  #split: number;
  /** Cell that the keyboard points at. */
  #cursor: number | undefined;
  #selection = 0;
  #scheduled = false;

  constructor(canvas: HTMLCanvasElement, now: Layer, before: Layer | undefined, events: ViewEvents) {
    this.#canvas = canvas;
    this.#now = now;
    this.#before = before;
    this.#events = events;
    this.#split = before === undefined ? 0 : 0.5;
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize();
  }

  get #width(): number {
    return this.#canvas.clientWidth;
  }

  set order(order: Order) {
    this.#order = order;
    this.#images.clear();
    this.#schedule();
  }

  set split(share: number) {
    this.#split = share;
    this.#schedule();
  }

  /** Highlights a file, or none. */
  select(file: PicturedFile | undefined): void {
    for (const layer of [this.#now, this.#before]) {
      if (layer === undefined) continue;
      // A picture that does not know the file is dimmed all the same.
      const none = new Float64Array(layer.grid.count + 1);
      this.#selected.set(layer, file && (layer.sumsOfFile(file) ?? none));
    }
    this.#selection++;
    this.#images.clear();
    this.#schedule();
  }

  /** After the colours have changed. */
  recolour(): void {
    this.#palette = readPalette();
    this.#images.clear();
    this.#schedule();
  }

  zoomBy(factor: number): void {
    const around = this.#cursor === undefined ? undefined : this.#pixelOf(this.#cursor);
    this.#zoom.scaleBy(select(this.#canvas), factor, around);
  }

  showAll(): void {
    this.#zoom.transform(select(this.#canvas), zoomIdentity);
  }

  #resize(): void {
    const width = this.#width;
    const pixels = Math.round(width * devicePixelRatio);
    if (width === 0 || this.#canvas.width === pixels) return;
    this.#canvas.width = this.#canvas.height = pixels;
    const { side } = this.#now.grid;
    this.#zoom
      .extent([
        [0, 0],
        [width, width],
      ])
      .translateExtent([
        [0, 0],
        [width, width],
      ])
      .scaleExtent([1, Math.max(1, (LARGEST_CELL * side) / width)]);
    this.showAll();
    this.#schedule();
  }

  #listen(): void {
    const canvas = this.#canvas;
    this.#zoom
      .filter(
        (event: MouseEvent) => event.button === 0 && !(event.type === 'mousedown' && this.#onDivider(event)),
      )
      .on('zoom', ({ transform }: D3ZoomEvent<HTMLCanvasElement, unknown>) => {
        this.#transform = transform;
        this.#events.zoomed(transform.k);
        this.#events.point(undefined);
        this.#schedule();
      });
    select(canvas).call(this.#zoom).on('dblclick.zoom', null);
    let dragging = false;
    canvas.addEventListener('pointerdown', (event) => {
      if (!this.#onDivider(event)) return;
      dragging = true;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointerup', () => (dragging = false));
    canvas.addEventListener('pointermove', (event) => {
      if (dragging) {
        const share = Math.min(1, Math.max(0, event.offsetX / this.#width));
        this.split = share;
        this.#events.split(share);
        return;
      }
      canvas.style.cursor = this.#onDivider(event) ? 'ew-resize' : '';
      this.#pointAt(event);
    });
    canvas.addEventListener('pointerleave', () => this.#events.point(undefined));
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('blur', () => this.#setCursor(undefined));
  }

  #onDivider({ offsetX }: MouseEvent): boolean {
    return this.#before !== undefined && Math.abs(offsetX - this.#split * this.#width) < GRIP;
  }

  #pointAt({ offsetX, offsetY }: PointerEvent): void {
    const { side } = this.#now.grid;
    const scale = this.#scale(LEAST_SQUARE);
    const [x, y] = this.#transform
      .invert([offsetX, offsetY])
      .map((value) => Math.floor((value / this.#width) * (side / scale)));
    const outside = Math.min(x, y) < 0 || Math.max(x, y) >= side / scale;
    this.#events.point(outside ? undefined : this.#spot({ x, y }, scale, offsetX, offsetY, false));
  }

  #spot(place: Place, scale: number, x: number, y: number, byKeyboard: boolean): Spot {
    const isBefore = this.#before !== undefined && x < this.#split * this.#width;
    const layer = isBefore ? this.#before : this.#now;
    return { layer, ranges: rangesOf(this.#order, layer.grid.side, scale, place), x, y, byKeyboard };
  }

  /** Cells along a square, so that it has at least so many pixels. */
  #scale(least: number): number {
    const { side } = this.#now.grid;
    const pixels = (this.#canvas.width * this.#transform.k) / side;
    let scale = 1;
    while (scale < side && pixels * scale < least * devicePixelRatio) scale *= 2;
    return scale;
  }

  /** The middle of the square that the keyboard steps on, in pixels of the page. */
  #pixelOf(cell: number): [number, number] {
    const scale = this.#scale(LEAST_STEP);
    const { side } = this.#now.grid;
    const { x, y } = placeOf(this.#order, side, cell);
    const middle = (cells: number) => ((Math.floor(cells / scale) + 0.5) * scale * this.#width) / side;
    return this.#transform.apply([middle(x), middle(y)]);
  }

  #setCursor(cell: number | undefined): void {
    this.#cursor = cell;
    this.#schedule();
    if (cell === undefined) {
      this.#events.point(undefined);
      return;
    }
    const [x, y] = this.#pixelOf(cell);
    const scale = this.#scale(LEAST_STEP);
    const place = placeOf(this.#order, this.#now.grid.side, cell);
    const square = { x: Math.floor(place.x / scale), y: Math.floor(place.y / scale) };
    this.#events.point(this.#spot(square, scale, x, y, true));
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step !== undefined) {
      if (event.shiftKey) this.#pan(step);
      else this.#step(step);
    } else if (event.key === '+' || event.key === '=') this.zoomBy(2);
    else if (event.key === '-') this.zoomBy(1 / 2);
    else if (event.key === '0') this.showAll();
    else return;
    event.preventDefault();
  }

  #pan([x, y]: readonly [number, number]): void {
    const by = this.#width / this.#transform.k / 8;
    this.#zoom.translateBy(select(this.#canvas), -x * by, -y * by);
  }

  #step([dx, dy]: readonly [number, number]): void {
    const { side } = this.#now.grid;
    const scale = this.#scale(LEAST_STEP);
    if (this.#cursor === undefined) {
      const [x, y] = this.#transform.invert([this.#width / 2, this.#width / 2]);
      const cells = (value: number) => Math.min(side - 1, Math.floor((value / this.#width) * side));
      this.#setCursor(cellAt(this.#order, side, { x: cells(x), y: cells(y) }));
      return;
    }
    const { x, y } = placeOf(this.#order, side, this.#cursor);
    const within = (value: number) => Math.min(side - 1, Math.max(0, value));
    const cell = cellAt(this.#order, side, { x: within(x + dx * scale), y: within(y + dy * scale) });
    const [left, top] = this.#pixelOf(cell);
    if (Math.min(left, top) < 0 || Math.max(left, top) > this.#width) this.#pan([dx, dy]);
    this.#setCursor(cell);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#draw();
    });
  }

  #draw(): void {
    const context = this.#canvas.getContext('2d')!;
    const size = this.#canvas.width;
    const { side } = this.#now.grid;
    const window = this.#visible();
    // Of one square, in pixels of the screen; the corner is where the first one begins.
    const square = (size * this.#transform.k * window.scale) / side;
    const corner = (first: number, shift: number) => first * square + shift * devicePixelRatio;
    const [left, top] = [corner(window.left, this.#transform.x), corner(window.top, this.#transform.y)];
    const middle = Math.round(size * this.#split);
    context.imageSmoothingEnabled = false;
    const parts: [Layer | undefined, number, number][] = [
      [this.#before, 0, middle],
      [this.#now, this.#before === undefined ? 0 : middle, size],
    ];
    for (const [layer, from, to] of parts) {
      if (layer === undefined || to <= from) continue;
      const image = this.#image(layer, window);
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, size);
      context.clip();
      context.drawImage(image, left, top, image.width * square, image.height * square);
      context.restore();
    }
    if (square >= APART * devicePixelRatio) this.#drawGrid(context, window, left, top, square);
    this.#drawCursor(context);
    if (this.#before !== undefined) this.#drawDivider(context, middle);
  }

  #visible(): Window {
    const { side } = this.#now.grid;
    const scale = this.#scale(LEAST_SQUARE);
    const [near, far] = [
      this.#transform.invert([0, 0]),
      this.#transform.invert([this.#width, this.#width]),
    ].map((point) => point.map((value) => (value / this.#width) * (side / scale)));
    const end = (value: number) => Math.min(side / scale, Math.ceil(value));
    const begin = (value: number) => Math.max(0, Math.floor(value));
    return { scale, left: begin(near[0]), top: begin(near[1]), right: end(far[0]), bottom: end(far[1]) };
  }

  #image(layer: Layer, window: Window): HTMLCanvasElement {
    const key = JSON.stringify([window, this.#order, this.#selection]);
    let known = this.#images.get(layer);
    if (known?.key !== key) {
      const image = drawSquares(layer, this.#order, window, this.#palette, this.#selected.get(layer));
      known = { key, image };
      this.#images.set(layer, known);
    }
    return known.image;
  }

  #drawGrid(
    context: CanvasRenderingContext2D,
    window: Window,
    left: number,
    top: number,
    square: number,
  ): void {
    const size = this.#canvas.width;
    context.fillStyle = this.#palette.grid;
    const width = Math.max(1, Math.round(square / 16));
    for (let column = 0; column <= window.right - window.left; column++) {
      context.fillRect(Math.round(left + column * square), 0, width, size);
    }
    for (let row = 0; row <= window.bottom - window.top; row++) {
      context.fillRect(0, Math.round(top + row * square), size, width);
    }
  }

  #drawCursor(context: CanvasRenderingContext2D): void {
    if (this.#cursor === undefined) return;
    const [x, y] = this.#pixelOf(this.#cursor).map((value) => value * devicePixelRatio);
    const square = (this.#canvas.width * this.#transform.k * this.#scale(LEAST_STEP)) / this.#now.grid.side;
    for (const [colour, width] of [
      [this.#palette.card, 5],
      [this.#palette.text, 2],
    ] as const) {
      context.strokeStyle = colour;
      context.lineWidth = width * devicePixelRatio;
      context.strokeRect(x - square / 2, y - square / 2, square, square);
    }
  }

  #drawDivider(context: CanvasRenderingContext2D, middle: number): void {
    const size = this.#canvas.width;
    const unit = devicePixelRatio;
    context.fillStyle = this.#palette.card;
    context.fillRect(middle - 2 * unit, 0, 4 * unit, size);
    context.fillStyle = this.#palette.text;
    context.fillRect(middle - unit, 0, 2 * unit, size);
    context.beginPath();
    context.arc(middle, size / 2, 11 * unit, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = this.#palette.card;
    for (const way of [-1, 1]) {
      context.beginPath();
      context.moveTo(middle + way * 3 * unit, size / 2 - 4 * unit);
      context.lineTo(middle + way * 8 * unit, size / 2);
      context.lineTo(middle + way * 3 * unit, size / 2 + 4 * unit);
      context.fill();
    }
  }
}

const STEPS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
