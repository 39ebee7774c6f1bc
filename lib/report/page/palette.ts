import { SHOWN, type Shown } from './layer.ts';

export type Rgb = readonly [red: number, green: number, blue: number];

/** The colours of the style sheet that the map is drawn with. */
export interface Palette {
  readonly kinds: Readonly<Record<Shown, Rgb>>;
  readonly selected: Rgb;
  readonly dimmed: Rgb;
  readonly grid: string;
  readonly text: string;
  readonly card: string;
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const rgb = (name: string): Rgb => {
    const value = Number.parseInt(colour(name).slice(1), 16);
    return [value >> 16, (value >> 8) & 0xff, value & 0xff];
  };
  const kinds = Object.fromEntries(SHOWN.map((kind) => [kind, rgb(kind)])) as Record<Shown, Rgb>;
  return {
    kinds,
    selected: rgb('selected'),
    dimmed: rgb('dimmed'),
    grid: colour('grid'),
    text: colour('text'),
    card: colour('card'),
  };
}
