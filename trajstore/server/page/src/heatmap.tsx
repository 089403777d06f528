/** A heat map on a canvas with its axes: one pixel a cell, stretched; pointer or arrow keys move a cursor, drag or Shift a brush. */
import { useEffect, useRef, useState } from "preact/hooks";
import { paint, type ColourScale } from "./colours";
import { chooses, moved } from "./keyboard";
import { dark } from "./theme";
import { compact } from "./text";

export interface Cell {
  row: number;
  column: number;
}

/** What an axis is of, and places along it, from 0 to 1, with their words. */
export interface Axis {
  label: string;
  ticks: readonly { at: number; text: string }[];
}

const ROUND = [1, 2, 5, 10];

/** Round numbers from `low` to `high`, at most `most`. */
export function numberTicks(low: number, high: number, most: number, down = false): Axis["ticks"] {
  const least = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const by = power * ROUND.find((digit) => digit * power >= least)!;
  const first = Math.ceil(low / by);
  return Array.from({ length: Math.floor(high / by) - first + 1 }, (_, i) => {
    const value = (first + i) * by;
    const share = (value - low) / (high - low);
    return { at: down ? 1 - share : share, text: compact(value) };
  });
}

/** The words of rows, at most `most`, each at the middle of its row. */
export function rowTicks(words: readonly number[], most: number): Axis["ticks"] {
  const by = Math.ceil(words.length / most);
  return words.flatMap((word, i) => (i % by ? [] : [{ at: (i + 0.5) / words.length, text: compact(word) }]));
}

export function Heatmap(props: {
  label: string;
  /** Row after row. */
  values: ArrayLike<number>;
  rows: number;
  columns: number;
  across: Axis;
  down: Axis;
  scale: ColourScale;
  /** Height in pixels. */
  height: number;
  cursor: Cell | null;
  /** The cells marked, from the first corner to the last. */
  brush?: readonly [Cell, Cell] | null;
  /** What the cell under the cursor says; also read out by screen readers. */
  readout: string;
  onCursor: (cell: Cell) => void;
  onPick?: (cell: Cell) => void;
  onBrush?: (from: Cell, to: Cell) => void;
}) {
  const { values, rows, columns, scale, cursor, brush } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const anchor = useRef<Cell | null>(null);
  /** The part being marked: known to others once the pointer, or Shift, is let go. */
  const [draft, setDraft] = useState<readonly [Cell, Cell] | null>(null);
  const night = dark.value;
  useEffect(() => {
    const surface = canvas.current!.getContext("2d")!;
    const image = surface.createImageData(columns, rows);
    paint(new Uint32Array(image.data.buffer), values, scale);
    surface.putImageData(image, 0, 0);
  }, [values, rows, columns, scale.top, scale.diverging, night]);

  const at = (event: MouseEvent): Cell => {
    const box = canvas.current!.getBoundingClientRect();
    const place = (share: number, count: number) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
    return {
      row: place((event.clientY - box.top) / box.height, rows),
      column: place((event.clientX - box.left) / box.width, columns),
    };
  };
  const reach = (to: Cell) => {
    props.onCursor(to);
    const from = anchor.current;
    if (!from || !props.onBrush || (from.row === to.row && from.column === to.column)) return setDraft(null);
    return setDraft([
      { row: Math.min(from.row, to.row), column: Math.min(from.column, to.column) },
      { row: Math.max(from.row, to.row), column: Math.max(from.column, to.column) },
    ]);
  };
  const release = (otherwise?: () => void) => {
    if (draft) props.onBrush?.(...draft);
    else if (anchor.current) otherwise?.();
    anchor.current = null;
    setDraft(null);
  };
  const move = (event: KeyboardEvent) => {
    const here = cursor ?? { row: rows - 1, column: 0 };
    if (chooses(event)) return props.onPick?.(here);
    const row = moved(event, here.row, rows, 0, 1, 10, 0);
    const column = moved(event, here.column, columns, 1, 0, 0);
    if (row === null && column === null) return undefined;
    anchor.current = event.shiftKey ? (anchor.current ?? here) : null;
    return reach({ row: row ?? here.row, column: column ?? here.column });
  };
  const percent = (share: number) => `${100 * share}%`;
  const marked = (name: string, from: Cell, to: Cell) => (
    <span
      class={name}
      style={{
        left: percent(from.column / columns), top: percent(from.row / rows),
        width: percent((to.column - from.column + 1) / columns), height: percent((to.row - from.row + 1) / rows),
      }}
    />
  );
  const ticks = (name: string, side: "left" | "top", axis: Axis) => (
    <div class={name} aria-hidden="true">
      {axis.ticks.map(({ at: place, text }, i) => <span key={i} style={{ [side]: percent(place) }}>{text}</span>)}
      <em>{axis.label}</em>
    </div>
  );
  return (
    <div class="heat">
      {ticks("ticks-down", "top", props.down)}
      <div
        class="heatmap"
        role="application"
        aria-roledescription="heat map"
        aria-label={`${props.label}: ${rows} rows by ${props.down.label}, ${columns} columns by ${props.across.label}. Arrow keys move, Enter chooses${props.onBrush ? ", Shift and arrow keys mark a part" : ""}.`}
        tabIndex={0}
        style={{ height: `${props.height}px` }}
        onKeyDown={move}
        onKeyUp={(event) => event.key === "Shift" && release()}
      >
        <canvas
          ref={canvas}
          width={columns}
          height={rows}
          onPointerDown={(event) => {
            anchor.current = at(event);
            event.currentTarget.setPointerCapture(event.pointerId);
          }}
          onPointerMove={(event) => reach(at(event))}
          onPointerUp={(event) => release(() => props.onPick?.(at(event)))}
        />
        {(draft ?? brush) && marked("heatmap-brush", ...(draft ?? brush)!)}
        {cursor && marked("heatmap-cursor", cursor, cursor)}
        <span class="for-readers" aria-live="polite">{props.readout}</span>
      </div>
      {ticks("ticks-across", "left", props.across)}
    </div>
  );
}
