import { SHOWN, type Layer } from './layer.ts';
import { eachRange, type Order } from './order.ts';
import type { Palette, Rgb } from './palette.ts';

/** Squares of the map, the end not included, and how many cells each has along its side. */
export interface Window {
  readonly scale: number;
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

interface Paint {
  /** Blocks before each cell. */
  readonly sums: Float64Array;
  readonly weight: number;
  readonly rgb: Rgb;
}

/** How much a block counts in the colour of its square: a few fragmented ones are to be seen among many others. */
const WEIGHT = { free: 1, contiguous: 1, fragmented: 1.6, worst: 1.6, metadata: 1.2, other: 1 };

/** Of a selected file the least that a square shows which has one block of it. */
const LEAST_SELECTED = 0.55;

/** A pixel for each square. */
export function drawSquares(
  layer: Layer,
  order: Order,
  window: Window,
  palette: Palette,
  selected: Float64Array | undefined,
): HTMLCanvasElement {
  const [width, height] = [window.right - window.left, window.bottom - window.top];
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d')!;
  const image = context.createImageData(width, height);
  const paints = paintsOf(layer, palette);
  const { side } = layer.grid;
  // Set for each square: a closure for each would cost more than all the rest.
  let [red, green, blue, all, marked, blocks] = [0, 0, 0, 0, 0, 0];
  const add = (from: number, to: number) => {
    for (const { sums, weight, rgb } of paints) {
      const amount = (sums[to] - sums[from]) * weight;
      all += amount;
      red += amount * rgb[0];
      green += amount * rgb[1];
      blue += amount * rgb[2];
    }
    if (selected === undefined) return;
    marked += selected[to] - selected[from];
    blocks += layer.grid.start(to) - layer.grid.start(from);
  };
  const place = { x: 0, y: 0 };
  for (let at = 0, y = window.top; y < window.bottom; y++) {
    for (let x = window.left; x < window.right; x++, at += 4) {
      red = green = blue = all = marked = blocks = 0;
      place.x = x;
      place.y = y;
      eachRange(order, side, window.scale, place, add);
      let rgb: readonly number[] = [red / all, green / all, blue / all];
      if (selected !== undefined) {
        rgb = mix(rgb, palette.dimmed, 0.75);
        if (marked > 0)
          rgb = mix(rgb, palette.selected, Math.max(LEAST_SELECTED, Math.min(1, marked / blocks)));
      }
      image.data[at] = rgb[0];
      image.data[at + 1] = rgb[1];
      image.data[at + 2] = rgb[2];
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** What adds to a square's colour: of the worst files, as much as is cold is as any other fragmented file. */
function paintsOf({ sums, heat }: Layer, { kinds }: Palette): readonly Paint[] {
  return [
    ...SHOWN.map((kind) => ({
      sums: sums[kind],
      weight: WEIGHT[kind],
      rgb: kinds[kind === 'worst' ? 'fragmented' : kind],
    })),
    { sums: heat, weight: WEIGHT.worst, rgb: kinds.worst },
    { sums: heat, weight: -WEIGHT.worst, rgb: kinds.fragmented },
  ];
}

const mix = (from: readonly number[], to: readonly number[], share: number): readonly number[] =>
  from.map((value, i) => value + (to[i] - value) * share);
