/** What the store holds: names of models, datasets, groups and findings, loaded once and after each change. */
import { computed, effect, signal } from "@preact/signals";
import { ApiError, fetchValue, revision } from "./api";
import type { ModelSteps, ReportFacts } from "./offline/data";
import { state } from "./state";

export interface DatasetFacts {
  name: string;
  contexts: number;
  tokens: number;
  losses: number;
  tokenizer: string;
  /** Of a report: the contexts whose tokens it holds. */
  kept?: number[];
  /** Of a report: the steps at which it holds them. */
  held?: ModelSteps[];
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
  /** What a report has beside. */
  report?: ReportFacts;
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
