/** Components: kept principal components and new ones, as paths through training, by step, and by their tokens. */
import { useMemo, useRef, useState } from "preact/hooks";
import { useFrame, type Frame } from "../api";
import { lineColour } from "../colours";
import { chosenDataset, chosenModels, facts } from "../facts";
import { FrameTable, curvesOf } from "../frames";
import { chooses, moved } from "../keyboard";
import { StepChart, brushSteps, brushedSteps, goToStep, stepIsChosen } from "../linked";
import { Card, Choice, DataLinks, Loaded } from "../parts";
import { navigate, numberField, state, textField } from "../state";
import { visible, whole } from "../text";

const source = textField("components.of", "");
const horizontal = numberField<number>("components.x", 1);
const vertical = numberField<number>("components.y", 2);
const NEW = OFFLINE ? { full: "all models on the dataset" } : { full: "new: PCA of what is chosen", sparse: "new: sparse PCA", hybrid: "new: hybrid PCA" };
const [WIDE, HIGH, EDGE] = [720, 400, 56];

export function ComponentsPane() {
  const kept = (facts.value?.findings ?? []).filter(({ kind }) => kind === "pca").map(({ name }) => name);
  const of = source.value || kept[0] || "new:full";
  const dataset = chosenDataset.value?.name;
  const parameters = of.startsWith("new:")
    ? dataset ? { method: of.slice(4), models: chosenModels.value, datasets: [dataset], steps: brushedSteps.value, group: state.group.value } : null
    : { finding: of };
  const scores = useFrame("component-scores", parameters);
  const shares = useFrame("component-variance", parameters);
  const tokens = useFrame("component-tokens", parameters && { ...parameters, component: horizontal.value });
  const count = scores.value ? scores.value.names.filter((name) => name.startsWith("component_")).length : 0;
  const numbers = Array.from({ length: Math.max(count, horizontal.value, vertical.value) }, (_, i) => [String(i + 1), String(i + 1)] as const);
  return (
    <>
      <Card title="Paths through training" note="Scores of checkpoints on two components, joined in order of step; a ring marks the first. Choose a point, or a row below, to go to its step; drag around points to choose their steps.">
        <div class="controls">
          <Choice
            label="Of"
            value={of}
            options={[...kept.map((name) => [name, `kept: ${visible(name)}`] as const), ...Object.entries(NEW).map(([kind, text]) => [`new:${kind}`, text] as const)]}
            onChange={(value) => navigate(() => (source.value = value))}
          />
          <Choice label="Across" value={String(horizontal.value)} options={numbers} onChange={(value) => navigate(() => (horizontal.value = Number(value)))} />
          <Choice label="Up" value={String(vertical.value)} options={numbers} onChange={(value) => navigate(() => (vertical.value = Number(value)))} />
        </div>
        <Loaded reply={scores} empty={<>No components are here; keep some with <code>trajstore pca</code></>}>
          {(frame) => <Scores frame={frame} />}
        </Loaded>
        <DataLinks reply={scores} />
      </Card>
      <Card title="Share of variance">
        <Loaded reply={shares} empty="No component.">{(frame) => <Scree frame={frame} />}</Loaded>
        <DataLinks reply={shares} />
      </Card>
      <Card title={`Tokens of component ${horizontal.value}`} note="Those that load highest and lowest on it, in their contexts.">
        <Loaded reply={tokens} empty="No token loads on it.">{(frame) => <FrameTable label="Tokens" frame={frame} hidden={["component"]} />}</Loaded>
        <DataLinks reply={tokens} />
      </Card>
    </>
  );
}

function Scores({ frame }: { frame: Frame }) {
  const across = `component_${horizontal.value}`;
  const up = frame.has(`component_${vertical.value}`) ? `component_${vertical.value}` : across;
  const steps = useMemo(() => (frame.has(across) ? curvesOf(frame, ["model"], across) : null), [frame, across]);
  if (!steps) return <p class="note">There is no component {horizontal.value}.</p>;
  const go = (row: number) => goToStep(Number(frame.column("step")[row]));
  return (
    <>
      <Paths frame={frame} across={across} up={up} onPick={go} />
      <h3>Component {horizontal.value} by step</h3>
      <StepChart label={`Component ${horizontal.value}`} x={steps.x} curves={steps.curves} yLabel="score (nats)" height={220} />
      <FrameTable label="Scores" frame={frame} height={240} onPick={go} />
    </>
  );
}

function Paths(props: { frame: Frame; across: string; up: string; onPick: (row: number) => void }) {
  const { frame } = props;
  const [x, y] = [Array.from(frame.column(props.across)), Array.from(frame.column(props.up))];
  const [models, steps] = [frame.column<string>("model"), frame.column("step")];
  const scale = (values: number[], from: number, to: number) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return { low, high, at: (value: number) => from + ((value - low) / (high - low || 1)) * (to - from) };
  };
  const [right, upward] = [scale(x, EDGE, WIDE - 16), scale(y, HIGH - 44, 16)];
  const of = new Map<string, number[]>();
  for (let row = 0; row < frame.rows; row++) of.set(models[row]!, [...(of.get(models[row]!) ?? []), row]);
  const surface = useRef<SVGSVGElement>(null);
  const [corners, setCorners] = useState<[number, number, number, number] | null>(null);
  const at = (event: PointerEvent): [number, number] => {
    const box = surface.current!.getBoundingClientRect();
    return [((event.clientX - box.left) * WIDE) / box.width, ((event.clientY - box.top) * HIGH) / box.height];
  };
  const [left, top, width, height] = corners
    ? [Math.min(corners[0], corners[2]), Math.min(corners[1], corners[3]), Math.abs(corners[2] - corners[0]), Math.abs(corners[3] - corners[1])]
    : [0, 0, 0, 0];
  const release = () => {
    setCorners(null);
    if (width + height < 8) return;
    const within = (value: number, from: number, size: number) => value >= from && value <= from + size;
    const chosen = x.flatMap((_, row) => (within(right.at(x[row]!), left, width) && within(upward.at(y[row]!), top, height) ? [Number(steps[row])] : []));
    brushSteps(chosen, -Infinity, Infinity);
  };
  const [place, setCursor] = useState<number | null>(null);
  const cursor = place !== null && place < frame.rows ? place : null;
  /** The first row of a part being marked: known to others once Shift is let go. */
  const [anchor, setAnchor] = useState<number | null>(null);
  const between = (row: number, one: number, other: number) => row >= Math.min(one, other) && row <= Math.max(one, other);
  const move = (event: KeyboardEvent) => {
    const here = cursor ?? 0;
    if (chooses(event)) return props.onPick(here);
    const next = moved(event, here, frame.rows, 1, 1, 10);
    if (next === null) return;
    setAnchor(event.shiftKey ? (anchor ?? here) : null);
    setCursor(next);
  };
  const mark = (event: KeyboardEvent) => {
    if (event.key !== "Shift" || anchor === null) return;
    setAnchor(null);
    brushSteps(Array.from(steps, Number).filter((_, row) => between(row, anchor, cursor!)), -Infinity, Infinity);
  };
  const isChosen = (row: number) => (anchor === null ? stepIsChosen(Number(steps[row])) : between(row, anchor, cursor!));
  const point = (row: number) => `${right.at(x[row]!).toFixed(1)},${upward.at(y[row]!).toFixed(1)}`;
  const named = (row: number) => `${visible(models[row]!)}, step ${whole(Number(steps[row]))}`;
  const [one, other] = [props.across, props.up].map((name) => `${name.replace("_", " ")} (nats)`);
  return (
    <>
      <svg
        class="paths"
        ref={surface}
        viewBox={`0 0 ${WIDE} ${HIGH}`}
        role="application"
        aria-roledescription="scatter"
        tabindex={0}
        onKeyDown={move}
        onKeyUp={mark}
        aria-label={`Paths of ${of.size} models over ${one} and ${other}. Arrow keys move, Enter chooses a point, Shift and arrow keys mark steps.`}
        onPointerDown={(event) => setCorners([...at(event), ...at(event)])}
        onPointerMove={(event) => corners && setCorners([corners[0], corners[1], ...at(event)])}
        onPointerUp={release}
        onPointerLeave={() => setCorners(null)}
      >
        {corners && <rect class="marked" x={left} y={top} width={width} height={height} />}
        <rect x={EDGE} y="16" width={WIDE - EDGE - 16} height={HIGH - 60} class="frame" />
        <text x={WIDE / 2} y={HIGH - 8} text-anchor="middle">{one}</text>
        <text x="14" y={HIGH / 2} text-anchor="middle" transform={`rotate(-90 14 ${HIGH / 2})`}>{other}</text>
        {[right.low, right.high].map((value, i) => <text key={i} x={right.at(value)} y={HIGH - 26} text-anchor={i ? "end" : "start"}>{value.toPrecision(3)}</text>)}
        {[upward.low, upward.high].map((value, i) => <text key={i} x={EDGE - 6} y={upward.at(value) + (i ? 10 : 0)} text-anchor="end">{value.toPrecision(3)}</text>)}
        {[...of].map(([model, rows], i) => (
          <g key={model} stroke={lineColour(i)} fill={lineColour(i)}>
            <polyline points={rows.map(point).join(" ")} fill="none" stroke-width="1.5" opacity="0.75" />
            {rows.map((row, place) => (
              <circle
                key={row}
                cx={right.at(x[row]!)}
                cy={upward.at(y[row]!)}
                r={Number(steps[row]) === state.step.value ? 7 : place === 0 ? 5.5 : 3}
                class={isChosen(row) ? "" : "faded"}
                {...(place === 0 ? { fill: "none", "stroke-width": 2 } : {})}
                onClick={() => props.onPick(row)}
              >
                <title>{named(row)}</title>
              </circle>
            ))}
          </g>
        ))}
        {cursor !== null && <circle class="ring" cx={right.at(x[cursor]!)} cy={upward.at(y[cursor]!)} r="9" />}
      </svg>
      <p class="note" aria-live="polite">{cursor === null ? " " : `${named(cursor)}: ${[x, y].map((of) => of[cursor]!.toPrecision(4)).join(", ")} nats`}</p>
      <ul class="legend">
        {[...of.keys()].map((model, i) => (
          <li key={model}><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" fill={lineColour(i)} /></svg> {visible(model)}</li>
        ))}
      </ul>
    </>
  );
}

function Scree({ frame }: { frame: Frame }) {
  const [numbers, ratios, zeros] = [frame.column("component"), frame.column("ratio"), frame.column("zeros")];
  return (
    <dl class="bars">
      {Array.from(numbers, (number, row) => (
        <div key={number}>
          <dt>{number}</dt>
          <dd>
            <meter min={0} max={1} value={ratios[row]} aria-label={`Share of variance of component ${number}`} />
            {(100 * ratios[row]!).toPrecision(3)} %{zeros[row] ? `, ${(100 * zeros[row]!).toPrecision(3)} % of its loadings are zero` : ""}
          </dd>
        </div>
      ))}
    </dl>
  );
}
