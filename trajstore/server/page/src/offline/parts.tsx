/** Parts that only a report has: what it says first, what it holds of groups, contexts and findings. */
import { useFrame } from "../api";
import { facts } from "../facts";
import { FrameTable } from "../frames";
import { Card, Choice, Loaded } from "../parts";
import { state } from "../state";
import { Table } from "../table";
import { visible, whole } from "../text";
import type { Cell } from "./data";
import { DrawingView } from "./drawing";

const report = () => facts.value?.report;

/** Its title, what it is of, and the sentences that stand at its top. */
export function Lead() {
  const of = report();
  if (!of) return null;
  return (
    <section class="card lead">
      <h1>{visible(of.title)}</h1>
      <p class="note">{visible(of.lead)}</p>
      {of.sentences.length > 0 && <ul class="sentences">{of.sentences.map((sentence) => <li key={sentence}>{visible(sentence)}</li>)}</ul>}
    </section>
  );
}

export function Models() {
  const reply = useFrame("models", { models: state.models.value });
  return (
    <Card title="Models and datasets">
      <Loaded reply={reply} empty="No model is here.">{(frame) => <FrameTable label="Models" frame={frame} hidden={frame.names.filter((name) => Array.from(frame.column<unknown>(name)).every((value) => value === null))} />}</Loaded>
      <ul class="sentences">
        {facts.value?.datasets.map(({ name, contexts, tokens, tokenizer }) => (
          <li key={name}>{visible(name)}: {whole(contexts)} contexts, {whole(tokens)} tokens of {visible(tokenizer)}</li>
        ))}
      </ul>
    </Card>
  );
}

/** What each of these groups is. */
export const GroupTexts = ({ groups }: { groups: string[] }) => (
  <ul class="sentences">
    {groups.map((name) => <li key={name}><b>{name}</b>: {visible(report()?.groupTexts[name]?.join(" ") ?? "not in this report")}</li>)}
  </ul>
);

/** A choice among the contexts of a dataset that the report holds, named by how they begin. */
export function ContextChoice(props: { dataset: string; kept: readonly number[]; context: number; onChange: (context: number) => void }) {
  const { kept, context } = props;
  const starts = useFrame("context-starts", { dataset: props.dataset });
  const texts = starts.value ? Array.from(starts.value.column<string>("snippet")) : [];
  const place = kept.indexOf(context);
  const options = kept.map((number, i) => [String(number), `${number}${texts[i] ? `: ${visible(texts[i]!)}` : ""}`] as const);
  const step = (by: number, label: string, sign: string) => (
    <button type="button" disabled={kept[place + by] === undefined} aria-label={label} onClick={() => props.onChange(kept[place + by]!)}>{sign}</button>
  );
  return (
    <>
      <Choice label="Context" value={String(context)} options={place < 0 ? [[String(context), `${context}: not in the report`], ...options] : options} onChange={(text) => props.onChange(Number(text))} />
      <span class="segments" role="group" aria-label="Next context">
        {step(-1, "Context before", "←")}
        {step(1, "Context after", "→")}
      </span>
    </>
  );
}

/** How many of a model's steps are here, where some are not. */
export function HeldSteps({ dataset, model }: { dataset: string; model: string }) {
  const held = facts.value?.datasets.find((of) => of.name === dataset)?.held?.find((of) => of.name === model);
  return held && held.steps.length < held.of ? <span class="note">{held.steps.length} of its {whole(held.of)} steps are here</span> : null;
}

/** The marks that a step has passed. */
export const passed = (step: number): string[] => (report()?.marks ?? []).filter((mark) => step >= mark.step).map((mark) => mark.label);

const shown = (value: Cell): string => (value === null ? "" : typeof value === "number" ? String(+value.toPrecision(4)) : visible(String(value)));

/** What came of a kept finding: a sentence, charts and tables. */
export function AnalysisView({ kind, name }: { kind: string; name: string }) {
  const analysis = report()?.analyses.find((of) => of.kind === kind && of.name === name);
  if (!analysis) return null;
  return (
    <>
      <p class="analysis">{visible(analysis.text)}</p>
      {analysis.charts.map((drawing, i) => <DrawingView key={`${name} ${i}`} drawing={drawing} />)}
      {analysis.tables.filter(({ rows }) => rows.length > 0).map(({ title, columns, rows, more }) => (
        <section key={title} class="fresh">
          <h3>{title}</h3>
          {more > 0 && <p class="note">The first {whole(rows.length)} of {whole(rows.length + more)} rows.</p>}
          <Table
            label={title}
            rows={rows.length}
            height={300}
            columns={columns.map((column, i) => ({ name: column, title: column.replaceAll("_", " "), number: rows.some((row) => typeof row[i] === "number"), cell: (row: number) => shown(rows[row]![i]!) }))}
          />
        </section>
      ))}
      <h3>All its tables</h3>
    </>
  );
}

export function Footer() {
  const of = report();
  if (!of) return null;
  const error = of.error.toLocaleString("en", { maximumSignificantDigits: 2 });
  return (
    <footer class="foot">
      Made by trajstore {of.version}. {SPLIT ? "This page loads what lies beside it and nothing else. Losses of tokens are those of the store’s own slices." : `This page holds all it shows and loads nothing. Losses of tokens are held in 16 bits, at most ${error} nats from the store’s.`}
    </footer>
  );
}

