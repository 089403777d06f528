/** The store: what is scored and what is not, where a slice comes from, and what an audit finds odd. */
import { useMemo } from "preact/hooks";
import { useFrame, type Frame } from "../api";
import { chosenDataset, facts } from "../facts";
import { Card, DataLinks, Loaded } from "../parts";
import { navigate, numberField, state, textField } from "../state";
import { Table } from "../table";
import { bytes, visible, whole } from "../text";

const STATES = { there: "complete", partial: "partial", missing: "missing", bad: "damaged" } as const;
type SliceState = keyof typeof STATES;

const picked = {
  model: textField("store.model", ""),
  dataset: textField("store.dataset", ""),
  step: numberField<number | null>("store.step", null),
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
      <Summary />
      <Card title="Coverage" note="Each cell is one slice: the losses of a model at one step on one dataset. Choose one to see where it comes from.">
        <Loaded reply={coverage} empty={<>Nothing is scored yet. Score a model: <code>trajstore score MODEL --dataset D</code></>}>
          {(frame) => <Grid frame={frame} />}
        </Loaded>
        <DataLinks reply={coverage} />
      </Card>
      <Slice />
      <Audit />
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
                <td class="cells"><Cells line={line} steps={steps} states={states} reasons={reasons} onChoose={choose} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Cells(props: {
  line: Line;
  steps: number[];
  states: ArrayLike<SliceState>;
  reasons: ArrayLike<string | null>;
  onChoose: (line: Line, step: number) => void;
}) {
  const { line, steps } = props;
  const chosen = picked.model.value === line.model && picked.dataset.value === line.dataset ? picked.step.value : null;
  const present = steps.filter((step) => line.steps.has(step));
  const entry = chosen !== null && line.steps.has(chosen) ? chosen : present[0];
  const move = (event: KeyboardEvent, step: number) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = by && present[present.indexOf(step) + by];
    if (!by || next === undefined) return;
    event.preventDefault();
    (event.currentTarget as HTMLElement).parentElement!.querySelector<HTMLElement>(`[data-step="${next}"]`)?.focus();
  };
  return (
    <>
      {steps.map((step) => {
        const row = line.steps.get(step);
        if (row === undefined) return <span key={step} class="cell none" />;
        const name = props.states[row]!;
        const words = `${line.model}, ${line.dataset}, step ${whole(step)}: ${props.reasons[row] ?? STATES[name]}`;
        return (
          <button
            key={step}
            type="button"
            class={`cell ${name}`}
            data-step={step}
            title={visible(words)}
            aria-label={visible(words)}
            aria-pressed={chosen === step}
            tabIndex={step === entry ? 0 : -1}
            onClick={() => props.onChoose(line, step)}
            onKeyDown={(event) => move(event, step)}
          />
        );
      })}
    </>
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

function Audit() {
  const dataset = chosenDataset.value?.name;
  const reply = useFrame("audit", dataset ? { datasets: [dataset], models: state.models.value } : null);
  if (!dataset) return null;
  return (
    <Card title="Audit" note={`Checks of the chosen models on ${visible(dataset)} that find losses which are likely wrong or depend on how they were scored.`}>
      <Loaded reply={reply} empty={<>The audit finds nothing odd.</>}>
        {(frame) => {
          const columns = frame.names.map((name) => ({ name, values: frame.column<unknown>(name) }));
          return (
            <Table
              label="Audit"
              rows={frame.rows}
              columns={columns.map(({ name, values }) => ({
                name,
                title: name.replaceAll("_", " "),
                number: typeof values[0] === "number",
                cell: (row) => shown(values[row]),
              }))}
            />
          );
        }}
      </Loaded>
      <DataLinks reply={reply} />
    </Card>
  );
}

const shown = (value: unknown): string =>
  value === null || value === undefined ? "" : typeof value === "number" ? String(+value.toPrecision(5)) : visible(String(value));

