/** Groups: their mean losses by step with intervals, differences, examples, and drafts of new groups in SQL. */
import { useMemo, useState } from "preact/hooks";
import { ApiError, frameOf, post, useFrame, type Frame, type Reply } from "../api";
import { Chart } from "../chart";
import { chosenDataset, chosenModels, facts } from "../facts";
import { FrameTable, curvesOf, rowsOf } from "../frames";
import { StepChart, brushedTokens } from "../linked";
import { GroupTexts } from "../offline/parts";
import { Card, Choice, DataLinks, Loaded, Problem } from "../parts";
import { navigate, state, textField } from "../state";
import { whole } from "../text";

const EVERY = "every_token";
const BRUSHED = "brushed tokens";
const names = textField("groups.names", EVERY);
const minus = textField("groups.minus", "");
const by = textField<"" | "dataset" | "model">("groups.by", "");
const along = textField<"step" | "tokens" | "flops">("groups.x", "step");
const interval = textField<"" | "studentised" | "none">("groups.interval", "");
const draft = textField("groups.draft", "FROM tokens WHERE text LIKE ' the%'");
const COLUMNS = { step: "step", tokens: "tokens_seen", flops: "flops" } as const;
function chosenGroups(): string[] {
  const chosen = names.value.split(";").map((name) => name.trim()).filter(Boolean);
  const known = facts.value?.groups ?? [];
  return OFFLINE && names.value === EVERY && !known.includes(EVERY) ? known.slice(0, 1) : chosen;
}
/** A group's name, or what its curve is called. */
const called = (group: string): string => (group === brushedTokens.value ? BRUSHED : group);
const selection = () => ({ models: chosenModels.value, datasets: state.datasets.value });

export function GroupsPane() {
  return (
    <>
      <Trajectories />
      <Examples />
      {!OFFLINE && <Draft />}
    </>
  );
}

function Trajectories() {
  const reply = useFrame("trajectories", {
    ...selection(), groups: [...new Set([...chosenGroups(), state.group.value, brushedTokens.value])].filter(Boolean).join(";"), minus: minus.value, by: by.value, x: along.value, ci: interval.value,
  });
  return (
    <Card title="Trajectories" note="Mean loss of the tokens of each group, in nats; the band is an interval over texts. Drag over the chart to choose steps.">
      <GroupChoice />
      {OFFLINE && <GroupTexts groups={chosenGroups()} />}
      <Loaded reply={reply} empty={<>No losses of these groups are here; score them with <code>trajstore score</code></>}>
        {(frame) => <Curves frame={frame} />}
      </Loaded>
      <DataLinks reply={reply} />
    </Card>
  );
}

function GroupChoice() {
  const [text, setText] = useState("");
  const known = facts.value?.groups ?? [];
  const chosen = chosenGroups();
  const set = (next: string[]) => navigate(() => (names.value = next.length ? next.join(";") : EVERY));
  return (
    <div class="controls">
      <ul class="chips" aria-label="Groups shown">
        {chosen.map((name) => (
          <li key={name}>
            <button type="button" class="button" aria-label={`Remove ${name}`} onClick={() => set(chosen.filter((other) => other !== name))}>{name} ×</button>
          </li>
        ))}
      </ul>
      {OFFLINE ? (
        <>
          <Choice label="Show" value={chosen[0] ?? ""} options={known.map((name) => [name, name] as const)} onChange={(name) => set([name])} />
          <Choice label="Add" value="" options={[["", "–"], ...known.map((name) => [name, name] as const)]} onChange={(name) => set([...new Set([...chosen, name])])} />
        </>
      ) : (
      <>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim()) set([...new Set([...chosen, text.trim()])]);
          setText("");
        }}
      >
        <label class="choice">
          <span>Add</span>
          <input type="text" list="group-names" value={text} placeholder="digits & hapax" onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <datalist id="group-names">{known.map((name) => <option key={name} value={name} />)}</datalist>
      </form>
      <Choice label="Minus" value={minus.value} options={[["", "nothing"], ...known.map((name) => [name, name] as const)]} onChange={(name) => navigate(() => (minus.value = name))} />
      <Choice label="Curves of" value={by.value} options={[["", "models and datasets"], ["model", "models"], ["dataset", "datasets"]]} onChange={(value) => navigate(() => (by.value = value))} />
      <Choice label="Along" value={along.value} options={[["step", "steps"], ["tokens", "tokens seen"], ["flops", "FLOPs"]]} onChange={(value) => navigate(() => (along.value = value))} />
      <Choice label="Intervals" value={interval.value} options={[["", "of resampled means"], ["studentised", "studentised"], ["none", "none"]]} onChange={(value) => navigate(() => (interval.value = value))} />
      </>
      )}
    </div>
  );
}

function Curves({ frame }: { frame: Frame }) {
  const x = frame.has(COLUMNS[along.value]) ? COLUMNS[along.value] : "step";
  const brushed = brushedTokens.value;
  const { x: at, curves } = useMemo(() => {
    const made = curvesOf(frame, ["group", "model", "dataset"], "mean", ["low", "high"], undefined, x);
    for (const curve of made.curves) if (brushed) curve.label = curve.label.replace(brushed, BRUSHED);
    return made;
  }, [frame, x]);
  const drawn = { label: "Mean loss of groups", x: at, curves, yLabel: minus.value ? "difference (nats)" : "loss (nats)", height: 340 };
  return (
    <>
      {brushed && <p class="note">The brushed tokens: {sizes(frame, brushed)}.</p>}
      {x === "step" ? <StepChart {...drawn} /> : <Chart {...drawn} xLabel={x === "flops" ? "FLOPs" : "tokens seen"} xScale="symlog" />}
    </>
  );
}

/** The number of a group's tokens with a loss, on each dataset. */
function sizes(frame: Frame, group: string): string {
  const [groups, datasets, tokens] = [frame.column<string>("group"), frame.column<string | null>("dataset"), frame.column("tokens")];
  const of = new Map(rowsOf(frame).flatMap((row) => (groups[row]!.startsWith(group) ? [[datasets[row] ?? "all", Number(tokens[row])] as const] : [])));
  return [...of].map(([dataset, size]) => `${whole(size)} in ${dataset}`).join(", ") || "none with a loss here";
}

function Examples() {
  const group = state.group.value || brushedTokens.value || chosenGroups()[0] || EVERY;
  const reply = useFrame("group-examples", { group, datasets: state.datasets.value });
  const known = facts.value?.groups ?? [];
  return (
    <Card title={`Examples of ${called(group)}`} note="Tokens drawn at random, each in its context. Choose one to read the context.">
      <Choice
        label="Group"
        value={group}
        options={[...new Set([group, ...known])].map((name) => [name, called(name)] as const)}
        onChange={(name) => navigate(() => (state.group.value = name))}
      />
      <Loaded reply={reply} empty="No token is in this group here.">
        {(frame) => <FrameTable label="Examples" frame={frame} hidden={["tokens"]} />}
      </Loaded>
      <DataLinks reply={reply} />
    </Card>
  );
}

function Draft() {
  const sql = draft.value;
  const [name, setName] = useState("");
  const [said, setSaid] = useState("");
  const [reply, setReply] = useState<Reply<Frame> | null>(null);
  const attempt = async () => {
    const asked = { path: "group-draft", parameters: {} };
    setReply({ loading: true, value: null, error: null, ...asked });
    try {
      const value = await frameOf(await post("group-draft", { sql }, { datasets: chosenDataset.value ? [chosenDataset.value.name] : [] }));
      setReply({ loading: false, value, error: null, ...asked });
    } catch (error) {
      setReply({ loading: false, value: null, error: error as ApiError, ...asked });
    }
  };
  const save = async () => {
    try {
      await post("group-save", { sql, name });
      setSaid(`Saved ${name}.`);
    } catch (error) {
      setSaid(`${(error as ApiError).message} ${(error as ApiError).hint}`);
    }
  };
  return (
    <Card title="Draft a group" note="A query of dataset, context and position. Trying it changes nothing.">
      <label class="draft">
        <span>SQL</span>
        <textarea class="mono" rows={4} spellcheck={false} value={sql} onInput={(event) => (draft.value = event.currentTarget.value)} />
      </label>
      <div class="controls">
        <button type="button" class="button" onClick={() => void attempt()}>Try it</button>
        {facts.value?.edit ? (
          <>
            <label class="choice"><span>Name</span><input type="text" value={name} onInput={(event) => setName(event.currentTarget.value)} /></label>
            <button type="button" class="button" disabled={!name} onClick={() => void save()}>Save the group</button>
          </>
        ) : (
          <span class="note">To save groups, start the page with <code>trajstore serve --edit</code></span>
        )}
        <span role="status">{said}</span>
      </div>
      {reply?.error ? <Problem message={reply.error.message} hint={reply.error.hint} /> : null}
      {reply && !reply.error && (
        <Loaded reply={reply} empty="No token is in it.">
          {(frame) => <FrameTable label="Tokens of the draft" frame={frame} hidden={["tokens"]} />}
        </Loaded>
      )}
    </Card>
  );
}
