/** Colours: lines that colour-blind readers tell apart, and scales of cells on which the page's ink can be read. */
import { dark } from "./theme";

type Rgb = readonly [number, number, number];

const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#7b4fb5", "#5c6670"];
const DARK_LINES = ["#4aa8e8", "#ff8f4a", "#2cc79a", "#e79bc6", "#e0c04a", "#8fd0ff", "#b28df0", "#aab4be"];

export const LINE_COLOURS = LINES.length;

/** The colour of the nth line. */
export const lineColour = (n: number): string => (dark.value ? DARK_LINES : LINES)[n % LINE_COLOURS]!;

const SEQUENTIAL: readonly Rgb[] = [[255, 255, 255], [255, 236, 190], [255, 201, 120], [247, 152, 86], [232, 118, 90]];
const DARK_SEQUENTIAL: readonly Rgb[] = [[24, 27, 33], [62, 44, 30], [104, 59, 22], [140, 62, 24], [158, 50, 40]];
const FALLING: readonly Rgb[] = [[255, 255, 255], [205, 226, 247], [145, 191, 233], [96, 156, 214]];
const RISING: readonly Rgb[] = [[255, 255, 255], [255, 224, 196], [250, 178, 124], [232, 128, 74]];
const DARK_FALLING: readonly Rgb[] = [[24, 27, 33], [24, 50, 78], [26, 72, 120], [32, 92, 158]];
const DARK_RISING: readonly Rgb[] = [[24, 27, 33], [72, 44, 22], [118, 60, 18], [156, 68, 22]];

/** Of no value. */
const NOTHING: Rgb = [214, 218, 224];
const DARK_NOTHING: Rgb = [52, 57, 66];

function along(stops: readonly Rgb[], share: number): Rgb {
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const [a, b, t] = [stops[i]!, stops[i + 1]!, place - i];
  return [0, 1, 2].map((c) => Math.round(a[c]! + (b[c]! - a[c]!) * t)) as unknown as Rgb;
}

/** What numbers look like: values from 0 to `top`, or from −`top` to `top` where they are differences. */
export interface ColourScale {
  top: number;
  diverging: boolean;
}

/** The colour of a value as numbers from 0 to 255. */
export function rgbOf(value: number, scale: ColourScale): Rgb {
  const night = dark.value;
  if (Number.isNaN(value)) return night ? DARK_NOTHING : NOTHING;
  if (!scale.diverging) return along(night ? DARK_SEQUENTIAL : SEQUENTIAL, value / scale.top);
  const size = Math.abs(value);
  const stops = value < 0 ? (night ? DARK_FALLING : FALLING) : night ? DARK_RISING : RISING;
  return along(stops, size && Math.max(0.05, size / scale.top));
}

/** The colour of a value as CSS has it. */
export const colourOf = (value: number, scale: ColourScale): string => `rgb(${rgbOf(value, scale).join(" ")})`;

const SHADES = 255;

/** Fill pixels with the colours of values; a colour is worked out once, for there may be a hundred thousand values. */
export function paint(pixels: Uint32Array, values: ArrayLike<number>, scale: ColourScale): void {
  const pixel = (value: number) => {
    const [red, green, blue] = rgbOf(value, scale);
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  };
  const shades = Uint32Array.from({ length: 2 * SHADES + 1 }, (_, i) => pixel((scale.top * (i - SHADES)) / SHADES));
  const nothing = pixel(NaN);
  for (let i = 0; i < pixels.length; i++) {
    const share = (SHADES * values[i]!) / scale.top;
    pixels[i] = Number.isNaN(share) ? nothing : shades[SHADES + Math.max(-SHADES, Math.min(SHADES, share < 0 ? Math.floor(share) : Math.ceil(share)))]!;
  }
}
