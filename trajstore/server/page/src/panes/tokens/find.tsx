/** Finding a context: by its number, by text in it, or by how much a group changed in it. */
import { useState } from "preact/hooks";
import { useFrame } from "../../api";
import { chosenDataset, facts } from "../../facts";
import { ContextChoice } from "../../offline/parts";
import { Choice, DataLinks, Loaded } from "../../parts";
import { navigate, state } from "../../state";
import { Table } from "../../table";
import { nats, visible, whole } from "../../text";
import { context, keys, model } from "./keys";

const show = (number: number) =>
  navigate(() => {
    state.context.value = number;
    keys.position.value = null;
  });

export function Find() {
  const dataset = chosenDataset.value!;
  const [draft, setDraft] = useState(keys.text.value);
  const last = dataset.contexts - 1;
  const by = keys.find.value;
  const group = state.group.value;
  const parameters =
    by === "text" && keys.text.value
      ? { dataset: dataset.name, text: keys.text.value }
      : by === "group" && group
        ? { dataset: dataset.name, models: [model.value], group }
        : null;
  const found = useFrame("find", parameters);
  return (
    <div class="find">
      <div class="controls">
        {OFFLINE ? <ContextChoice dataset={dataset.name} kept={dataset.kept!} context={context.value} onChange={show} /> : (
        <>
        <label class="choice">
          <span>Context</span>
          <input
            type="number"
            min={0}
            max={last}
            value={context.value}
            onChange={(event) => show(Math.max(0, Math.min(last, Math.floor(event.currentTarget.valueAsNumber || 0))))}
          />
          <span>of {whole(dataset.contexts)}</span>
        </label>
        <span class="segments" role="group" aria-label="Next context">
          <button type="button" disabled={context.value <= 0} aria-label="Context before" onClick={() => show(context.value - 1)}>←</button>
          <button type="button" disabled={context.value >= last} aria-label="Context after" onClick={() => show(context.value + 1)}>→</button>
        </span>
        </>
        )}
        <form
          class="choice"
          role="search"
          onSubmit={(event) => {
            event.preventDefault();
            navigate(() => {
              keys.text.value = draft;
              keys.find.value = draft ? "text" : "";
            });
          }}
        >
          <input type="search" aria-label="Text in a context" placeholder="Find text…" value={draft} onInput={(event) => setDraft(event.currentTarget.value)} />
          <button type="submit" class="button">Find</button>
        </form>
        <Choice
          label="Where a group changed most"
          value={by === "group" ? group : ""}
          options={[["", "–"], ...(facts.value?.groups ?? []).map((name) => [name, name] as const)]}
          onChange={(name) => navigate(() => {
            state.group.value = name;
            keys.find.value = name ? "group" : "";
          })}
        />
      </div>
      {parameters && (
        <>
          <Loaded reply={found} empty={by === "text" ? `No context of ${visible(dataset.name)} has “${visible(keys.text.value)}” in it.` : "This group has no token here."}>
            {(frame) => {
              const [contexts, scores, snippets] = [frame.column("context"), frame.column<number | null>("score"), frame.column<string>("snippet")];
              return (
                <Table
                  label="Contexts"
                  rows={frame.rows}
                  height={220}
                  picked={Array.from(contexts, Number).indexOf(context.value)}
                  onPick={(row) => show(Number(contexts[row]))}
                  columns={[
                    { name: "context", number: true, cell: (row) => whole(Number(contexts[row])) },
                    ...(by === "group" ? [{ name: "score", title: "change (nats)", number: true, cell: (row: number) => nats(scores[row], true) }] : []),
                    { name: "snippet", title: "text", cell: (row) => <span class="mono">{visible(snippets[row]!)}</span> },
                  ]}
                />
              );
            }}
          </Loaded>
          <DataLinks reply={found} />
        </>
      )}
    </div>
  );
}
