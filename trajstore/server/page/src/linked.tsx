/** The selection that panes share: the step and the stretch of steps or losses that one pane marks and the others follow. */
import { computed } from "@preact/signals";
import { Chart, type Curve } from "./chart";
import { chosenDataset, chosenModels, facts } from "./facts";
import { Choice } from "./parts";
import { navigate, state, type Brush } from "./state";
import { nats, visible, whole } from "./text";

const brushOf = (of: string) => computed(() => (state.brush.value?.of === of ? state.brush.value : null));
export const stepBrush = brushOf("steps");
export const lossBrush = brushOf("loss");

export const setBrush = (brush: Brush | null): void => navigate(() => (state.brush.value = brush));

/** The steps of a model on the dataset whose losses are here. */
export const stepsOf = (model: string): number[] =>
  (OFFLINE ? chosenDataset.value?.held?.find(({ name }) => name === model)?.steps : facts.value?.steps[model]?.[chosenDataset.value?.name ?? ""]) ?? [];

/** The model and the step of MODEL@STEP. */
function parted(checkpoint: string): [string, string] {
  const at = checkpoint.lastIndexOf("@");
  return [checkpoint.slice(0, at), checkpoint.slice(at + 1)];
}

/** The checkpoint whose losses a brush is of where none is chosen: of the first model the step looked at, or the last. */
export const checkpointHere = computed(() => {
  const [model = ""] = chosenModels.value;
  const steps = stepsOf(model);
  return `${model}@${steps.findLast((step) => step <= (state.step.value ?? step)) ?? steps[0] ?? "last"}`;
});

const tokensOf = ({ at, from, to, other }: Brush): string => {
  const [model, step] = parted(at!);
  return `loss_between('${model}', ${step}, ${from}, ${to})${other ? ` & ${tokensOf(other)}` : ""}`;
};
/** The tokens that have the brushed losses, as an expression of groups; a report has no server to find them. */
export const brushedTokens = computed(() => (!OFFLINE && lossBrush.value?.at ? tokensOf(lossBrush.value) : ""));

/** The tokens of the group and of the losses that are selected, as one expression; "" for all. */
export const selectedTokens = computed(() => [state.group.value, brushedTokens.value].filter(Boolean).map((group, _, both) => (both.length > 1 ? `(${group})` : group)).join(" & "));

const lossWords = ({ from, to, at, other }: Brush): string =>
  `${nats(from)} to ${nats(to)} nats${at ? ` of ${parted(at).join(" at step ")}` : ""}${other ? ` and ${lossWords(other)}` : ""}`;

/** A choice of a model and one of its steps, as MODEL@STEP. */
export function CheckpointChoice(props: { label: string; value: string; onChange: (value: string) => void }) {
  const [model, step] = parted(props.value);
  const steps = stepsOf(model);
  return (
    <>
      <Choice label={props.label} value={model} options={(facts.value?.models ?? []).map((name) => [name, visible(name)] as const)} onChange={(name) => props.onChange(`${name}@${stepsOf(name).at(-1) ?? "last"}`)} />
      <Choice label="step" value={step} options={(steps.length ? steps.map(String) : [step]).map((text) => [text, text] as const)} onChange={(text) => props.onChange(`${model}@${text}`)} />
    </>
  );
}

/** The brushed steps as the server's SPEC; null for all. */
export const brushedSteps = computed(() => stepBrush.value && `${stepBrush.value.from}:${stepBrush.value.to}`);

const inside = (brush: Brush | null, value: number): boolean => !brush || (value >= brush.from && value <= brush.to);
export const stepIsChosen = (step: number): boolean => inside(stepBrush.value, step);
export const lossIsChosen = (loss: number): boolean => inside(lossBrush.value, loss);

/** Brush those of these steps that lie between two places; where none does, nothing changes. */
export function brushSteps(steps: Iterable<number>, one: number, other: number): void {
  const chosen = Array.from(steps).filter((step) => step >= Math.min(one, other) && step <= Math.max(one, other));
  if (chosen.length) setBrush({ of: "steps", from: Math.min(...chosen), to: Math.max(...chosen) });
}

export const goToStep = (step: number): void => navigate(() => (state.step.value = step));

/** Curves by step that mark the step and the brushed steps; a click chooses a step, a drag brushes. */
export function StepChart(props: { label: string; x: ArrayLike<number>; curves: readonly Curve[]; yLabel: string; height?: number; legend?: boolean }) {
  const brush = stepBrush.value;
  return (
    <Chart
      {...props}
      xLabel="step"
      xScale="symlog"
      mark={state.step.value}
      brush={brush && [brush.from, brush.to]}
      onBrush={(from, to) => brushSteps(Array.from(props.x), from, to)}
      onPick={goToStep}
    />
  );
}

/** What is selected in all panes, each with a button that clears it. */
export function Selected() {
  const [steps, losses, group] = [stepBrush.value, lossBrush.value, state.group.value];
  const chips: [string, () => void][] = [];
  if (steps) chips.push([`Steps ${whole(steps.from)} to ${whole(steps.to)}`, () => setBrush(null)]);
  if (losses) chips.push([`Losses ${lossWords(losses)}`, () => setBrush(null)]);
  if (group) chips.push([`Group ${visible(group)}`, () => navigate(() => (state.group.value = ""))]);
  return (
    <ul class="chips" aria-label="Selected in all panes">
      {chips.map(([text, clear]) => (
        <li key={text}><button type="button" class="button chip" aria-label={`Clear ${text}`} onClick={clear}>{text} ×</button></li>
      ))}
    </ul>
  );
}
