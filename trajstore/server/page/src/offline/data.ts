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
  /** Which losses a group stands for: predict for those of its tokens, after for those of the tokens that follow. */
  align: "predict" | "after";
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
export interface Block {
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

/** The losses of contexts: a row for each model and step, a column for each token but each context's first. */
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

  /** The contexts of a dataset whose losses are here, each with its number of tokens that have one. */
  blocks(dataset: string): readonly Block[] {
    return this.header.losses[dataset]?.contexts ?? [];
  }

  /** Their numbers. */
  contexts(dataset: string): number[] {
    return this.blocks(dataset).map(({ context }) => context);
  }

  models(dataset: string): ModelSteps[] {
    return this.header.losses[dataset]?.models ?? [];
  }

  /** The losses of contexts, one behind the other, in these models at some steps, a SPEC, all by default; null where the report has none of them. */
  async losses(dataset: string, contexts: readonly number[], models: readonly string[], spec?: string | null): Promise<ContextLosses | null> {
    const every = new Map(this.blocks(dataset).map((block) => [block.context, block]));
    const blocks = contexts.flatMap((context) => every.get(context) ?? []);
    if (!blocks.length) return null;
    const columns = blocks.reduce((sum, { tokens }) => sum + tokens, 0);
    const held = this.models(dataset).flatMap(({ name, steps }) => steps.map((step) => ({ model: name, step })));
    const known = new Set(held.filter(({ model }) => models.includes(model)).map(({ step }) => step));
    const steps = spec ? stepsOf(spec, [...known].sort((a, b) => a - b)) : known;
    const kept = [...held.keys()].filter((row) => models.includes(held[row]!.model) && steps.has(held[row]!.step));
    const rows = kept.map((row) => held[row]!);
    if (SPLIT) return { rows, columns, values: await rowsOfSlices(dataset, rows, blocks) };
    const values = new Float32Array(rows.length * columns);
    let before = 0;
    for (const { tokens, low, unit, at } of blocks as (Block & QuantisedLosses)[]) {
      const codes = new Uint16Array(this.part(at).buffer);
      kept.forEach((row, i) => {
        for (let j = 0; j < tokens; j++) {
          const code = codes[row * tokens + j]!;
          values[i * columns + before + j] = code === MISSING ? NaN : low + code * unit;
        }
      });
      before += tokens;
    }
    return { rows, columns, values };
  }

  private part([first, length]: Place): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(first, first + length) as Uint8Array<ArrayBuffer>;
  }
}
