/** The store: what is scored and what is not, where a slice comes from, and what an audit finds odd. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useFrame, type Frame } from "../api";
import { chosenDataset, chosenModels, facts } from "../facts";
import { FrameTable } from "../frames";
import { chooses, moved } from "../keyboard";
import { Lead, Models } from "../offline/parts";
import { Card, DataLinks, Loaded } from "../parts";
import { navigate, numberField, state, textField } from "../state";
import { bytes, visible, whole } from "../text";
import { dark } from "../theme";

const STATES = { there: "complete", partial: "partial", missing: "missing", bad: "damaged" } as const;
type SliceState = keyof typeof STATES;

const picked = {
  model: textField("store.model", ""),
  dataset: textField("store.dataset", ""),
  step: numberField<number | null>("store.step", null),
  /** Not empty: many slices are audited. */
  audit: textField("store.audit", ""),
};

interface Line {
  model: string;
  dataset: string;
  steps: Map<number, number>;
}

/** A line for each model and dataset, its steps to their rows in the frame. */
function linesOf(frame: Frame): { lines: Line[]; steps: number[] } {
  const [models, datasets, steps] = [frame.column<string>("model"), frame.column<string>("dataset"), frame.column("step")];
  const lines = new Map<string, Line>();
  const every = new Set<number>();
  for (let row = 0; row < frame.rows; row++) {
    const key = `${datasets[row]}\n${models[row]}`;
    let line = lines.get(key);
    if (!line) lines.set(key, (line = { model: models[row]!, dataset: datasets[row]!, steps: new Map() }));
    line.steps.set(Number(steps[row]), row);
    every.add(Number(steps[row]));
  }
  return { lines: [...lines.values()], steps: [...every].sort((a, b) => a - b) };
}

export function StorePane() {
  const coverage = useFrame("coverage");
  return (
    <>
      {OFFLINE && <Lead />}
      <Summary />
      <Card title="Coverage" note="Each cell is one slice: the losses of a model at one step on one dataset. Choose one to see where it comes from.">
        <Loaded reply={coverage} empty={<>Nothing is scored yet. Score a model: <code>trajstore score MODEL --dataset D</code></>}>
          {(frame) => <Grid frame={frame} />}
        </Loaded>
        <DataLinks reply={coverage} />
      </Card>
      <Slice />
      {OFFLINE ? <Models /> : <Audit />}
    </>
  );
}

function Summary() {
  const store = facts.value;
  if (!store) return null;
  const figures: [string, string][] = [
    ["models", whole(store.models.length)],
    ["datasets", whole(store.datasets.length)],
    ["contexts", whole(store.datasets.reduce((sum, { contexts }) => sum + contexts, 0))],
    ["groups", whole(store.groups.length)],
    ["findings", whole(store.findings.length)],
  ];
  return (
    <dl class="figures">
      {figures.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Grid({ frame }: { frame: Frame }) {
  const { lines, steps } = useMemo(() => linesOf(frame), [frame]);
  const states = frame.column<SliceState>("state");
  const reasons = frame.column<string | null>("reason");
  const sizes = frame.column("bytes");
  const totals = { there: 0, partial: 0, missing: 0, bad: 0 };
  for (const value of states) totals[value] += 1;
  const [words, setWords] = useState("");
  const choose = (line: Line, step: number) =>
    navigate(() => {
      picked.model.value = line.model;
      picked.dataset.value = line.dataset;
      picked.step.value = step;
    });
  return (
    <>
      <ul class="legend">
        {(Object.keys(STATES) as SliceState[]).map((name) => (
          <li key={name}>
            <span class={`cell ${name}`} aria-hidden="true" /> {STATES[name]} <b>{whole(totals[name])}</b>
          </li>
        ))}
      </ul>
      <div class="grid-box" role="region" aria-label="Coverage" tabIndex={0}>
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">dataset</th>
              <th scope="col">model</th>
              <th scope="col" class="number">on disk</th>
              <th scope="col">steps {steps.length ? `${whole(steps[0]!)} to ${whole(steps.at(-1)!)}` : ""}</th>
            </tr>
          </thead>
          <tbody>
            {lines.map((line, i) => (
              <tr key={`${line.dataset} ${line.model}`}>
                <th scope="row">{i && lines[i - 1]!.dataset === line.dataset ? <span class="again">{visible(line.dataset)}</span> : visible(line.dataset)}</th>
                <th scope="row">{visible(line.model)}</th>
                <td class="number">{bytes([...line.steps.values()].reduce((sum, row) => sum + Number(sizes[row]), 0))}</td>
                <td><Cells line={line} steps={steps} states={states} reasons={reasons} onPoint={setWords} onChoose={choose} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="note">{words || "Point at a cell, or move with the arrow keys; click or Enter chooses it."}</p>
    </>
  );
}

const HIGH = 18;
/** Width in pixels of a cell, of which the last ones part it from the next. */
const widthOf = (steps: number) => Math.max(1, Math.min(13, Math.floor(1300 / steps)));

/** The states of a line's slices, a cell each: on a canvas, for there may be ten thousand. */
function draw(canvas: HTMLCanvasElement, names: readonly (SliceState | undefined)[]): void {
  const [width, ratio] = [widthOf(names.length), devicePixelRatio];
  canvas.width = names.length * width * ratio;
  canvas.height = HIGH * ratio;
  const surface = canvas.getContext("2d")!;
  surface.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const colour = (name: string) => style.getPropertyValue(`--${name}`);
  const wide = width - (width > 6 ? 2 : width > 3 ? 1 : 0);
  const colours = { there: colour("cell-there"), partial: colour("cell-partial"), missing: colour("edge"), bad: colour("cell-bad") };
  names.forEach((name, i) => {
    if (!name) return;
    const left = i * width;
    surface.fillStyle = surface.strokeStyle = colours[name];
    if (name === "missing") return surface.strokeRect(left + 0.5, 0.5, Math.max(0, wide - 1), HIGH - 1);
    surface.fillRect(left, 0, wide, HIGH);
    if (name === "partial") {
      surface.fillStyle = colours.there;
      surface.fillRect(left, HIGH / 2, wide, HIGH / 2);
    } else if (name === "bad") surface.clearRect(left + wide / 4, HIGH - 4, wide / 2, 4);
    return undefined;
  });
}

function Cells(props: {
  line: Line;
  steps: number[];
  states: ArrayLike<SliceState>;
  reasons: ArrayLike<string | null>;
  onPoint: (words: string) => void;
  onChoose: (line: Line, step: number) => void;
}) {
  const { line, steps, states } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const chosen = picked.model.value === line.model && picked.dataset.value === line.dataset ? steps.indexOf(picked.step.value ?? -1) : -1;
  const [cursor, setCursor] = useState(Math.max(0, chosen));
  const night = dark.value;
  const rows = useMemo(() => steps.map((step) => line.steps.get(step)), [line, steps]);
  useEffect(() => draw(canvas.current!, rows.map((row) => (row === undefined ? row : states[row]))), [rows, states, night]);
  const words = (place: number) => {
    const row = rows[place];
    return visible(`step ${whole(steps[place]!)}: ${row === undefined ? "not scored" : (props.reasons[row] ?? STATES[states[row]!])}`);
  };
  const point = (place: number) => {
    setCursor(place);
    props.onPoint(`${visible(line.model)} on ${visible(line.dataset)}, ${words(place)}`);
  };
  const at = (event: MouseEvent) => Math.max(0, Math.min(steps.length - 1, Math.floor(event.offsetX / widthOf(steps.length))));
  const choose = (place: number) => rows[place] !== undefined && props.onChoose(line, steps[place]!);
  const move = (event: KeyboardEvent) => {
    if (chooses(event)) return choose(cursor);
    const next = moved(event, cursor, steps.length, 1, 0, 10);
    if (next === null) return undefined;
    point(next);
    const box = canvas.current!.parentElement!;
    requestAnimationFrame(() => box.querySelector(".cell-cursor")!.scrollIntoView({ block: "nearest", inline: "nearest" }));
    return undefined;
  };
  const marked = (name: string, place: number) => <span class={name} style={{ left: `${place * widthOf(steps.length)}px`, width: `${widthOf(steps.length)}px` }} />;
  return (
    <div
      class="cells"
      role="slider"
      tabIndex={0}
      aria-label={`Slices of ${visible(line.model)} on ${visible(line.dataset)}`}
      aria-valuemin={0}
      aria-valuemax={steps.length - 1}
      aria-valuenow={cursor}
      aria-valuetext={words(cursor)}
      onKeyDown={move}
      onFocus={() => point(cursor)}
    >
      <canvas
        ref={canvas}
        style={{ width: `${steps.length * widthOf(steps.length)}px`, height: `${HIGH}px` }}
        onMouseMove={(event) => point(at(event))}
        onClick={(event) => choose(at(event))}
      />
      {chosen >= 0 && marked("cell-chosen", chosen)}
      {marked("cell-cursor", cursor)}
    </div>
  );
}

function Slice() {
  const { model, dataset, step } = picked;
  const chosen = model.value !== "" && step.value !== null;
  const reply = useFrame("slice", chosen ? { model: model.value, dataset: dataset.value, step: step.value } : null);
  if (!chosen) return null;
  return (
    <Card title={`${visible(model.value)} at step ${whole(step.value!)} on ${visible(dataset.value)}`}>
      <Loaded reply={reply} empty="Nothing is known of this slice.">
        {(frame) => {
          const [names, values] = [frame.column<string>("fact"), frame.column<string>("value")];
          return (
            <dl class="facts">
              {Array.from(names, (name, row) => (
                <div key={name}>
                  <dt>{name.replaceAll("_", " ")}</dt>
                  <dd>{visible(values[row]!)}</dd>
                </div>
              ))}
            </dl>
          );
        }}
      </Loaded>
      <DataLinks reply={reply} />
    </Card>
  );
}

/** Slices up to which an audit, which reads all their losses, begins by itself. */
const FEW_SLICES = 100;

function Audit() {
  const dataset = chosenDataset.value?.name;
  const models = chosenModels.value;
  const slices = models.reduce((sum, model) => sum + (facts.value?.steps[model]?.[dataset ?? ""]?.length ?? 0), 0);
  const runs = slices <= FEW_SLICES || picked.audit.value !== "";
  const reply = useFrame("audit", dataset && runs ? { datasets: [dataset], models: state.models.value } : null);
  if (!dataset) return null;
  return (
    <Card title="Audit" note={`Checks of the chosen models on ${visible(dataset)} that find losses which are likely wrong or depend on how they were scored.`}>
      {runs ? (
        <>
          <Loaded reply={reply} empty={<>The audit finds nothing odd.</>}>
            {(frame) => <FrameTable label="Audit" frame={frame} />}
          </Loaded>
          <DataLinks reply={reply} />
        </>
      ) : (
        <button type="button" class="button" onClick={() => navigate(() => (picked.audit.value = "all"))}>Audit {whole(slices)} slices</button>
      )}
    </Card>
  );
}
