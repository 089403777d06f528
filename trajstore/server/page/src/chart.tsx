/** Curves: uPlot in Preact, with units on the axes, a symmetric-log axis for steps, bands, marks and a brush. */
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { LINE_COLOURS } from "./colours";
import { facts } from "./facts";
import { chooses, moved } from "./keyboard";
import { dark } from "./theme";
import { compact, visible, whole } from "./text";

export interface Curve {
  label: string;
  /** A value for each x; null or NaN where there is none. */
  values: ArrayLike<number | null>;
  colour: string;
  /** Bounds of an interval around it. */
  low?: ArrayLike<number | null>;
  high?: ArrayLike<number | null>;
  dashed?: boolean;
}

export type XScale = "linear" | "log" | "symlog";

const STEEP = 4;
/** Most curves that are named beneath a chart. */
const NAMED = 48;
/** Strokes of the curves once the colours begin again. */
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3]];
const clean = (values: ArrayLike<number | null>) =>
  Array.from(values, (value) => (value === null || Number.isNaN(value) ? null : value));
const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axis(label: string, size: number): uPlot.Axis {
  const ink = css("--quiet");
  return {
    label,
    size,
    stroke: ink,
    labelSize: 18,
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    grid: { stroke: css("--line"), width: 1 },
    ticks: { stroke: css("--line"), width: 1 },
    values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : compact(tick))),
  };
}

/** Ticks of a symmetric-log axis from 0 on: uPlot's own go on to −1, beside the chart. */
function steepTicks(_: uPlot, __: number, low: number, high: number): number[] {
  const ticks = low > 0 ? [] : [0];
  for (let power = 1; power <= high; power *= 10) for (let digit = 1; digit < 10; digit++) ticks.push(digit * power);
  return ticks.filter((tick) => tick >= low && tick <= high);
}

/** The series of the curves, their bands after them, and the numbers of both. */
function dataOf(x: ArrayLike<number>, curves: readonly Curve[]): [uPlot.AlignedData, uPlot.Series[], uPlot.Band[]] {
  const columns: (number | null)[][] = curves.map((curve) => clean(curve.values));
  const series: uPlot.Series[] = curves.map(({ label, colour, dashed }, place) => ({
    label,
    stroke: colour,
    width: 2,
    spanGaps: true,
    points: { show: x.length <= 60, size: 5 },
    dash: DASHES[dashed ? 1 : Math.floor(place / LINE_COLOURS) % DASHES.length]!,
    value: (_: uPlot, value: number | null) => shortly(value),
  }));
  const bands: uPlot.Band[] = [];
  for (const { low, high, colour, label } of curves) {
    if (!low || !high) continue;
    const place = series.length + 1;
    for (const [values, bound] of [[high, "high"], [low, "low"]] as const) {
      columns.push(clean(values));
      series.push({ label: `${label} ${bound}`, stroke: "transparent", points: { show: false }, spanGaps: true, class: "bound" });
    }
    bands.push({ series: [place, place + 1], fill: `${colour}33` });
  }
  return [[Array.from(x), ...columns] as uPlot.AlignedData, series, bands];
}

/** From the least x to the greatest: uPlot itself would go on to the next power of ten. */
const rangeOf = (xScale: XScale) => (_: uPlot, low: number, high: number): [number, number] =>
  low !== high ? [low, high] : xScale === "log" ? [low / 2, high * 2] : [low - 1, high + 1];

const shortly = (value: number | null | undefined): string => (value === null || value === undefined || Number.isNaN(value) ? "–" : String(+value.toPrecision(4)));
const place = (value: number): string => (Number.isInteger(value) ? whole(value) : shortly(value));

/**
 * The distinct values of x must rise. `mark` draws a line at one x; `onBrush` gets the ends of a stretch dragged over, or
 * marked by Shift and the arrow keys.
 */
export function Chart(props: {
  label: string;
  x: ArrayLike<number>;
  curves: readonly Curve[];
  xLabel: string;
  yLabel: string;
  xScale?: XScale;
  height?: number;
  mark?: number | null;
  brush?: readonly [number, number] | null;
  onBrush?: (from: number, to: number) => void;
  onPick?: (x: number) => void;
  legend?: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(props);
  latest.current = props;
  const plot = useRef<uPlot | null>(null);
  const night = dark.value;
  const { x, curves, xLabel, yLabel, xScale = "linear", height = 280 } = props;

  useEffect(() => {
    const room = box.current!; // the watch below may be told of a size after the element is let go
    const [data, series, bands] = dataOf(x, curves);
    const made = new uPlot(
      {
        width: room.clientWidth,
        height,
        scales: {
          x: { time: false, distr: xScale === "log" ? 3 : xScale === "symlog" ? STEEP : 1, asinh: 1, range: rangeOf(xScale) } as uPlot.Scale,
        },
        axes: [{ ...axis(xLabel, 34), ...(xScale === "symlog" ? { splits: steepTicks } : {}) }, axis(yLabel, 52)],
        series: [{ label: xLabel, value: (_, value) => (value === null ? "–" : place(value)) }, ...series],
        bands,
        legend: {
          show: props.legend ?? curves.length <= NAMED,
          markers: { dash: (_, place) => (series[place - 1]?.dash?.length ? "dashed" : "solid") },
        },
        cursor: { drag: { x: Boolean(props.onBrush), y: false, setScale: false } },
        hooks: {
          draw: [(self) => {
            if (OFFLINE && xLabel === "step") drawEvents(self);
            drawMarks(self, latest.current.mark, latest.current.brush);
          }],
          setSelect: [(self) => {
            const { left, width } = self.select;
            if (width > 4) latest.current.onBrush?.(self.posToVal(left, "x"), self.posToVal(left + width, "x"));
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          }],
        },
      },
      data,
      room,
    );
    made.over.addEventListener("click", () => {
      const place = made.cursor.idx;
      if (typeof place === "number") latest.current.onPick?.(x[place]!);
    });
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: room.clientWidth, height }));
    watch.observe(room);
    return () => {
      anchor.current = null;
      watch.disconnect();
      made.destroy();
    };
  }, [x, curves, xLabel, yLabel, xScale, height, night]);
  useEffect(() => plot.current?.redraw(false), [props.mark, props.brush?.[0], props.brush?.[1]]);

  const anchor = useRef<number | null>(null);
  const [said, say] = useState("");
  const release = () => {
    const [from, to] = [anchor.current, plot.current!.cursor.idx];
    anchor.current = null;
    plot.current!.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (from !== null && typeof to === "number" && from !== to) props.onBrush?.(x[Math.min(from, to)]!, x[Math.max(from, to)]!);
  };
  const move = (event: KeyboardEvent) => {
    const self = plot.current!;
    const here = self.cursor.idx ?? x.length - 1;
    if (props.onPick && chooses(event)) return props.onPick(x[here]!);
    const next = moved(event, here, x.length, 1, 0, 10);
    if (next === null) return undefined;
    anchor.current = event.shiftKey && props.onBrush ? (anchor.current ?? here) : null;
    const [left, from] = [next, anchor.current ?? next].map((at) => self.valToPos(x[at]!, "x")) as [number, number];
    self.setCursor({ left, top: 0 });
    self.setSelect({ left: Math.min(left, from), top: 0, width: Math.abs(left - from), height: self.over.clientHeight }, false);
    return say(`${xLabel} ${place(x[next]!)}: ${curves.slice(0, NAMED).map(({ label, values }) => `${label} ${shortly(values[next])}`).join(", ")}`);
  };
  const keys = `Arrow keys move${props.onPick ? "; Enter chooses" : ""}${props.onBrush ? "; Shift and arrow keys mark a part" : ""}.`;

  return (
    <div
      class="chart"
      ref={box}
      role="application"
      aria-roledescription="chart"
      aria-label={`${props.label}. ${curves.map(({ label }) => label).join(", ")} by ${xLabel}. ${keys}`}
      tabIndex={0}
      onKeyDown={move}
      onKeyUp={(event) => event.key === "Shift" && release()}
    >
      <span class="for-readers" aria-live="polite">{said}</span>
    </div>
  );
}

/** Lines where something happened, as the report was told. */
function drawEvents(self: uPlot): void {
  const { ctx, bbox } = self;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = css("--quiet");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  facts.value?.report?.marks.forEach(({ step, label }, row) => {
    const at = self.valToPos(step, "x", true);
    if (!(at >= bbox.left && at <= bbox.left + bbox.width)) return;
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    const before = at > bbox.left + bbox.width / 2;
    ctx.textAlign = before ? "right" : "left";
    ctx.fillText(visible(label), at + (before ? -4 : 4) * devicePixelRatio, bbox.top + (12 + 14 * (row % 4)) * devicePixelRatio);
  });
  ctx.restore();
}

function drawMarks(self: uPlot, mark: number | null | undefined, brush: readonly [number, number] | null | undefined): void {
  const { ctx, bbox } = self;
  ctx.save();
  if (brush) {
    const [from, to] = brush.map((value) => self.valToPos(value, "x", true)) as [number, number];
    ctx.fillStyle = css("--brush");
    ctx.fillRect(from, bbox.top, to - from, bbox.height);
  }
  if (mark !== null && mark !== undefined) {
    const at = self.valToPos(mark, "x", true);
    ctx.strokeStyle = css("--accent");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
