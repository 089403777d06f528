/** Findings: what is kept, its tables with tokens in their contexts, and measures by layer and head. */
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { useFrame, type Frame } from "../api";
import { colourOf } from "../colours";
import { FrameTable, curvesOf, rowsOf, shown } from "../frames";
import { StepChart, goToStep, stepIsChosen } from "../linked";
import { AnalysisView } from "../offline/parts";
import { Card, Choice, DataLinks, Loaded, Segments } from "../parts";
import { navigate, state, textField } from "../state";
import { visible } from "../text";

const kind = textField("findings.kind", "");
const finding = textField("findings.name", "");
const table = textField("findings.table", "");
const measure = textField("findings.measure", "");
const MOST_PANELS = 64;

export function FindingsPane() {
  const kept = useFrame("findings", { models: state.models.value, datasets: state.datasets.value });
  const events = useFrame("finding-events", { models: state.models.value, datasets: state.datasets.value });
  return (
    <>
      <Card title="Kept findings" note="Choose one to see its tables.">
        <Loaded reply={kept} empty={<>Nothing is kept of these models. Analyses keep findings: <code>trajstore spikes</code>, <code>shapes</code>, <code>phases</code>, <code>diff</code>, <code>compare</code>, <code>pca</code></>}>
          {(frame) => <Kept frame={frame} links={<DataLinks reply={kept} />} />}
        </Loaded>
      </Card>
      <Card title="Spikes and phases" note="Choose one to go to its step.">
        <Loaded reply={events} empty={<>No spike and no phase is kept; look for them with <code>trajstore spikes</code> and <code>trajstore phases</code></>}>
          {(frame) => <FrameTable label="Spikes and phases" frame={frame} height={260} keep={(row) => stepIsChosen(Number(frame.column("step")[row]))} onPick={(row) => goToStep(Number(frame.column("step")[row]))} />}
        </Loaded>
        <DataLinks reply={events} />
      </Card>
      <Measures />
    </>
  );
}

function Kept({ frame, links }: { frame: Frame; links: ComponentChildren }) {
  const [kinds, names, tables] = [frame.column<string>("kind"), frame.column<string>("finding"), frame.column<string>("tables")];
  const chosen = rowsOf(frame).find((row) => kinds[row] === kind.value && names[row] === finding.value) ?? 0;
  const choices = tables[chosen]!.split(", ");
  const shown = choices.includes(table.value) ? table.value : choices[0]!;
  return (
    <>
      <FrameTable
        label="Kept findings"
        frame={frame}
        hidden={["tables"]}
        height={240}
        picked={chosen}
        onPick={(row) => navigate(() => {
          kind.value = kinds[row]!;
          finding.value = names[row]!;
          table.value = "";
        })}
      />
      {links}
      <h3>{kinds[chosen]}: {visible(names[chosen]!)}</h3>
      {OFFLINE && <AnalysisView kind={kinds[chosen]!} name={names[chosen]!} />}
      <Segments label="Table" value={shown} options={choices.map((name) => [name, name.replaceAll("_", " ")] as const)} onChange={(name) => navigate(() => (table.value = name))} />
      <Rows kind={kinds[chosen]!} finding={names[chosen]!} table={shown} />
    </>
  );
}

function Rows(props: { kind: string; finding: string; table: string }) {
  const reply = useFrame("finding", props);
  const shares = useFrame("shape-shares", props.kind === "shapes" ? { finding: props.finding } : null);
  return (
    <>
      <Loaded reply={reply} empty="This table has no rows.">{(frame) => <FrameTable label={props.table} frame={frame} />}</Loaded>
      <DataLinks reply={reply} />
      {props.kind === "head_kinds" && reply.value && <Heads key={props.finding} heads={reply.value} />}
      {reply.value?.has("other_head") && <Matches pairs={reply.value} />}
      {props.kind === "shapes" && (
        <>
          <h3>Share of each shape</h3>
          <Loaded reply={shares} empty="No token has a shape.">{(frame) => <FrameTable label="Share of each shape" frame={frame} />}</Loaded>
        </>
      )}
    </>
  );
}

/** The measure chosen of those that are kept, with its curves. */
function useMeasure() {
  const known = useFrame("measure-names", { models: state.models.value });
  const names = known.value ? Array.from(known.value.column<string>("name")) : [];
  const chosen = names.includes(measure.value) ? measure.value : names[0];
  const curves = useFrame("measure-curves", chosen ? { measures: [chosen], models: state.models.value } : null); // on whatever it was measured
  const choice = <Choice label="Measure" value={chosen ?? ""} options={names.map((name) => [name, name] as const)} onChange={(name) => navigate(() => (measure.value = name))} />;
  return { known, curves, choice };
}

function Measures() {
  const { known, curves, choice } = useMeasure();
  return (
    <Card title="Measures" note="A panel for each layer and head, a curve for each model.">
      <Loaded reply={known} empty={<>No measure is kept of these models; compute some with <code>trajstore measure</code></>}>
        {() => (
          <>
            {choice}
            <Loaded reply={curves} empty="No value of it is here.">{(frame) => <Panels frame={frame} placeOf={placesOf(frame)} labels={["model", "dataset", "params"]} />}</Loaded>
            <DataLinks reply={curves} />
          </>
        )}
      </Loaded>
    </Card>
  );
}

/** The heads of a finding: a panel for each kind, in which the courses of its heads can be compared. */
function Heads({ heads }: { heads: Frame }) {
  const { curves, choice } = useMeasure();
  const kindOf = useMemo(() => {
    const kinds = heads.column<string>("head_kind");
    return new Map(rowsOf(heads).map((row) => [headOf(heads)(row), kinds[row]!]));
  }, [heads]);
  return (
    <>
      <h3>Courses of the heads, by kind</h3>
      {choice}
      <Loaded reply={curves} empty="No value of it is here.">
        {(frame) => <Panels frame={frame} placeOf={(row) => kindOf.get(headOf(frame)(row))} labels={["model", "layer", "head"]} />}
      </Loaded>
      <p class="note">Curves are named by model, layer and head.</p>
    </>
  );
}

/** Matched heads: the heads of one model by layer, each with the head of the other that took the same course. */
function Matches({ pairs }: { pairs: Frame }) {
  const [layers, heads, otherLayers, otherHeads] = ["layer", "head", "other_layer", "other_head"].map((name) => Array.from(pairs.column(name), Number)) as [number[], number[], number[], number[]];
  const [kinds, others, distances, ambiguous] = [pairs.column<string>("head_kind"), pairs.column<string>("other_kind"), pairs.column("distance"), pairs.column<boolean>("ambiguous")];
  const scale = { top: Math.max(...distances) || 1, diverging: false };
  const across = [...new Set(heads)].sort((a, b) => a - b);
  const cell = (row: number | undefined) => row !== undefined && (
    <td style={{ backgroundColor: colourOf(distances[row]!, scale) }} title={`${kinds[row]} and ${others[row]}: ${shown(distances[row], 3)} apart`}>
      {otherLayers[row]}.{otherHeads[row]}{ambiguous[row] && " ?"}
    </td>
  );
  return (
    <>
      <h3>Heads of {visible(pairs.column<string>("model")[0]!)} by layer</h3>
      <p class="note">A cell names the head of {visible(pairs.column<string>("other")[0]!)} that took the same course, as layer.head, with ? where another is about as near; a stronger colour is a larger distance.</p>
      <div class="grid-box" role="region" aria-label="Matched heads" tabIndex={0}>
        <table class="grid heads">
          <thead><tr><th scope="col">layer</th>{across.map((head) => <th key={head} scope="col">head {head}</th>)}</tr></thead>
          <tbody>
            {[...new Set(layers)].sort((a, b) => a - b).map((layer) => (
              <tr key={layer}><th scope="row">{layer}</th>{across.map((head) => cell(rowsOf(pairs).find((row) => layers[row] === layer && heads[row] === head)) || <td key={head} />)}</tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function headOf(frame: Frame): (row: number) => string {
  const columns = ["model", "layer", "head"].map((name) => frame.column<unknown>(name));
  return (row) => columns.map((column) => String(column[row])).join(" ");
}

function placesOf(frame: Frame): (row: number) => string {
  const places = ["layer", "head"].map((name) => [name, frame.column<number | null>(name)] as const);
  return (row) => places.flatMap(([name, column]) => (column[row] ?? null) === null ? [] : [`${name} ${column[row]}`]).join(", ") || "the model";
}

/** Small multiples: a panel for each place, a curve for each of the labels; rows without a place are left out. */
function Panels({ frame, placeOf, labels }: { frame: Frame; placeOf: (row: number) => string | undefined; labels: readonly string[] }) {
  const places = useMemo(() => {
    const rows = new Map<string, Set<number>>();
    for (const row of rowsOf(frame)) {
      const name = placeOf(row);
      if (name === undefined) continue;
      if (!rows.has(name)) rows.set(name, new Set());
      rows.get(name)!.add(row);
    }
    return [...rows].map(([name, of]) => ({ name, ...curvesOf(frame, labels, "value", ["low", "high"], (row) => of.has(row)) }));
  }, [frame]);
  return (
    <>
      {places.length > MOST_PANELS && <p class="note">The first {MOST_PANELS} of {places.length}; all are in the data.</p>}
      <div class="small-multiples">
        {places.slice(0, MOST_PANELS).map(({ name, x, curves }) => (
          <figure key={name}>
            <figcaption>{visible(name)}</figcaption>
            <StepChart label={visible(name)} x={x} curves={curves} yLabel="" height={180} legend={places.length === 1} />
          </figure>
        ))}
      </div>
    </>
  );
}
