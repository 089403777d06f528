/** Two checkpoints compared: the density of their losses, the tokens and groups in a part of it, and convergence by step. */
import { computed } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { useFrame, type Frame } from "../api";
import { chosenDataset, chosenModels, facts } from "../facts";
import { FrameTable, curvesOf } from "../frames";
import { Heatmap, numberTicks, type Cell } from "../heatmap";
import { CheckpointChoice, StepChart, brushedTokens, lossBrush, selectedTokens, setBrush, stepIsChosen, stepsOf } from "../linked";
import { Card, DataLinks, Loaded, Segments } from "../parts";
import { navigate, state, textField } from "../state";
import { nats, visible, whole } from "../text";

const one = textField("compare.one", "");
const other = textField("compare.other", "");
/** LOW~HIGH of the first loss, then of the other. */
const box = textField("compare.box", "");
/** The part that is read; another one of other losses comes before it. */
const part = computed(() => (lossBrush.value?.at && !lossBrush.value.other ? "" : box.value));
const statistic = textField<Statistic>("compare.by", "partial");
const STATISTICS = { partial: "correlation beyond frequency", pearson: "correlation", rms: "distance", difference: "difference" } as const;
type Statistic = keyof typeof STATISTICS;

/** Return the two checkpoints compared as MODEL@STEP: of two models the last, of one model the first and the last, of the steps selected. */
function pair(): [string, string] {
  const [first = "", second = first] = chosenModels.value;
  const [steps, seconds] = [first, second].map((model) => stepsOf(model).filter(stepIsChosen)) as [number[], number[]];
  const beginning = second === first ? steps[0] : steps.at(-1);
  return [one.value || `${first}@${beginning ?? "last"}`, other.value || `${second}@${seconds.at(-1) ?? "last"}`];
}

export function ComparePane() {
  const dataset = chosenDataset.value?.name;
  if (!dataset || !facts.value?.models.length) return <Card title="Compare"><p class="empty">No losses are here; score some with <code>trajstore score</code></p></Card>;
  const [a, b] = pair();
  const asked = { one: a, other: b, dataset, group: state.group.value };
  return (
    <>
      <Density asked={asked} />
      {(part.value || lossBrush.value) && <Inside asked={asked} />}
      <Convergence />
    </>
  );
}

type Asked = { one: string; other: string; dataset: string; group: string };

function Density({ asked }: { asked: Asked }) {
  const reply = useFrame("density", asked);
  const change = (signal: typeof one) => (value: string) => navigate(() => {
    signal.value = value;
    box.value = "";
  });
  return (
    <Card title="Losses of two checkpoints" note="Tokens by their two losses; a stronger colour holds more. Drag over a part, or choose two corners of it by click or with the arrow keys and Enter, to read its tokens.">
      <div class="controls">
        <CheckpointChoice label="Across" value={asked.one} onChange={change(one)} />
        <CheckpointChoice label="Up" value={asked.other} onChange={change(other)} />
      </div>
      <Loaded reply={reply} empty="No token has both losses here.">{(frame) => <Cells frame={frame} asked={asked} />}</Loaded>
      <DataLinks reply={reply} />
    </Card>
  );
}

/** The cells as a grid, its first row the highest loss of the other checkpoint. */
function gridOf(frame: Frame) {
  const [xLow, xHigh, yLow, yHigh, tokens] = ["x_low", "x_high", "y_low", "y_high", "tokens"].map((name) => Array.from(frame.column(name), Number)) as [number[], number[], number[], number[], number[]];
  const size = xHigh[0]! - xLow[0]!;
  const [left, right, bottom, top] = [Math.min(...xLow), Math.max(...xHigh), Math.min(...yLow), Math.max(...yHigh)];
  const [columns, rows] = [Math.round((right - left) / size), Math.round((top - bottom) / size)];
  const counts = new Float64Array(rows * columns);
  tokens.forEach((count, i) => {
    const [row, column] = [rows - 1 - Math.round((yLow[i]! - bottom) / size), Math.round((xLow[i]! - left) / size)];
    counts[row * columns + column] = count;
  });
  const values = counts.map(Math.log1p);
  return { left, right, bottom, top, size, rows, columns, counts, values, most: Math.max(...values) };
}

/** The cells of the chosen part. */
function boxIn({ left, top, size, rows, columns }: ReturnType<typeof gridOf>): [Cell, Cell] | null {
  if (!part.value) return null;
  const [low, high, otherLow, otherHigh] = part.value.split("~").map(Number) as [number, number, number, number];
  const place = (loss: number, count: number) => Math.max(0, Math.min(count - 1, Math.round(loss / size)));
  return [
    { row: place(top - otherHigh, rows), column: place(low - left, columns) },
    { row: place(top - otherLow - size, rows), column: place(high - left - size, columns) },
  ];
}

function Cells({ frame, asked }: { frame: Frame; asked: Asked }) {
  const grid = useMemo(() => gridOf(frame), [frame]);
  const [cursor, setCursor] = useState<Cell | null>(null);
  const [corner, setCorner] = useState<Cell | null>(null);
  const x = (column: number) => grid.left + column * grid.size;
  const y = (row: number) => grid.top - row * grid.size;
  const choose = (from: Cell, to: Cell) => {
    setCorner(null);
    const ends = [x(from.column), x(to.column + 1), y(to.row + 1), y(from.row)].map((end) => +end.toFixed(4)) as [number, number, number, number];
    navigate(() => {
      box.value = ends.join("~");
      state.brush.value = OFFLINE ? { of: "loss", from: ends[0], to: ends[1] } : { of: "loss", from: ends[0], to: ends[1], at: asked.one, other: { of: "loss", from: ends[2], to: ends[3], at: asked.other } };
    });
  };
  const pick = (cell: Cell) => {
    if (!corner) return setCorner(cell);
    const [column, row] = [Math.min(corner.column, cell.column), Math.min(corner.row, cell.row)];
    return choose({ row, column }, { row: Math.max(corner.row, cell.row), column: Math.max(corner.column, cell.column) });
  };
  const readout = cursor
    ? `${nats(x(cursor.column))} to ${nats(x(cursor.column + 1))} across, ${nats(y(cursor.row + 1))} to ${nats(y(cursor.row))} up: ${whole(grid.counts[cursor.row * grid.columns + cursor.column] ?? 0)} tokens`
    : "";
  return (
    <>
      <div class="density">
        <Heatmap
          label="Tokens by two losses"
          values={grid.values}
          rows={grid.rows}
          columns={grid.columns}
          down={{ label: `loss of ${visible(asked.other)} (nats)`, ticks: numberTicks(grid.bottom, grid.top, 8, true) }}
          across={{ label: `loss of ${visible(asked.one)} (nats)`, ticks: numberTicks(grid.left, grid.right, 8) }}
          scale={{ top: grid.most, diverging: false }}
          height={420}
          cursor={cursor}
          brush={boxIn(grid)}
          readout={readout}
          onCursor={setCursor}
          onPick={pick}
          onBrush={choose}
        />
      </div>
      <p class="note">{corner ? `One corner is chosen; choose the other. ${readout}` : readout || " "}</p>
    </>
  );
}

function Inside({ asked }: { asked: Asked }) {
  const brush = lossBrush.value;
  const tokensHere = part.value ? "" : brushedTokens.value;
  const [low, high, otherLow, otherHigh] = part.value ? part.value.split("~").map(Number) : tokensHere ? [] : [brush?.from, brush?.to];
  const parameters = { ...asked, ...(tokensHere && { group: selectedTokens.value }), low, high, other_low: otherLow, other_high: otherHigh };
  const tokens = useFrame("box-tokens", parameters);
  const groups = useFrame("box-groups", tokensHere ? null : parameters);
  return (
    <>
      <Card title={tokensHere ? "Brushed tokens" : "Tokens in the part"} note={`${tokensHere ? "The tokens of the losses selected" : `Losses ${low} to ${high} across${otherLow === undefined ? "" : ` and ${otherLow} to ${otherHigh} up`}`}, the largest differences first. Choose one to read its context.`}>
        <div class="controls"><button type="button" class="button" onClick={() => navigate(() => {
          box.value = "";
          setBrush(null);
        })}>Choose no part</button></div>
        <Loaded reply={tokens} empty="No token is in this part.">
          {(frame) => (
            <>
              <p class="note">{whole(Number(frame.column("in_box")[0]))} tokens, of which {whole(frame.rows)} are here.</p>
              <FrameTable label="Tokens in the part" frame={frame} hidden={["in_box"]} />
            </>
          )}
        </Loaded>
        <DataLinks reply={tokens} />
      </Card>
      {!tokensHere && (
        <Card title="Groups in the part" note="How much more often tokens of each group are in the part than other tokens. Choose one to see its tokens in every pane.">
          <Loaded reply={groups} empty="The store has no groups.">{(frame) => <FrameTable label="Groups in the part" frame={frame} onPick={(row) => navigate(() => (state.group.value = frame.column<string>("group")[row]!))} />}</Loaded>
          <DataLinks reply={groups} />
        </Card>
      )}
    </>
  );
}

function Convergence() {
  const models = chosenModels.value;
  const dataset = chosenDataset.value!.name;
  const reply = useFrame("convergence", models.length > 1 ? { models, datasets: [dataset], group: state.group.value } : null);
  return (
    <Card title="Convergence by step" note="How alike the models' losses are at each step that all have.">
      {models.length < 2 ? (
        <p class="empty">Choose two models or more.</p>
      ) : (
        <>
          <Segments label="Measure" value={statistic.value} options={Object.entries(STATISTICS) as [Statistic, string][]} onChange={(value) => navigate(() => (statistic.value = value))} />
          <Loaded reply={reply} empty="These models have no step in common.">{(frame) => <Alike frame={frame} />}</Loaded>
          <DataLinks reply={reply} />
        </>
      )}
    </Card>
  );
}

function Alike({ frame }: { frame: Frame }) {
  const name = statistic.value;
  const { x, curves } = useMemo(() => {
    const [models, others, steps, last] = [frame.column<string>("model"), frame.column<string>("other"), frame.column("step"), frame.column("other_step")];
    const seen = new Set<string>();
    const keep = (row: number) => {
      const key = [models[row], others[row]].sort().join("\n") + steps[row];
      if (models[row] === others[row] || Number(steps[row]) !== Number(last[row]) || seen.has(key)) return false;
      return Boolean(seen.add(key));
    };
    return curvesOf(frame, ["model", "other"], name, [`${name}_low`, `${name}_high`], keep);
  }, [frame, name]);
  const unit = name === "rms" || name === "difference" ? `${STATISTICS[name]} (nats)` : STATISTICS[name];
  return <StepChart label="Convergence" x={x} curves={curves} yLabel={unit} />;
}
