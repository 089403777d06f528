/** Frames as curves and tables that several panes show: a curve for each of some labels, rows, tokens in their contexts. */
import type { Frame, Column } from "./api";
import type { Curve } from "./chart";
import { lineColour } from "./colours";
import { navigate, state } from "./state";
import { Table, type TableColumn } from "./table";
import { visible } from "./text";

/** The rows of a long frame as a curve for each value of `labels`, over the distinct values of `x`. */
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
  const at = frame.column<number>(x);
  const rows = Array.from({ length: frame.rows }, (_, row) => row).filter(keep);
  const places = [...new Set(rows.map((row) => Number(at[row])))].sort((a, b) => a - b);
  const place = new Map(places.map((number, i) => [number, i]));
  const columns = [value, ...(bounds ?? [])].map((name) => frame.column<number | null>(name));
  const curves = new Map<string, (number | null)[][]>();
  for (const row of rows) {
    const label = (several.length ? several : names.slice(0, 1)).map((column) => String(column[row] ?? "all")).join(" · ");
    let curve = curves.get(label);
    if (!curve) curves.set(label, (curve = columns.map(() => new Array<number | null>(places.length).fill(null))));
    columns.forEach((column, i) => (curve[i]![place.get(Number(at[row]))!] = column[row] ?? null));
  }
  return {
    x: places,
    curves: [...curves].map(([label, [values, low, high]], i) => ({
      label: visible(label),
      values: values!,
      colour: lineColour(i),
      ...(low && high ? { low, high } : {}),
    })),
  };
}

const shown = (value: unknown): string =>
  value === null || value === undefined ? "" : typeof value === "number" ? String(+value.toPrecision(5)) : visible(String(value));

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
  const kept = Array.from({ length: frame.rows }, (_, row) => row).filter(props.keep ?? (() => true));
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
