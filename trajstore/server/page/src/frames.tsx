/** Frames as curves and tables that several panes show: a curve for each of some labels, rows, tokens in their contexts. */
import type { Frame, Column } from "./api";
import type { Curve } from "./chart";
import { lineColour } from "./colours";
import { navigate, state } from "./state";
import { Table, type TableColumn } from "./table";
import { visible } from "./text";

type Numbers = ArrayLike<number | null>;

/** Rows as a curve for each label over the distinct places; two columns after the first are bounds. */
export function curvesBy(rows: readonly number[], label: (row: number) => string, at: ArrayLike<number>, columns: readonly Numbers[]): { x: number[]; curves: Curve[] } {
  const x = [...new Set(rows.map((row) => Number(at[row])))].sort((a, b) => a - b);
  const place = new Map(x.map((number, i) => [number, i]));
  const curves = new Map<string, (number | null)[][]>();
  for (const row of rows) {
    const name = label(row);
    let curve = curves.get(name);
    if (!curve) curves.set(name, (curve = columns.map(() => new Array<number | null>(x.length).fill(null))));
    columns.forEach((column, i) => (curve[i]![place.get(Number(at[row]))!] = column[row] ?? null));
  }
  return {
    x,
    curves: [...curves].map(([name, [values, low, high]], i) => ({
      label: visible(name),
      values: values!,
      colour: lineColour(i),
      ...(low && high ? { low, high } : {}),
    })),
  };
}

export const rowsOf = (frame: Frame): number[] => Array.from({ length: frame.rows }, (_, row) => row);

/** The rows of a long frame as a curve for each value of those of `labels` that differ, over the distinct values of `x`. */
export function curvesOf(
  frame: Frame,
  labels: readonly string[],
  value: string,
  bounds: readonly [string, string] | null = null,
  keep: (row: number) => boolean = () => true,
  x = "step",
): { x: number[]; curves: Curve[] } {
  const names = labels.filter((name) => frame.has(name)).map((name) => frame.column<unknown>(name));
  const several = names.filter((column) => new Set(column).size > 1);
  const label = (row: number) => (several.length ? several : names.slice(0, 1)).map((column) => String(column[row] ?? "all")).join(" · ");
  const columns = [value, ...(bounds ?? [])].map((name) => frame.column<number | null>(name));
  return curvesBy(rowsOf(frame).filter(keep), label, frame.column(x), columns);
}

/** A value in a cell, numbers to five digits. */
export const shown = (value: unknown, digits = 5): string =>
  value === null || value === undefined ? "" : typeof value === "number" ? String(+value.toPrecision(digits)) : visible(String(value));

const IN_CONTEXT = ["text", "before", "marked", "after"];

/** The rows of a frame; tokens have their contexts as one column, and a choice of one opens the context. */
export function FrameTable(props: {
  label: string;
  frame: Frame;
  hidden?: readonly string[];
  height?: number;
  picked?: number | null;
  /** The rows shown; all by default. */
  keep?: (row: number) => boolean;
  onPick?: (row: number) => void;
}) {
  const { frame } = props;
  const kept = rowsOf(frame).filter(props.keep ?? (() => true));
  const inContext = frame.has("before");
  const hidden = [...(props.hidden ?? []), ...(inContext ? IN_CONTEXT : [])];
  const columns: TableColumn[] = frame.names
    .filter((name) => !hidden.includes(name))
    .map((name) => {
      const values = frame.column<unknown>(name);
      const number = Array.from(values).some((value) => typeof value === "number");
      return { name, title: name.replaceAll("_", " "), number, cell: (row) => shown(values[kept[row]!]) };
    });
  if (inContext) {
    const [before, marked, after] = ["before", "marked", "after"].map((name) => frame.column<string>(name)) as [Column<string>, Column<string>, Column<string>];
    columns.push({
      name: "in its context",
      cell: (row) => {
        const at = kept[row]!;
        return <span class="in-context">{visible(before[at]!)}<mark>{visible(marked[at]!)}</mark>{visible(after[at]!)}</span>;
      },
    });
  }
  const open = (row: number) =>
    navigate(() => {
      state.datasets.value = [frame.column<string>("dataset")[row]!];
      state.context.value = Number(frame.column("context")[row]);
      state.pane.value = "tokens";
    });
  const pick = props.onPick ?? (inContext ? open : undefined);
  const choose = pick && ((row: number) => pick(kept[row]!));
  return <Table label={props.label} rows={kept.length} columns={columns} height={props.height} picked={props.picked} onPick={choose} />;
}
