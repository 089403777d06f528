/** What the tokens pane keeps in the address. */
import { computed } from "@preact/signals";
import { chosenDataset, chosenModels, facts } from "../../facts";
import { brushedSteps } from "../../linked";
import { numberField, state, textField } from "../../state";

export type View = "raw" | "steps" | "models" | "prompts";

export const keys = {
  view: textField<View>("tokens.view", "raw"),
  scale: textField<"absolute" | "relative">("tokens.scale", "absolute"),
  threshold: numberField<number>("tokens.threshold", 0),
  model: textField("tokens.model", ""),
  /** The other model: subtracted, or beside. */
  other: textField("tokens.other", ""),
  beside: textField<"" | "model" | "step">("tokens.beside", ""),
  otherStep: numberField<number | null>("tokens.otherStep", null),
  /** The dataset whose items are subtracted. */
  prompt: textField("tokens.prompt", ""),
  /** A SPEC; the brushed steps where it is empty. */
  steps: textField("tokens.steps", ""),
  position: numberField<number | null>("tokens.position", null),
  text: textField("tokens.text", ""),
  find: textField<"" | "text" | "group">("tokens.find", ""),
};

/** The model whose tokens are shown. */
export const model = computed(() => {
  const all = chosenModels.value;
  return all.includes(keys.model.value) ? keys.model.value : (all[0] ?? "");
});

/** The model that it is compared with: another one where there is one. */
export const other = computed(() => {
  const all = chosenModels.value.filter((name) => name !== model.value);
  return all.includes(keys.other.value) ? keys.other.value : (all[0] ?? model.value);
});

/** The other datasets, and the one of them whose items are subtracted; a report has no items. */
export const prompts = computed(() => (OFFLINE ? [] : (facts.value?.datasets ?? []).map(({ name }) => name).filter((name) => name !== chosenDataset.value?.name)));
export const prompt = computed(() => (prompts.value.includes(keys.prompt.value) ? keys.prompt.value : (prompts.value[0] ?? "")));

export const context = computed(() => state.context.value ?? (OFFLINE ? (chosenDataset.value?.kept?.[0] ?? 0) : 0));

/** Steps that are shown first: each is a file of its own in a report of several. */
export const FIRST = SPLIT ? "log" : null;

/** The steps that are shown, a SPEC; null for all. */
export const shownSteps = (): string | null => keys.steps.value || brushedSteps.value || FIRST;
