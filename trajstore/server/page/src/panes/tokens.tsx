/** Tokens: a context's text by loss or difference, a slider over steps, steps × tokens as a heat map, one token's course. */
import { useMemo, useState } from "preact/hooks";
import { useFrame, type Frame, type Parameters } from "../api";
import { colourOf, type ColourScale } from "../colours";
import { chosenDataset, chosenModels } from "../facts";
import { Heatmap, numberTicks, rowTicks } from "../heatmap";
import { brushSteps, brushedSteps, brushedTokens, lossBrush, lossIsChosen, selectedTokens } from "../linked";
import { HeldSteps, passed } from "../offline/parts";
import { Card, Choice, DataLinks, Empty, Loaded, Segments } from "../parts";
import { navigate, state } from "../state";
import { nats, visible, whole } from "../text";
import { Find } from "./tokens/find";
import { gridOf, rowOf, scaleOf, type Grid } from "./tokens/grid";
import { FIRST, context, keys, model, other, prompt, prompts, shownSteps } from "./tokens/keys";
import { StepSlider } from "./tokens/slider";
import { TokenText } from "./tokens/text";
import { Token } from "./tokens/token";

const VIEWS = [["raw", "Loss"], ["steps", "Change since the step before"], ["models", "Difference from another model"], ["prompts", "Difference from another prompt"]] as const;
const SCALES = [["absolute", "nats"], ["relative", "relative"]] as const;

export function TokensPane() {
  if (!chosenDataset.value || !model.value) {
    return <Empty>No losses are here yet; score a model with <code>trajstore score MODEL --dataset D</code>.</Empty>;
  }
  return <Context />;
}

/** The endpoint and the parameters of what is shown. */
function question(dataset: string): [string, Parameters] {
  const [view, site] = [keys.view.value, { context: context.value, steps: shownSteps() }];
  if (view === "raw") return ["tokens", { ...site, dataset, models: [model.value], columns: "loss" }];
  const models = view === "models" ? [other.value, model.value] : [model.value];
  const datasets = view === "prompts" ? [prompt.value, dataset] : [dataset];
  return ["token_differences", { ...site, datasets, of: view, models, scale: keys.scale.value, threshold: keys.threshold.value || null }];
}

function Context() {
  const dataset = chosenDataset.value!.name;
  const tokens = useFrame("context", { dataset, context: context.value });
  const [path, parameters] = question(dataset);
  const main = useFrame(path, parameters);
  const beside = keys.view.value === "raw" && keys.beside.value === "model";
  const second = useFrame("tokens", beside ? { ...parameters, models: [other.value] } : null);
  return (
    <Card title={`Context ${whole(context.value)} of ${visible(dataset)}`}>
      <Find />
      <Controls />
      <Loaded reply={tokens} empty="This context has no tokens.">
        {(frame) => (
          <Loaded reply={main} empty={<>No losses of {visible(model.value)} here; score it with <code>trajstore score {visible(model.value)} --dataset {visible(dataset)}</code>.</>}>
            {(numbers) => <Reading tokens={frame} numbers={numbers} second={beside ? second.value : null} loading={main.loading} />}
          </Loaded>
        )}
      </Loaded>
      <DataLinks reply={main} />
    </Card>
  );
}

function Controls() {
  const models = chosenModels.value.map((name) => [name, visible(name)] as const);
  const several = models.length > 1;
  const view = keys.view.value;
  const views = VIEWS.filter(([name]) => (several || name !== "models") && (prompts.value.length > 0 || name !== "prompts"));
  return (
    <div class="controls">
      <Choice label="Model" value={model.value} options={models} onChange={(name) => navigate(() => (keys.model.value = name))} />
      <Segments label="What colours the text" value={view} options={views} onChange={(value) => navigate(() => (keys.view.value = value))} />
      {view === "raw" && (
        <Choice
          label="Beside it"
          value={keys.beside.value}
          options={[["", "nothing"], ...(several ? [["model", "another model"] as const] : []), ["step", "another step"]]}
          onChange={(value) => navigate(() => (keys.beside.value = value))}
        />
      )}
      {several && (view === "models" || (view === "raw" && keys.beside.value === "model")) && (
        <Choice label="Other model" value={other.value} options={models.filter(([name]) => name !== model.value)} onChange={(name) => navigate(() => (keys.other.value = name))} />
      )}
      {view === "prompts" && (
        <Choice label="Other dataset" value={prompt.value} options={prompts.value.map((name) => [name, visible(name)] as const)} onChange={(name) => navigate(() => (keys.prompt.value = name))} />
      )}
      <label class="choice">
        <span>Steps</span>
        <input type="text" size={9} value={keys.steps.value} placeholder={brushedSteps.value ?? FIRST ?? "all"} title="all, log, numbers, or ranges as 0:1000:100; commas join" onChange={(event) => navigate(() => (keys.steps.value = event.currentTarget.value.trim()))} />
      </label>
      {OFFLINE && <HeldSteps dataset={chosenDataset.value!.name} model={model.value} />}
      {view !== "raw" && (
        <>
          <Segments label="Scale" value={keys.scale.value} options={SCALES} onChange={(value) => navigate(() => (keys.scale.value = value))} />
          <label class="choice">
            <span>Equal within</span>
            <input type="number" min={0} step={0.05} value={keys.threshold.value} onChange={(event) => navigate(() => (keys.threshold.value = Math.max(0, event.currentTarget.valueAsNumber || 0)))} />
            <span>nats</span>
          </label>
        </>
      )}
    </div>
  );
}

function Reading(props: { tokens: Frame; numbers: Frame; second: Frame | null; loading: boolean }) {
  const { tokens, numbers, second } = props;
  const texts = useMemo(() => Array.from(tokens.column<string>("token")), [tokens]);
  const words = useMemo(() => (OFFLINE ? Array.from(tokens.column<string>("shown"), (text) => text || "·") : texts), [tokens]);
  const grid = useMemo(() => gridOf(numbers, texts.length), [numbers, texts]);
  const otherGrid = useMemo(() => (second ? gridOf(second, texts.length) : keys.beside.value === "step" ? grid : null), [second, grid, texts, keys.beside.value]);
  const diverging = grid.minus !== null;
  const scale = useMemo(() => scaleOf(otherGrid && otherGrid !== grid ? [grid, otherGrid] : [grid], diverging), [grid, otherGrid, diverging]);
  const [cursor, setCursor] = useState<number | null>(null);
  const row = rowOf(grid, state.step.value);
  const members = useFrame("token_groups", selectedTokens.value ? { dataset: chosenDataset.value!.name, context: context.value, groups: selectedTokens.value } : null).value;
  const faded = useMemo(() => fadedIn(texts.length, grid, row, members), [texts, grid, row, members, lossBrush.value]);
  const sideBySide = !diverging && otherGrid !== null;
  const otherRow = sideBySide ? rowOf(otherGrid, keys.beside.value === "step" ? (keys.otherStep.value ?? otherGrid.steps[0] ?? 0) : state.step.value) : 0;
  const pick = (position: number) => position > 0 && navigate(() => (keys.position.value = position));
  const at = cursor ?? keys.position.value;
  const text = (of: Grid, number: number, label: string) => (
    <figure class="panel">
      <figcaption>{label}</figcaption>
      <TokenText
        label={label}
        tokens={words}
        values={of.values.subarray(number * of.columns, (number + 1) * of.columns)}
        scale={scale}
        faded={faded}
        cursor={cursor}
        picked={keys.position.value}
        onCursor={setCursor}
        onPick={pick}
      />
    </figure>
  );
  const height = Math.min(360, Math.max(120, 8 * grid.steps.length));
  const title = (name: string, step: number | undefined) => `${visible(name)}, step ${whole(step ?? 0)}`;
  const minus = diverging ? `, difference from ${keys.view.value === "models" ? visible(other.value) : keys.view.value === "prompts" ? visible(prompt.value) : `step ${whole(grid.minusSteps![row] ?? 0)}`}` : "";
  return (
    <>
      <StepSlider label="Step" steps={grid.steps} row={row} onStep={(step) => (state.step.value = step)} />
      {sideBySide && keys.beside.value === "step" && (
        <StepSlider label="Other step" steps={otherGrid.steps} row={otherRow} onStep={(step) => (keys.otherStep.value = step)} />
      )}
      <ScaleBar scale={scale} relative={diverging && keys.scale.value === "relative"} />
      <Readout tokens={tokens} texts={texts} grid={grid} row={row} position={at} waits={props.loading} />
      <div class={sideBySide ? "panels two" : "panels"}>
        {text(grid, row, title(model.value, grid.steps[row]) + minus)}
        {sideBySide && text(otherGrid, otherRow, title(keys.beside.value === "model" ? other.value : model.value, otherGrid.steps[otherRow]))}
      </div>
      <h3>Steps × tokens</h3>
      <Heatmap
        label="Steps by tokens"
        values={grid.values}
        rows={grid.steps.length}
        columns={grid.columns}
        down={{ label: "step", ticks: rowTicks(grid.steps, height / 18) }}
        across={{ label: "position", ticks: numberTicks(0.5, grid.columns + 0.5, 8) }}
        scale={scale}
        height={height}
        cursor={at ? { row, column: at - 1 } : { row, column: 0 }}
        readout={at ? `${visible(texts[at] ?? "")}, step ${grid.steps[row]}: ${nats(grid.values[row * grid.columns + at - 1])}` : ""}
        onCursor={(cell) => {
          setCursor(cell.column + 1);
          state.step.value = grid.steps[cell.row]!;
        }}
        onPick={(cell) => pick(cell.column + 1)}
        onBrush={(from, to) => brushSteps(grid.steps, grid.steps[from.row]!, grid.steps[to.row]!)}
      />
      {keys.position.value !== null && keys.position.value < texts.length && (
        <Token dataset={chosenDataset.value!.name} context={context.value} position={keys.position.value} token={texts[keys.position.value]!} model={model.value} />
      )}
    </>
  );
}

/** The tokens outside the group and the losses that are selected, by position; null where nothing is. */
function fadedIn(tokens: number, grid: Grid, row: number, members: Frame | null): boolean[] | null {
  const byLoss = lossBrush.value && !brushedTokens.value;
  if (!members && !byLoss) return null;
  const groups = members?.column<string>("groups");
  return Array.from({ length: tokens }, (_, position) => {
    const loss = grid.losses[row * grid.columns + position - 1] ?? NaN;
    return Boolean(groups && !groups[position]) || Boolean(byLoss && position > 0 && !lossIsChosen(loss));
  });
}

function ScaleBar({ scale, relative }: { scale: ColourScale; relative: boolean }) {
  const low = scale.diverging ? -scale.top : 0;
  const parts = Array.from({ length: 24 }, (_, i) => low + ((scale.top - low) * (i + 0.5)) / 24);
  const unit = relative ? "" : " nats";
  return (
    <div class="scale-bar" role="img" aria-label={`Colours from ${nats(low)} to ${nats(scale.top)}${unit}`}>
      <span>{nats(low)}</span>
      <span class="bar">{parts.map((value) => <i key={value} style={{ backgroundColor: colourOf(value, scale) }} />)}</span>
      <span>{nats(scale.top)}{unit}</span>
      <i class="none" style={{ backgroundColor: colourOf(NaN, scale) }} /> <span>no loss</span>
    </div>
  );
}

/** The numbers of one token; what it asks for beside waits until the losses are there. */
function Readout(props: { tokens: Frame; texts: string[]; grid: Grid; row: number; position: number | null; waits: boolean }) {
  const { tokens, texts, grid, row, position } = props;
  const dataset = chosenDataset.value!.name;
  const site = { dataset, context: context.value };
  const groups = useFrame("token_groups", props.waits ? null : site);
  const step = grid.steps[row];
  const extra = useFrame("tokens", props.waits || step === undefined ? null : { ...site, models: [model.value], steps: String(step) });
  if (position === null || position >= texts.length) {
    return <p class="readout quiet">Point at a token, or move with the arrow keys, to read its numbers; click it for its course in every model.</p>;
  }
  const cell = row * grid.columns + position - 1;
  const parts: [string, string][] = [["position", String(position)], ["id", String(tokens.column("token_id")[position])]];
  if (position > 0) {
    parts.push(["loss", `${nats(grid.losses[cell])} nats`]);
    if (OFFLINE) parts.push(["p", Math.exp(-grid.losses[cell]!).toPrecision(3)], ...passed(step!).map((label): [string, string] => ["after", visible(label)]));
    if (grid.minus) parts.push(["from", `${nats(grid.minus[cell])} nats`], ["difference", grid.equal![cell] ? "equal" : nats(grid.values[cell], true)]);
    for (const name of ["rank", "entropy"]) {
      if (extra.value?.has(name) && !extra.loading) parts.push([name, String(+(extra.value.column(name)[position - 1] ?? NaN).toPrecision(4))]);
    }
  }
  const member = groups.value?.column<string>("groups")[position];
  if (member) parts.push(["groups", visible(member)]);
  return (
    <p class="readout" aria-live="polite">
      <b class="mono">{visible(texts[position]!)}</b>
      {parts.map(([name, value]) => (
        <span key={name}><i>{name}</i> {value}</span>
      ))}
    </p>
  );
}
