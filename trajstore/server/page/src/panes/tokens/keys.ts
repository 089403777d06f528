/** What the tokens pane keeps in the address. */
import { computed } from "@preact/signals";
import { chosenModels } from "../../facts";
import { numberField, state, textField } from "../../state";

export type View = "raw" | "steps" | "models";

export const keys = {
  view: textField<View>("tokens.view", "raw"),
  scale: textField<"absolute" | "relative">("tokens.scale", "absolute"),
  threshold: numberField<number>("tokens.threshold", 0),
  model: textField("tokens.model", ""),
  /** The other model: subtracted, or beside. */
  other: textField("tokens.other", ""),
  beside: textField<"" | "model" | "step">("tokens.beside", ""),
  otherStep: numberField<number | null>("tokens.otherStep", null),
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

export const context = computed(() => state.context.value ?? 0);
