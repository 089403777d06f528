/** What the store holds: names of models, datasets, groups and findings, loaded once and after each change. */
import { computed, effect, signal } from "@preact/signals";
import { ApiError, fetchValue, revision } from "./api";
import { state } from "./state";

export interface DatasetFacts {
  name: string;
  contexts: number;
  tokens: number;
  losses: number;
  tokenizer: string;
}

export interface StoreFacts {
  name: string;
  /** Groups can be kept from the page. */
  edit: boolean;
  models: string[];
  datasets: DatasetFacts[];
  /** Steps by model and dataset. */
  steps: Record<string, Record<string, number[]>>;
  groups: string[];
  findings: { kind: string; name: string }[];
}

export const facts = signal<StoreFacts | null>(null);
export const factsError = signal<ApiError | null>(null);

/** Models chosen, all of the store where there are none. */
export const chosenModels = computed(() => {
  const all = facts.value?.models ?? [];
  const chosen = all.filter((name) => state.models.value.includes(name));
  return chosen.length ? chosen : all;
});

/** The dataset that a pane of one dataset shows: the first chosen one, else the store's first. */
export const chosenDataset = computed(() => {
  const all = facts.value?.datasets ?? [];
  return all.find((dataset) => state.datasets.value.includes(dataset.name)) ?? all[0] ?? null;
});

export function followStore(): void {
  effect(() => {
    void revision.value;
    fetchValue<StoreFacts>("store")
      .then((value) => {
        facts.value = value;
        factsError.value = null;
      })
      .catch((error: unknown) => {
        factsError.value = error instanceof ApiError ? error : new ApiError(String(error), "Reload the page.");
      });
  });
}
