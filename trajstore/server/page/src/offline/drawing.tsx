/** Charts of findings as they were described when the report was made: curves, points, bars and densities in panels. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { lineColour } from "../colours";
import { visible, whole } from "../text";

type Numbers = (number | null)[];

export interface DrawnSeries {
  name: string;
  /** The number of a line's colour, or a colour of a scale. */
  colour: number | string;
  x: Numbers;
  y: Numbers;
  low: Numbers;
  high: Numbers;
  steps: number[];
  bars: boolean;
  line: boolean;
  /** Radius; 0 for none. */
  markers: number;
  ring: boolean;
  square: boolean;
  /** Intervals are lines at the points. */
  upright: boolean;
  faint: boolean;
  note: string;
  legend: boolean;
}

export interface DrawnPanel {
  title: string;
  xLabel: string;
  yLabel: string;
  ends: [number, number] | null;
  ticks: [number, string][] | null;
  density: { x: number[]; y: number[]; counts: number[][]; unit: string } | null;
  series: DrawnSeries[];
}

export interface Drawing {
  title: string;
  note: string;
  columns: number;
  zero: boolean;
  shareY: boolean;
  panels: DrawnPanel[];
  marks: { at: number; label: string; right: boolean; row: number }[];
}

const [LEFT, RIGHT, TOP, BELOW] = [58, 12, 10, 46];
const HIGH = 300;
/** Pixels of a panel's width. */
const [LEAST, MOST] = [280, 960];
const BAR = 0.6;

const colourOf = ({ colour }: DrawnSeries): string => (typeof colour === "number" ? lineColour(colour) : colour);
const known = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
const short = (value: number): string => String(+value.toPrecision(4)).replace("-", "−");

/** Three to seven round numbers from low to high. */
function roundTicks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map((f) => f * unit).find((size) => size >= 0.75 * rough)!;
  const first = Math.ceil(low / width - 1e-9);
  return Array.from({ length: Math.floor(high / width + 1e-9) - first + 1 }, (_, i) => (first + i) * width);
}

function extent(panels: readonly DrawnPanel[], axis: "x" | "y"): [number, number] {
  const values = panels.flatMap(({ series, density }) => [
    ...(density?.[axis] ?? []),
    ...series.flatMap((of) => [...known(of[axis]), ...(axis === "y" ? [...known(of.low), ...known(of.high), ...(of.bars ? [0] : [])] : [])]),
  ]);
  const [low, high] = values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [0, 1];
  const room = 0.05 * (high - low) || Math.abs(high) || 1;
  return panels.some(({ series }) => series.some(({ bars }) => bars)) ? [low, high + room] : [low - room, high + room];
}

export function DrawingView({ drawing }: { drawing: Drawing }) {
  const shared = drawing.shareY ? extent(drawing.panels, "y") : null;
  const legend = new Map(drawing.panels.flatMap(({ series }) => series.filter((of) => of.legend).map((of) => [of.name, of] as const)));
  return (
    <figure class="drawing">
      <figcaption>
        <b>{visible(drawing.title)}</b>
        {drawing.note && <p class="note">{visible(drawing.note)}</p>}
      </figcaption>
      {legend.size > 1 && (
        <ul class="legend">
          {[...legend].map(([name, of]) => (
            <li key={name}><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" fill={colourOf(of)} /></svg> {visible(name)}</li>
          ))}
        </ul>
      )}
      <div class={`drawn-panels ${drawing.columns > 1 ? "several" : ""}`}>
        {drawing.panels.map((panel, i) => <PanelView key={i} drawing={drawing} panel={panel} y={shared ?? extent([panel], "y")} />)}
      </div>
    </figure>
  );
}

interface Place {
  x(value: number): number;
  y(value: number): number;
}

function PanelView(props: { drawing: Drawing; panel: DrawnPanel; y: [number, number] }) {
  const { drawing, panel } = props;
  const box = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(560);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => setWidth(Math.max(LEAST, Math.min(MOST, box.current!.clientWidth))));
    watch.observe(box.current!);
    return () => watch.disconnect();
  }, []);
  const [left, right] = panel.ends ?? extent([panel], "x");
  const [bottom, top] = props.y;
  const at: Place = {
    x: (value) => LEFT + ((value - left) / (right - left || 1)) * (width - LEFT - RIGHT),
    y: (value) => HIGH - BELOW - ((value - bottom) / (top - bottom || 1)) * (HIGH - TOP - BELOW),
  };
  const ticks = panel.ticks ?? roundTicks(left, right).map((value): [number, string] => [value, short(value)]);
  const tilted = ticks.some(([, label]) => label.length > 8);
  const floor = HIGH - BELOW;
  return (
    <figure class="drawn-panel" ref={box}>
      {panel.title && <figcaption>{visible(panel.title)}</figcaption>}
      <svg viewBox={`0 0 ${width} ${HIGH + (tilted ? 40 : 0)}`} role="img" aria-label={visible(`${drawing.title} ${panel.title}: ${panel.yLabel} by ${panel.xLabel}`)}>
        {roundTicks(bottom, top).map((value) => (
          <g key={value}>
            <line class="rule" x1={LEFT} x2={width - RIGHT} y1={at.y(value)} y2={at.y(value)} />
            <text x={LEFT - 6} y={at.y(value) + 4} text-anchor="end">{short(value)}</text>
          </g>
        ))}
        {ticks.map(([value, label]) => (
          <g key={value}>
            <line class="rule" x1={at.x(value)} x2={at.x(value)} y1={TOP} y2={floor + 4} />
            <text x={at.x(value)} y={floor + 16} text-anchor={tilted ? "end" : "middle"} {...(tilted ? { transform: `rotate(-30 ${at.x(value)} ${floor + 16})` } : {})}>{visible(label)}</text>
          </g>
        ))}
        <text x={(LEFT + width - RIGHT) / 2} y={HIGH - 6 + (tilted ? 40 : 0)} text-anchor="middle">{visible(panel.xLabel)}</text>
        <text x="12" y={(TOP + floor) / 2} text-anchor="middle" transform={`rotate(-90 12 ${(TOP + floor) / 2})`}>{visible(panel.yLabel)}</text>
        {drawing.zero && bottom < 0 && top > 0 && <line class="zero" x1={LEFT} x2={width - RIGHT} y1={at.y(0)} y2={at.y(0)} />}
        {panel.density && <Density density={panel.density} at={at} />}
        {drawing.marks.map(({ at: place, label, right: before, row }) => (
          <g key={`${place} ${label}`}>
            <line class="event" x1={at.x(place)} x2={at.x(place)} y1={TOP} y2={floor} />
            <text x={at.x(place) + (before ? -4 : 4)} y={TOP + 12 + 14 * row} text-anchor={before ? "end" : "start"}>{visible(label)}</text>
          </g>
        ))}
        {panel.series.map((series, i) => <SeriesView key={i} series={series} at={at} all={panel.series} number={i} />)}
      </svg>
    </figure>
  );
}

function Density({ density, at }: { density: NonNullable<DrawnPanel["density"]>; at: Place }) {
  const most = Math.log1p(density.counts.reduce((top, row) => row.reduce((a, b) => Math.max(a, b), top), 1));
  return (
    <g fill={lineColour(0)}>
      {density.counts.flatMap((row, j) => row.map((count, i) => count > 0 && (
        <rect key={`${i} ${j}`} x={at.x(density.x[i]!)} y={at.y(density.y[j + 1]!)} width={at.x(density.x[i + 1]!) - at.x(density.x[i]!)} height={at.y(density.y[j]!) - at.y(density.y[j + 1]!)} opacity={0.15 + (0.85 * Math.log1p(count)) / most}>
          <title>{`${whole(count)} ${density.unit}`}</title>
        </rect>
      )))}
    </g>
  );
}

function SeriesView({ series, at, all, number }: { series: DrawnSeries; at: Place; all: DrawnSeries[]; number: number }) {
  const colour = colourOf(series);
  const rows = series.x.flatMap((x, i) => (x !== null && series.y[i] !== null ? [i] : []));
  const place = (i: number, values: Numbers) => `${at.x(series.x[i]!).toFixed(1)},${at.y(values[i]!).toFixed(1)}`;
  const words = (i: number) => {
    const bounds = series.low[i] !== null && series.low[i] !== undefined ? ` (${short(series.low[i]!)} to ${short(series.high[i]!)})` : "";
    const where = series.steps.length ? `step ${whole(series.steps[i]!)}: ` : series.bars ? "" : `${short(series.x[i]!)}, `;
    return visible(`${series.name}, ${where}${short(series.y[i]!)}${bounds}${series.note ? ` ${series.note}` : ""}`);
  };
  if (series.bars) {
    const several = all.filter(({ bars }) => bars).length;
    const width = (BAR * Math.abs(at.x(1) - at.x(0))) / several;
    return (
      <g fill={colour}>
        {rows.map((i) => (
          <rect key={i} x={at.x(series.x[i]!) - (width * several) / 2 + width * number} y={Math.min(at.y(0), at.y(series.y[i]!))} width={width} height={Math.abs(at.y(0) - at.y(series.y[i]!))}><title>{words(i)}</title></rect>
        ))}
      </g>
    );
  }
  const within = rows.filter((i) => series.low[i] !== null && series.low[i] !== undefined && series.high[i] !== null);
  const gaps = series.x.map((_, i) => (rows.includes(i) ? place(i, series.y) : null));
  const paths = gaps.map((point, i) => (point === null ? "" : `${i && gaps[i - 1] !== null ? "L" : "M"}${point}`)).join("");
  return (
    <g stroke={colour} fill={colour} opacity={series.faint ? 0.6 : 1}>
      {within.length > 0 && (series.upright ? (
        within.map((i) => <path key={i} d={`M${place(i, series.low)}L${place(i, series.high)}`} stroke-width="1.8" />)
      ) : (
        <polygon points={[...within.map((i) => place(i, series.low)), ...within.toReversed().map((i) => place(i, series.high))].join(" ")} stroke="none" opacity={Math.min(0.18, 0.7 / all.length)} />
      ))}
      {series.line && <path d={paths} fill="none" stroke-width={series.faint ? 1 : 1.8} />}
      {rows.map((i) => {
        const radius = series.markers || 4;
        const look = { ...(series.markers ? {} : { "fill-opacity": 0, stroke: "none" }), ...(series.ring ? { "fill-opacity": 0, "stroke-width": 2 } : {}) };
        const [x, y] = [at.x(series.x[i]!), at.y(series.y[i]!)];
        const title = <title>{words(i)}</title>;
        return series.square ? (
          <rect key={i} x={x - radius} y={y - radius} width={2 * radius} height={2 * radius} {...look}>{title}</rect>
        ) : (
          <circle key={i} cx={x} cy={y} r={radius} {...look}>{title}</circle>
        );
      })}
    </g>
  );
}
