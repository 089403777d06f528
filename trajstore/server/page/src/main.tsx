/** The page: its head with the panes' tabs and the choice of models and dataset, and the pane of the address. */
import { effect } from "@preact/signals";
import { render } from "preact";
import { pending } from "./api";
import { chosenDataset, facts, factsError, followStore } from "./facts";
import { followChanges, lastChange } from "./live";
import { Selected } from "./linked";
import { panes } from "./panes";
import { Footer } from "./offline/parts";
import { reading } from "./offline/slices";
import { Choice, Problem } from "./parts";
import { addressWith, followAddress, navigate, state, type Theme } from "./state";
import { visible } from "./text";
import { dark } from "./theme";
import "uplot/dist/uPlot.min.css";
import "./style.css";

/** Panes that show all datasets until one is chosen; the others show the first. */
const OF_ALL_DATASETS = ["groups", "findings"];
const THEMES = [["auto", "As the system"], ["light", "Light"], ["dark", "Dark"]] as const;

function Tabs() {
  return (
    <nav class="tabs" aria-label="Panes">
      {panes.map(({ name, title }) => (
        <a
          key={name}
          href={addressWith({ pane: name })}
          aria-current={state.pane.value === name ? "page" : undefined}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
            event.preventDefault();
            navigate(() => (state.pane.value = name));
          }}
        >
          {title}
        </a>
      ))}
    </nav>
  );
}

function ModelChoice({ models }: { models: string[] }) {
  const chosen = new Set(state.models.value);
  const toggle = (name: string) => {
    const next = models.filter((model) => (model === name ? !chosen.has(model) : chosen.has(model)));
    navigate(() => (state.models.value = next.length === models.length ? [] : next));
  };
  const on = models.filter((model) => chosen.has(model));
  return (
    <details class="menu">
      <summary>
        <span>Models</span> <b>{on.length === 0 ? `all ${models.length}` : on.length === 1 ? on[0] : `${on.length} of ${models.length}`}</b>
      </summary>
      <fieldset>
        <legend>Models shown; none chosen shows all</legend>
        {models.map((model) => (
          <label key={model}>
            <input type="checkbox" checked={chosen.has(model)} onChange={() => toggle(model)} /> {visible(model)}
          </label>
        ))}
      </fieldset>
    </details>
  );
}

function Chosen() {
  const store = facts.value;
  if (!store) return null;
  const every = OF_ALL_DATASETS.includes(state.pane.value);
  return (
    <div class="chosen" role="group" aria-label="What is shown">
      <ModelChoice models={store.models} />
      {store.datasets.length > 0 && (
        <Choice
          label="Dataset"
          value={state.datasets.value.length === 0 && every ? "" : (chosenDataset.value?.name ?? "")}
          options={[...(every ? [["", `all ${store.datasets.length}`] as const] : []), ...store.datasets.map(({ name }) => [name, visible(name)] as const)]}
          onChange={(name) => navigate(() => {
            state.datasets.value = name ? [name] : [];
            state.context.value = null;
          })}
        />
      )}
      <Selected />
    </div>
  );
}

/* A part of its own, for it changes with every answer, and the panes need not be drawn for that. */
const Working = () => <span class="working" role="status" aria-live="polite">{(SPLIT && reading.value) || (pending.value ? "Loading…" : lastChange.value)}</span>;

function Page() {
  const pane = panes.find(({ name }) => name === state.pane.value) ?? panes[0]!;
  const store = (OFFLINE ? facts.value?.report?.title : facts.value?.name) ?? "";
  return (
    <>
      <a class="skip" href="#pane" onClick={(event) => {
        event.preventDefault();
        document.getElementById("pane")!.focus();
      }}>Skip to the pane</a>
      <header class="head">
        <div class="brand">
          <img src={OFFLINE ? document.querySelector<HTMLLinkElement>("link[rel=icon]")!.href : "static/icon.svg"} alt="" width="24" height="24" />
          <h1>trajstore</h1>
          <span class="store-name" title={visible(store)}>{visible(store)}</span>
        </div>
        <Tabs />
        <div class="settings">
          <Working />
          <Choice label="Theme" value={state.theme.value} options={THEMES} onChange={(theme: Theme) => (state.theme.value = theme)} />
        </div>
      </header>
      <Chosen />
      <main id="pane" tabIndex={-1} data-pane={pane.name}>
        <h2 class="pane-title">{pane.title}</h2>
        {factsError.value ? (
          <Problem message={factsError.value.message} hint={factsError.value.hint} />
        ) : facts.value || pane === panes[0] ? (
          <pane.Component key={pane.name} />
        ) : (
          <p class="loading" aria-busy="true">Loading…</p>
        )}
      </main>
      {OFFLINE && <Footer />}
    </>
  );
}

effect(() => {
  document.documentElement.dataset.theme = dark.value ? "dark" : "light";
});
effect(() => {
  const title = panes.find(({ name }) => name === state.pane.value)?.title ?? "Store";
  document.title = OFFLINE ? document.title : `${title} · ${visible(facts.value?.name ?? "")} · trajstore`;
});
followAddress();
followStore();
if (!OFFLINE) followChanges();
render(<Page />, document.getElementById("page")!);
