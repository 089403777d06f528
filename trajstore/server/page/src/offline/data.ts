/** The data inside a report, or beside its page: unpacked once, its tables and losses as they are asked for. */
import { tableFromIPC } from "@uwdata/flechette";
import type { StoreFacts } from "../facts";
import { Frame } from "../frame";
import { ApiError } from "../frame";
import type { Drawing } from "./drawing";
import { rowsOfSlices } from "./slices";
import { stepsOf } from "./steps";

export type Cell = string | number | boolean | null;

/** One kept finding: what came of it in words, charts and tables. */
export interface Analysis {
  kind: string;
  name: string;
  title: string;
  text: string;
  charts: Drawing[];
  tables: { title: string; columns: string[]; rows: Cell[][]; more: number }[];
}

export interface ReportFacts {
  title: string;
  lead: string;
  sentences: string[];
  version: string;
  marks: { step: number; label: string }[];
  /** Sentences on each group. */
  groupTexts: Record<string, string[]>;
  analyses: Analysis[];
  /** Model, step, dataset, and by how much a loss may differ when it is scored again. */
  noise: [string, number, string, number][];
  /** Least loss by which a relative difference is divided. */
  least: number;
  /** Largest distance of a loss here from the store's, in nats. */
  error: number;
}

export interface ModelSteps {
  name: string;
  steps: number[];
  /** Steps that the model has in the store. */
  of: number;
}

type Place = [first: number, length: number];

/** One context of a dataset. */
interface Block {
  context: number;
  /** Tokens with a loss. */
  tokens: number;
  /** The row of its first loss in a slice. */
  first: number;
}

/** Its losses, 16 bits each, in a report of one file: quantised_losses.py says how. */
interface QuantisedLosses {
  low: number;
  unit: number;
  at: Place;
}

interface Header {
  facts: Omit<StoreFacts, "report"> & Omit<ReportFacts, "error">;
  error: number;
  tables: Record<string, { at: Place; notes: string[] }>;
  losses: Record<string, { models: ModelSteps[]; contexts: (Block & Partial<QuantisedLosses>)[] }>;
}

/** The losses of one context: a row for each model and step, a column for each token but the first. */
export interface ContextLosses {
  rows: { model: string; step: number }[];
  columns: number;
  values: Float32Array;
}

const LENGTH = 8;
const MISSING = 65535;

function insidePage(): Uint8Array<ArrayBuffer> {
  const text = atob(document.getElementById("data")!.textContent!);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  return packed;
}

async function besidePage(): Promise<ArrayBuffer> {
  const response = await fetch("data.bin", { cache: "no-cache" }).catch(() => null);
  if (response?.ok) return response.arrayBuffer();
  throw new ApiError("The data beside this page cannot be read.", "Put the whole folder on a static host, or serve it: python -m http.server");
}

export class ReportData {
  private constructor(
    private readonly header: Header,
    private readonly bytes: Uint8Array,
  ) {}

  /** The data of this page. */
  static async read(): Promise<ReportData> {
    const packed = SPLIT ? await besidePage() : insidePage();
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const end = LENGTH + new DataView(bytes.buffer).getUint32(0, true);
    return new ReportData(JSON.parse(new TextDecoder().decode(bytes.subarray(LENGTH, end))) as Header, bytes.subarray(end));
  }

  get facts(): StoreFacts {
    const { facts, error } = this.header;
    const datasets = facts.datasets.map((of) => ({ ...of, kept: this.contexts(of.name), held: this.models(of.name) }));
    return { ...facts, datasets, report: { ...facts, error } };
  }

  table(name: string): Frame | null {
    const found = this.header.tables[name];
    return found ? new Frame(tableFromIPC(this.part(found.at)), found.notes) : null;
  }

  /** The contexts of a dataset whose losses are here. */
  contexts(dataset: string): number[] {
    return this.header.losses[dataset]?.contexts.map(({ context }) => context) ?? [];
  }

  models(dataset: string): ModelSteps[] {
    return this.header.losses[dataset]?.models ?? [];
  }

  /** The losses of a context in these models at some steps, a SPEC, all by default; null where the report has none of it. */
  async losses(dataset: string, context: number, models: readonly string[], spec?: string | null): Promise<ContextLosses | null> {
    const block = this.header.losses[dataset]?.contexts.find((of) => of.context === context);
    if (!block) return null;
    const columns = block.tokens;
    const every = this.models(dataset).flatMap(({ name, steps }) => steps.map((step) => ({ model: name, step })));
    const ofModels = every.filter(({ model }) => models.includes(model));
    const known = [...new Set(ofModels.map(({ step }) => step))].sort((a, b) => a - b);
    const steps = spec ? stepsOf(spec, known) : new Set(known);
    const rows = ofModels.filter(({ step }) => steps.has(step));
    if (SPLIT) return { rows, columns, values: await rowsOfSlices(dataset, rows, block.first, columns) };
    const { low, unit, at } = block as Block & QuantisedLosses;
    const codes = new Uint16Array(this.part(at).buffer);
    const values = new Float32Array(rows.length * columns);
    let place = 0;
    every.forEach(({ model, step }, row) => {
      if (!models.includes(model) || !steps.has(step)) return;
      for (let i = row * columns; i < (row + 1) * columns; i++) values[place++] = codes[i] === MISSING ? NaN : low + codes[i]! * unit;
    });
    return { rows, columns, values };
  }

  private part([first, length]: Place): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(first, first + length) as Uint8Array<ArrayBuffer>;
  }
}
