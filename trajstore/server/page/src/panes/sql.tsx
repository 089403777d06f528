/** SQL: an editor that completes the store's own names, named queries, and the answer as a table, a chart and a file. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, frameOf, post, useValue, type Frame, type Reply } from "../api";
import { Chart } from "../chart";
import type { Editor } from "../editor";
import { curvesBy, rowsOf, shown } from "../frames";
import { Card, Choice, Loaded } from "../parts";
import { navigate, textField } from "../state";
import { Table } from "../table";
import { visible, whole } from "../text";

const ran = textField("sql.ran", "");
const across = textField("sql.x", "");
const upward = textField("sql.y", "");

const FIRST = "SELECT model, step, avg(loss) AS mean_loss\nFROM losses\nGROUP BY model, step\nORDER BY model, step";
const MOST_LINES = 12;

interface Relation {
  name: string;
  kind: string;
  call: string;
  description: string;
  columns: { name: string; type: string; unit: string; meaning: string }[];
}

interface NamedQuery {
  name: string;
  description: string;
  parameters: { name: string; default: string | null; meaning: string }[];
  sql: string;
}

/** The answer to a statement; a newer one ends it, and so does leaving the pane. */
function useAnswer(sql: string): Reply<Frame> {
  const nothing = { value: null, error: null, path: "sql", parameters: {} };
  const [reply, setReply] = useState<Reply<Frame>>({ ...nothing, loading: false });
  useEffect(() => {
    if (!sql) return undefined;
    const controller = new AbortController();
    setReply({ ...nothing, loading: true });
    post("sql", { sql, rows: 100_000 }, {}, { signal: controller.signal })
      .then(frameOf)
      .then((value) => controller.signal.aborted || setReply({ ...nothing, loading: false, value }))
      .catch((error: unknown) => {
        if (controller.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(String(error), "Reload the page.");
        setReply({ ...nothing, loading: false, error: known });
      });
    return () => controller.abort();
  }, [sql]);
  return reply;
}

export function SqlPane() {
  const schema = useValue<Relation[]>("sql/schema");
  const box = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | null>(null);
  const run = () => navigate(() => (ran.value = editor.current?.text().trim() ?? ""));
  const answer = useAnswer(ran.value);
  const relations = schema.value;
  useEffect(() => {
    if (!relations || editor.current) return undefined;
    let left = false;
    const names = Object.fromEntries(relations.map(({ name, columns }) => [name, columns.map((column) => column.name)]));
    import(new URL("static/sql.js", document.baseURI).href).then(({ open }: typeof import("../editor")) => {
      if (!left && box.current) editor.current = open(box.current, { text: ran.value || FIRST, schema: names, run });
    });
    return () => (left = true);
  }, [relations]);
  useEffect(() => () => editor.current?.destroy(), []);
  useEffect(() => {
    if (ran.value && editor.current && editor.current.text().trim() !== ran.value) editor.current.replace(ran.value);
  }, [ran.value]);
  return (
    <>
      <Card title="SQL" note="One statement that reads. Ctrl+Enter runs it; Ctrl+Space completes.">
        <Loaded reply={schema} empty="The store has no tables.">
          {() => <div class="editor" ref={box} />}
        </Loaded>
        <div class="controls">
          <button type="button" class="button" id="run" onClick={run}>Run</button>
          <Queries onChoose={(text) => editor.current?.replace(text)} />
        </div>
      </Card>
      {ran.value && (
        <Card title="Answer">
          <Loaded reply={answer} empty="The answer has no rows.">{(frame) => <Answer frame={frame} />}</Loaded>
          <Downloads sql={ran.value} />
        </Card>
      )}
      {relations && <Names relations={relations} />}
    </>
  );
}

function Queries({ onChoose }: { onChoose: (text: string) => void }) {
  const reply = useValue<NamedQuery[]>("sql/queries");
  const [name, setName] = useState("");
  const queries = reply.value ?? [];
  const choose = (chosen: string) => {
    setName(chosen);
    const query = queries.find((entry) => entry.name === chosen);
    if (query) onChoose(withValues(query));
  };
  return <Choice label="Named query" value={name} options={[["", "choose"], ...queries.map((entry) => [entry.name, entry.name] as const)]} onChange={choose} />;
}

/** The text of a named query, its parameters told above it: $name is to be replaced by a value. */
function withValues({ description, parameters, sql }: NamedQuery): string {
  const lines = parameters.map(({ name, meaning, default: value }) => `-- $${name}: ${meaning}${value === null ? "" : ` (${value})`}`);
  return [`-- ${description}`, ...lines, sql].join("\n");
}

function Answer({ frame }: { frame: Frame }) {
  const columns = useMemo(() => frame.names.map((name) => ({ name, values: frame.column<unknown>(name) })), [frame]);
  const numbers = columns.filter(({ values }) => Array.from(values).slice(0, 50).some((value) => typeof value === "number"));
  return (
    <>
      <p role="status">{whole(frame.rows)} rows</p>
      <Table
        label="Answer"
        rows={frame.rows}
        columns={columns.map(({ name, values }) => ({ name, number: numbers.some((column) => column.name === name), cell: (row) => shown(values[row], 7) }))}
      />
      {numbers.length > 1 && <Curves frame={frame} numbers={numbers.map(({ name }) => name)} />}
    </>
  );
}

/** A chart of two columns of numbers, a line for each value of the first column of text. */
function Curves({ frame, numbers }: { frame: Frame; numbers: string[] }) {
  const named = (chosen: string, otherwise: string) => (numbers.includes(chosen) ? chosen : otherwise);
  const x = named(across.value, numbers.includes("step") ? "step" : numbers[0]!);
  const y = named(upward.value, numbers.find((name) => name !== x)!);
  const { x: places, curves } = useMemo(() => linesOf(frame, x, y), [frame, x, y]);
  const options = numbers.map((name) => [name, visible(name)] as const);
  return (
    <>
      <div class="controls">
        <Choice label="Across" value={x} options={options} onChange={(name) => (across.value = name)} />
        <Choice label="Upward" value={y} options={options} onChange={(name) => (upward.value = name)} />
      </div>
      <Chart label={`${visible(y)} by ${visible(x)}`} x={places} curves={curves} xLabel={visible(x)} yLabel={visible(y)} xScale={x === "step" ? "symlog" : "linear"} />
    </>
  );
}

function linesOf(frame: Frame, x: string, y: string) {
  const at = frame.column<number>(x);
  const by = frame.names.find((name) => typeof frame.column<unknown>(name)[0] === "string");
  const labels = by === undefined ? null : frame.column<string>(by);
  const label = (row: number) => labels?.[row] ?? y;
  const drawn = new Set([...new Set(rowsOf(frame).map(label))].slice(0, MOST_LINES));
  const rows = rowsOf(frame).filter((row) => typeof at[row] === "number" && drawn.has(label(row)));
  return curvesBy(rows, label, at, [frame.column<number | null>(y)]);
}

function Downloads({ sql }: { sql: string }) {
  const save = async (kind: string) => {
    const url = URL.createObjectURL(await (await post("sql", { sql, kind })).blob());
    const link = document.createElement("a");
    link.href = url;
    link.download = `answer.${kind}`;
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <p class="data-links">
      <span>Data:</span>
      {["json", "csv", "parquet"].map((kind) => (
        <button key={kind} type="button" class="button" onClick={() => void save(kind)}>.{kind}</button>
      ))}
    </p>
  );
}

function Names({ relations }: { relations: Relation[] }) {
  return (
    <Card title="Tables, views, groups and macros">
      {relations.filter(({ kind }) => kind !== "group").map(({ name, call, kind, columns }) => (
        <details key={`${kind} ${name}`}>
          <summary><code>{visible(call)}</code> {kind}</summary>
          <dl class="facts">
            {columns.map((column) => (
              <div key={column.name}>
                <dt>{visible(column.name)} {column.unit && `(${column.unit})`}</dt>
                <dd>{visible(column.meaning || column.type)}</dd>
              </div>
            ))}
          </dl>
        </details>
      ))}
    </Card>
  );
}
