/** Numbers of one context: a row for each step, a column for each token that has a loss. */
import type { Frame } from "../../api";
import type { ColourScale } from "../../colours";

export interface Grid {
  steps: number[];
  /** Tokens with a loss; that of column 0 stands at position 1. */
  columns: number;
  /** What is shown, row after row; a difference that counts as equal is 0. */
  values: Float32Array;
  losses: Float32Array;
  /** The losses that differences are taken from. */
  minus: Float32Array | null;
  minusSteps: number[] | null;
  equal: ArrayLike<boolean> | null;
}

function numbers(frame: Frame, name: string): Float32Array {
  const column = frame.column<number | null>(name);
  if (column instanceof Float32Array) return column;
  const values = new Float32Array(column.length);
  for (let i = 0; i < values.length; i++) values[i] = column[i] ?? NaN;
  return values;
}

/** The grid of a context of so many tokens, of the rows of `tokens` or `token_differences`, by step and position. */
export function gridOf(frame: Frame, tokens: number): Grid {
  const step = frame.column("step");
  const given = frame.rows ? countFirst(step) : 1;
  const rows = frame.rows / given;
  const firstOf = (column: ArrayLike<number>) => Array.from({ length: rows }, (_, row) => Number(column[row * given]));
  if (frame.has("minus_position")) return aligned(frame, tokens - 1, given, firstOf);
  const columns = given;
  const losses = numbers(frame, "loss");
  if (!frame.has("difference")) {
    return { steps: firstOf(step), columns, values: losses, losses, minus: null, minusSteps: null, equal: null };
  }
  const equal = frame.column<boolean>("equal");
  const values = numbers(frame, "difference").map((value, i) => (equal[i] && !Number.isNaN(value) ? 0 : value));
  const minusSteps = firstOf(frame.column("minus_step"));
  return { steps: firstOf(step), columns, values, losses, minus: numbers(frame, "minus_loss"), minusSteps, equal };
}

/** The grid of prompts' differences, which are of the tokens that another dataset has too. */
function aligned(frame: Frame, columns: number, given: number, firstOf: (column: ArrayLike<number>) => number[]): Grid {
  const position = frame.column("position");
  const steps = firstOf(frame.column("step"));
  const places = Array.from({ length: frame.rows }, (_, i) => Math.floor(i / given) * columns + Number(position[i]) - 1);
  const spread = (name: string) => {
    const [column, values] = [numbers(frame, name), new Float32Array(steps.length * columns).fill(NaN)];
    places.forEach((place, i) => (values[place] = column[i]!));
    return values;
  };
  const equal = frame.column<boolean>("equal");
  const same = new Array<boolean>(steps.length * columns).fill(false);
  places.forEach((place, i) => (same[place] = equal[i]!));
  const values = spread("difference").map((value, i) => (same[i] ? 0 : value));
  return { steps, columns, values, losses: spread("loss"), minus: spread("minus_loss"), minusSteps: firstOf(frame.column("minus_step")), equal: same };
}

function countFirst(step: ArrayLike<number>): number {
  let count = 1;
  while (count < step.length && step[count] === step[0]) count++;
  return count;
}

/** The row of a step: its own, or that of the last step before it; the last one for none. */
export function rowOf(grid: Grid, step: number | null): number {
  if (step === null) return grid.steps.length - 1;
  const after = grid.steps.findIndex((value) => value > step);
  return after < 0 ? grid.steps.length - 1 : Math.max(0, after - 1);
}

/** A scale that all but the fiftieth part of the values fit. */
export const scaleOf = (grids: readonly Grid[], diverging: boolean): ColourScale => ({
  top: sizeAt(0.98, grids.map(({ values }) => values)) || 1,
  diverging,
});

const BINS = 4096;

/** The size that has a share of all sizes below it; only those of its bin are sorted, for a sort takes longer than all else. */
function sizeAt(share: number, parts: readonly Float32Array[]): number {
  let [most, count] = [0, 0];
  const each = (visit: (size: number) => void) =>
    parts.forEach((values) => {
      for (let i = 0; i < values.length; i++) if (Math.abs(values[i]!) < Infinity) visit(Math.abs(values[i]!));
    });
  each((size) => {
    count++;
    if (size > most) most = size;
  });
  const binOf = (size: number) => Math.min(BINS - 1, Math.floor((size / most) * BINS));
  if (!most) return 0;
  const bins = new Uint32Array(BINS);
  each((size) => (bins[binOf(size)]! += 1));
  let [rank, bin] = [Math.floor(share * (count - 1)), 0];
  while (rank >= bins[bin]!) rank -= bins[bin++]!;
  const inBin: number[] = [];
  each((size) => binOf(size) === bin && inBin.push(size));
  return inBin.sort((a, b) => a - b)[rank]!;
}
