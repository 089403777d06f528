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

const numbers = (frame: Frame, name: string) => Float32Array.from(frame.column<number | null>(name), (value) => value ?? NaN);

/** The grid of the rows of `tokens` or `token_differences`, which come by step and position. */
export function gridOf(frame: Frame): Grid {
  const step = frame.column("step");
  const columns = frame.rows ? Math.max(1, countFirst(step)) : 0;
  const rows = columns ? frame.rows / columns : 0;
  const firstOf = (column: ArrayLike<number>) => Array.from({ length: rows }, (_, row) => Number(column[row * columns]));
  const losses = numbers(frame, "loss");
  if (!frame.has("difference")) {
    return { steps: firstOf(step), columns, values: losses, losses, minus: null, minusSteps: null, equal: null };
  }
  const equal = frame.column<boolean>("equal");
  const values = numbers(frame, "difference").map((value, i) => (equal[i] && !Number.isNaN(value) ? 0 : value));
  const minusSteps = firstOf(frame.column("minus_step"));
  return { steps: firstOf(step), columns, values, losses, minus: numbers(frame, "minus_loss"), minusSteps, equal };
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
export function scaleOf(grids: readonly Grid[], diverging: boolean): ColourScale {
  const sizes = grids.flatMap(({ values }) => Array.from(values, Math.abs)).filter(Number.isFinite).sort((a, b) => a - b);
  return { top: sizes[Math.floor(0.98 * (sizes.length - 1))] || 1, diverging, threshold: 0 };
}
