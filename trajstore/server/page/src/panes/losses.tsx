/** Losses: their mean or median by step, and how they are distributed; a stretch chosen in one is what the other shows. */
import { useMemo } from "preact/hooks";
import { useFrame, type Frame } from "../api";
import { Chart, type Curve } from "../chart";
import { chosenDataset } from "../facts";
import { curvesBy, rowsOf } from "../frames";
import { CheckpointChoice, checkpointHere, lossBrush, setBrush, stepBrush, StepChart } from "../linked";
import { Card, DataLinks, Loaded, Segments } from "../parts";
import { state, textField, type Brush } from "../state";
import { nats, whole } from "../text";

type Statistic = "mean" | "median";
const statistic = textField<Statistic>("losses.statistic", "mean");
const STATISTICS = [["mean", "Mean"], ["median", "Median"]] as const;

export function LossesPane() {
  const dataset = chosenDataset.value?.name;
  const brush = state.brush.value;
  const [steps, losses] = [stepBrush.value, lossBrush.value];
  const chosen = { models: state.models.value, datasets: dataset, groups: state.group.value };
  const curves = useFrame("cube/curves", dataset ? { ...chosen, low: losses?.from, high: losses?.to } : null);
  const density = useFrame("cube/density", dataset ? { ...chosen, first: steps && Math.ceil(steps.from), last: steps && Math.floor(steps.to) } : null);
  const scored = <>No losses here. Score a model: <code>trajstore score MODEL --dataset D</code></>;
  return (
    <>
      <div class="controls">
        <Segments label="Statistic" value={statistic.value} options={STATISTICS} onChange={(value) => (statistic.value = value)} />
        <Stretch of="steps" label="Steps" />
        <Stretch of="loss" label="Losses (nats)" />
        {losses?.at && <CheckpointChoice label="of" value={losses.at} onChange={(at) => setBrush({ ...losses, at })} />}
        <button type="button" class="button" disabled={!brush} onClick={() => setBrush(null)}>Show all</button>
      </div>
      <Card title="Loss by step" note={losses ? `Losses from ${nats(losses.from)} to ${nats(losses.to)} nats, by whole bins.` : "Drag over steps to see how their losses are distributed."}>
        <Loaded reply={curves} empty={scored}>{(frame) => <ByStep frame={frame} />}</Loaded>
        <DataLinks reply={curves} />
      </Card>
      <Card title="Distribution of losses" note={steps ? `Steps ${whole(steps.from)} to ${whole(steps.to)}.` : losses?.at ? "The tokens that have these losses at the checkpoint chosen are marked in the other panes, and have a curve of their own among the groups." : "Drag over losses to see how many there are of them by step, and their mean."}>
        <Loaded reply={density} empty={scored}>{(frame) => <Density frame={frame} brush={losses} />}</Loaded>
        <DataLinks reply={density} />
      </Card>
    </>
  );
}

/** Brush losses: of the checkpoint chosen before, if any. */
const brushLosses = (from: number, to: number): void => setBrush({ of: "loss", from, to, at: OFFLINE ? undefined : (lossBrush.value?.at ?? checkpointHere.value) });

/** The ends of a brush as numbers, for the keyboard. */
function Stretch({ of, label }: { of: string; label: string }) {
  const brush = (of === "steps" ? stepBrush : lossBrush).value;
  const change = (one: number, other: number) => {
    const [from, to] = [Math.min(one, other), Math.max(one, other)];
    return of === "loss" ? brushLosses(from, to) : setBrush({ of, from, to });
  };
  return (
    <>
      <label class="choice">
        <span>{label} from</span>
        <input type="number" min="0" step="any" value={brush?.from ?? ""} onChange={(event) => change(event.currentTarget.valueAsNumber || 0, brush?.to ?? 1e9)} />
      </label>
      <label class="choice">
        <span>to</span>
        <input type="number" min="0" step="any" aria-label={`${label} to`} value={brush?.to ?? ""} onChange={(event) => change(brush?.from ?? 0, event.currentTarget.valueAsNumber || 0)} />
      </label>
    </>
  );
}

function ByStep({ frame }: { frame: Frame }) {
  const which = statistic.value;
  const { x, curves } = useMemo(() => linesOf(frame, frame.column("step"), frame.column<number | null>(which)), [frame, which]);
  const errors = Array.from(frame.column<number | null>("median_error"), (error) => error ?? 0);
  return (
    <>
      <StepChart label={`${which} loss`} x={x} curves={curves} yLabel={`${which} loss (nats)`} />
      {which === "median" && <p class="note">Medians are those of bins, off by at most {nats(errors.reduce((a, b) => Math.max(a, b), 0))} nats.</p>}
    </>
  );
}

function Density({ frame, brush }: { frame: Frame; brush: Brush | null }) {
  const { x, curves } = useMemo(() => {
    const [low, high, share] = [frame.column("low"), frame.column<number | null>("high"), frame.column("share")];
    const middle = Array.from(low, (from, row) => (from + (high[row] ?? from)) / 2);
    return linesOf(frame, middle, Array.from(share, (value, row) => (high[row] === null ? null : value / (high[row]! - low[row]!))));
  }, [frame]);
  return (
    <Chart
      label="Density of losses"
      x={x}
      curves={curves}
      xLabel="loss (nats)"
      yLabel="share a nat"
      brush={brush && [brush.from, brush.to]}
      onBrush={(from, to) => brushLosses(Math.max(0, +from.toPrecision(4)), +to.toPrecision(4))}
    />
  );
}

/** A line for each model and group. */
function linesOf(frame: Frame, xs: ArrayLike<number>, ys: ArrayLike<number | null>): { x: number[]; curves: Curve[] } {
  const [models, groups] = [frame.column<string>("model"), frame.column<string>("group")];
  const several = new Set(groups).size > 1;
  return curvesBy(rowsOf(frame), (row) => (several ? `${models[row]}, ${groups[row]}` : models[row]!), xs, [ys]);
}
