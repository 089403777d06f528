/** The data inside a report: unpacked once, its tables and losses as they are asked for. */
import { tableFromIPC } from "@uwdata/flechette";
import type { StoreFacts } from "../facts";
import { Frame } from "../frame";
import type { Drawing } from "./drawing";

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

interface Header {
  facts: Omit<StoreFacts, "report"> & Omit<ReportFacts, "error">;
  error: number;
  tables: Record<string, { at: Place; notes: string[] }>;
  losses: Record<string, { models: ModelSteps[]; contexts: { context: number; tokens: number; low: number; unit: number; at: Place }[] }>;
}

/** The losses of one context: a row for each model and step, a column for each token but the first. */
export interface ContextLosses {
  rows: { model: string; step: number }[];
  columns: number;
  values: Float32Array;
}

const LENGTH = 8;
const MISSING = 65535;

export class ReportData {
  private constructor(
    private readonly header: Header,
    private readonly bytes: Uint8Array,
  ) {}

  /** The data of this document. */
  static async read(): Promise<ReportData> {
    const text = atob(document.getElementById("data")!.textContent!);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
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

  losses(dataset: string, context: number): ContextLosses | null {
    const block = this.header.losses[dataset]?.contexts.find((of) => of.context === context);
    if (!block) return null;
    const codes = new Uint16Array(this.part(block.at).buffer);
    const values = Float32Array.from(codes, (code) => (code === MISSING ? NaN : block.low + code * block.unit));
    const rows = this.models(dataset).flatMap(({ name, steps }) => steps.map((step) => ({ model: name, step })));
    return { rows, columns: block.tokens, values };
  }

  private part([first, length]: Place): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(first, first + length) as Uint8Array<ArrayBuffer>;
  }
}
