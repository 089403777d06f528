/** A heat map on a canvas: one pixel a cell, stretched; a cursor that pointer and arrow keys move, and a readout. */
import { useEffect, useRef } from "preact/hooks";
import { rgbOf, type ColourScale } from "./colours";
import { dark } from "./theme";

export interface Cell {
  row: number;
  column: number;
}

export function Heatmap(props: {
  label: string;
  /** Row after row. */
  values: ArrayLike<number>;
  rows: number;
  columns: number;
  scale: ColourScale;
  /** Height in pixels. */
  height: number;
  cursor: Cell | null;
  /** What the cell under the cursor says; also read out by screen readers. */
  readout: string;
  onCursor: (cell: Cell) => void;
  onPick?: (cell: Cell) => void;
}) {
  const { values, rows, columns, scale, cursor } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const night = dark.value;
  useEffect(() => {
    const surface = canvas.current!.getContext("2d")!;
    const image = surface.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      const [red, green, blue] = rgbOf(values[i] ?? NaN, scale);
      image.data.set([red, green, blue, 255], 4 * i);
    }
    surface.putImageData(image, 0, 0);
  }, [values, rows, columns, scale.top, scale.diverging, scale.threshold, night]);

  const at = (event: MouseEvent): Cell => {
    const box = canvas.current!.getBoundingClientRect();
    const place = (share: number, count: number) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
    return {
      row: place((event.clientY - box.top) / box.height, rows),
      column: place((event.clientX - box.left) / box.width, columns),
    };
  };
  const move = (event: KeyboardEvent) => {
    const here = cursor ?? { row: rows - 1, column: 0 };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return props.onPick?.(here);
    }
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -columns], End: [0, columns],
    };
    const by = steps[event.key];
    if (!by) return undefined;
    event.preventDefault();
    props.onCursor({
      row: Math.max(0, Math.min(rows - 1, here.row + by[0])),
      column: Math.max(0, Math.min(columns - 1, here.column + by[1])),
    });
    return undefined;
  };
  const percent = (share: number) => `${100 * share}%`;
  return (
    <div
      class="heatmap"
      role="application"
      aria-roledescription="heat map"
      aria-label={`${props.label}: ${rows} rows, ${columns} columns. Arrow keys move, Enter chooses.`}
      tabIndex={0}
      style={{ height: `${props.height}px` }}
      onKeyDown={move}
    >
      <canvas
        ref={canvas}
        width={columns}
        height={rows}
        onMouseMove={(event) => props.onCursor(at(event))}
        onClick={(event) => props.onPick?.(at(event))}
      />
      {cursor && (
        <span
          class="heatmap-cursor"
          style={{
            left: percent(cursor.column / columns), top: percent(cursor.row / rows),
            width: percent(1 / columns), height: percent(1 / rows),
          }}
        />
      )}
      <span class="for-readers" aria-live="polite">{props.readout}</span>
    </div>
  );
}
