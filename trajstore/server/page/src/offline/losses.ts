/** What the server computes of many losses at once, computed here from those of the contexts that a report holds. */
import { ApiError, type Frame, type Parameters } from "../frame";
import { whole } from "../text";
import type { ContextLosses, ReportData } from "./data";
import { columnOf, frameOf, isIn, sitesOf } from "./tokens";

/** Cells of a density along either axis. */
const CELLS = 90;
/** Tokens of a part that are listed, and those beside each that are shown with it. */
const LISTED = 200;
const WIDTH = 10;
const BINS = 320;
/** Edges of the bins of a cube (nats): narrow for low losses. */
const EDGES = [...Array.from({ length: BINS }, (_, i) => (i / 64) ** 2), Infinity];
/** Slices that a report in a folder reads for one chart. */
const MOST_SLICES = 120;
const EVERY = "every_token";

/** What an answer is of. */
const noteOf = (data: ReportData, dataset: string, steps: string): string[] => [`Of the ${whole(data.contexts(dataset).length)} contexts in this report${steps}.`];
const STEPS = SPLIT ? ", at steps about a factor of 2 apart" : " at the steps that it holds";

const datasetOf = ({ dataset, datasets }: Parameters): string => String(dataset ?? (typeof datasets === "object" ? datasets![0] : datasets));

/** The losses of all contexts here in these models; an error where there are none, or where they would be too many files. */
async function lossesOf(data: ReportData, dataset: string, models: readonly string[], spec: string | null): Promise<ContextLosses> {
  const steps = data.models(dataset).filter(({ name }) => models.includes(name)).reduce((sum, model) => sum + Math.min(model.steps.length, 3 + Math.log2(model.steps.at(-1)! + 1)), 0);
  if (SPLIT && steps > MOST_SLICES) throw new ApiError(`This would read ${Math.round(steps)} slices.`, "Choose fewer models.");
  const losses = await data.losses(dataset, data.contexts(dataset), models, spec);
  if (!losses?.rows.length) throw new ApiError(`The report has no losses of tokens of ${dataset}.`, "trajstore serve shows all of a store.");
  return losses;
}

/** The columns of the losses that a group stands for, all without one; an error where there are none. */
function columnsOf(data: ReportData, dataset: string, group: string): number[] {
  const columns = membersOf(data, dataset, group);
  if (columns.length) return columns;
  throw new ApiError(`No token of ${group} has a loss in the ${whole(data.contexts(dataset).length)} contexts in this report.`, "Choose another group or dataset.");
}

const members = new Map<string, number[]>();

function membersOf(data: ReportData, dataset: string, group: string): number[] {
  const key = `${dataset} ${group}`;
  const known = members.get(key);
  if (known) return known;
  const sites = sitesOf(data, dataset);
  const groups = columnOf<string>(data, dataset, "groups");
  const back = data.facts.report!.align === "after" ? 1 : 0;
  const every = !group || group === EVERY;
  const found = [...sites.keys()].filter((column) => every || isIn(groups.get(sites[column]!.context)![sites[column]!.position - back]!, group));
  members.set(key, found);
  return found;
}

/** The tokens that have a loss at both of two checkpoints, with these. */
interface Pair {
  dataset: string;
  /** Of the losses of all contexts. */
  columns: number[];
  x: number[];
  y: number[];
}

async function pairOf(data: ReportData, parameters: Parameters): Promise<Pair> {
  const dataset = datasetOf(parameters);
  const [x, y] = await Promise.all(["one", "other"].map(async (name) => {
    const text = String(parameters[name]);
    const at = text.lastIndexOf("@");
    return (await lossesOf(data, dataset, [text.slice(0, at)], text.slice(at + 1))).values;
  }));
  const columns = columnsOf(data, dataset, String(parameters["group"] ?? "")).filter((column) => !Number.isNaN(x![column]! - y![column]!));
  const of = (values: Float32Array) => columns.map((column) => values[column]!);
  return { dataset, columns, x: of(x!), y: of(y!) };
}

const least = (values: readonly number[], start: number): number => values.reduce((a, b) => Math.min(a, b), start);
const most = (values: readonly number[], start: number): number => values.reduce((a, b) => Math.max(a, b), start);

/** The number of tokens in each cell of the plane of two checkpoints' losses that has any. */
export async function density(data: ReportData, parameters: Parameters): Promise<Frame> {
  const { dataset, x, y } = await pairOf(data, parameters);
  const [low, high] = [least(x, least(y, 0)), most(x, most(y, 1e-3))];
  const size = (high - low) / CELLS;
  const counts = new Uint32Array(CELLS * CELLS);
  const cell = (loss: number) => Math.min(CELLS - 1, Math.floor((loss - low) / size));
  x.forEach((loss, i) => counts[cell(y[i]!) * CELLS + cell(loss)]!++);
  const cells = [...counts.keys()].filter((number) => counts[number]);
  const edge = (number: number) => low + number * size;
  const [row, column] = [(number: number) => Math.floor(number / CELLS), (number: number) => number % CELLS];
  return frameOf({
    x_low: cells.map((number) => edge(column(number))),
    x_high: cells.map((number) => edge(column(number) + 1)),
    y_low: cells.map((number) => edge(row(number))),
    y_high: cells.map((number) => edge(row(number) + 1)),
    tokens: cells.map((number) => counts[number]!),
  }, noteOf(data, dataset, ""));
}

/** Numbers of the tokens of a pair in the part of the plane that the parameters give. */
function insideOf({ x, y }: Pair, parameters: Parameters): number[] {
  const end = (name: string, otherwise: number) => (parameters[name] === undefined || parameters[name] === null ? otherwise : Number(parameters[name]));
  const [low, high] = [end("low", -Infinity), end("high", Infinity)];
  const [otherLow, otherHigh] = [end("other_low", -Infinity), end("other_high", Infinity)];
  return [...x.keys()].filter((i) => x[i]! >= low && x[i]! <= high && y[i]! >= otherLow && y[i]! <= otherHigh);
}

/** The tokens of a part on which the two differ most, in their contexts; `in_box` is how many it holds. */
export async function tokensInBox(data: ReportData, parameters: Parameters): Promise<Frame> {
  const pair = await pairOf(data, parameters);
  const inside = insideOf(pair, parameters);
  const apart = (i: number) => pair.x[i]! - pair.y[i]!;
  const listed = [...inside].sort((a, b) => Math.abs(apart(b)) - Math.abs(apart(a))).slice(0, LISTED);
  const [texts, pieces] = ["token", "shown"].map((name) => columnOf<string>(data, pair.dataset, name)) as [Map<number, string[]>, Map<number, string[]>];
  const every = sitesOf(data, pair.dataset);
  const sites = listed.map((i) => every[pair.columns[i]!]!);
  const around = (from: number, to: number) =>
    sites.map(({ context, position }) => pieces.get(context)!.slice(Math.max(0, position + from), position + to).join(""));
  return frameOf({
    dataset: listed.map(() => pair.dataset),
    context: sites.map(({ context }) => context),
    position: sites.map(({ position }) => position),
    loss: listed.map((i) => pair.x[i]!),
    other_loss: listed.map((i) => pair.y[i]!),
    difference: listed.map(apart),
    in_box: listed.map(() => inside.length),
    text: sites.map(({ context, position }) => texts.get(context)![position]!),
    before: around(-WIDTH, 0),
    marked: around(0, 1).map((piece) => piece || "·"),
    after: around(1, 1 + WIDTH),
  });
}

/** How much more often tokens of each group are in a part than other tokens, the most often first. */
export async function groupsInBox(data: ReportData, parameters: Parameters): Promise<Frame> {
  const pair = await pairOf(data, parameters);
  const marked = insideOf(pair, parameters);
  if (!marked.length) throw new ApiError("No token has losses in this part of the plane.", "Choose a larger one.");
  /** Of each column 0 where the pair lacks it, 2 where it is in the part, else 1. */
  const place = new Uint8Array(sitesOf(data, pair.dataset).length);
  pair.columns.forEach((column) => (place[column] = 1));
  marked.forEach((i) => (place[pair.columns[i]!] = 2));
  const rows = data.facts.groups.flatMap((group) => {
    const counts = [0, 0, 0];
    membersOf(data, pair.dataset, group).forEach((column) => counts[place[column]!]!++);
    const [, outside, inside] = counts as [number, number, number];
    const [tokens, others] = [outside + inside, pair.columns.length - outside - inside];
    if (!tokens || !others) return [];
    const [share, rest] = [inside / tokens, (marked.length - inside) / others];
    return [{ group, tokens, marked: inside, share, rest, ratio: rest ? share / rest : null }];
  });
  rows.sort((a, b) => (b.ratio ?? Infinity) - (a.ratio ?? Infinity) || b.marked - a.marked);
  const column = <K extends keyof (typeof rows)[number]>(name: K) => rows.map((row) => row[name]);
  return frameOf({ group: column("group"), tokens: column("tokens"), marked: column("marked"), share: column("share"), rest: column("rest"), ratio: column("ratio") });
}

/** Correlation, that beyond the frequency of tokens (by its log), distance and difference of two models' losses. */
function alike(x: readonly number[], y: readonly number[], z: readonly number[]): Record<string, number | null> {
  const n = x.length;
  const mean = (of: (i: number) => number) => x.reduce((sum, _, i) => sum + of(i), 0) / n;
  const centred = [x, y, z].map((values) => {
    const middle = mean((i) => values[i]!);
    return values.map((value) => value - middle);
  });
  const product = (a: number, b: number) => mean((i) => centred[a]![i]! * centred[b]![i]!);
  // What is left of a variance by rounding alone is none.
  const variances = [0, 1, 2].map((a) => (product(a, a) > 1e-12 ? product(a, a) : NaN));
  const correlation = (a: number, b: number) => product(a, b) / Math.sqrt(variances[a]! * variances[b]!);
  const [xy, xz, yz] = [correlation(0, 1), correlation(0, 2), correlation(1, 2)];
  const rest = (r: number) => (1 - r ** 2 > 1e-12 ? 1 - r ** 2 : NaN);
  const known = (value: number) => (Number.isNaN(value) ? null : value);
  const within = (value: number) => known(Math.max(-1, Math.min(1, value)));
  return {
    pearson: within(xy),
    partial: within((xy - xz * yz) / Math.sqrt(rest(xz) * rest(yz))),
    rms: known(Math.sqrt(mean((i) => (x[i]! - y[i]!) ** 2))),
    difference: known(mean((i) => x[i]! - y[i]!)),
  };
}

/** How alike each two models' losses are at the steps that all have; without intervals. */
export async function convergence(data: ReportData, parameters: Parameters): Promise<Frame> {
  const dataset = datasetOf(parameters);
  const models = (parameters["models"] as string[]).filter((name) => data.models(dataset).some((of) => of.name === name));
  const { rows, columns, values } = await lossesOf(data, dataset, models, SPLIT ? "log" : null);
  const sites = sitesOf(data, dataset);
  const occurrences = columnOf<number>(data, dataset, "occurrences");
  const inside = columnsOf(data, dataset, String(parameters["group"] ?? ""));
  const steps = [...new Set(rows.map(({ step }) => step))].filter((step) => models.every((name) => rows.some((row) => row.model === name && row.step === step)));
  const found = steps.sort((a, b) => a - b).flatMap((step) => models.flatMap((model, i) => models.slice(i + 1).map((other) => {
    const [first, second] = [model, other].map((name) => rows.findIndex((row) => row.model === name && row.step === step) * columns) as [number, number];
    const both = inside.filter((column) => !Number.isNaN(values[first + column]! - values[second + column]!));
    const z = both.map((column) => Math.log(Number(occurrences.get(sites[column]!.context)![sites[column]!.position])));
    return { model, other, step, ...alike(both.map((column) => values[first + column]!), both.map((column) => values[second + column]!), z) };
  })));
  const column = (name: string) => found.map((row) => (row as Record<string, unknown>)[name]);
  const none = found.map(() => null);
  const statistics = ["pearson", "partial", "rms", "difference"].flatMap((name) => [[name, column(name)], [`${name}_low`, none], [`${name}_high`, none]] as const);
  return frameOf({ model: column("model"), other: column("other"), step: column("step"), other_step: column("step"), ...Object.fromEntries(statistics) }, noteOf(data, dataset, STEPS));
}

/** Losses counted and summed by checkpoint and bin. */
interface Cube {
  dataset: string;
  group: string;
  rows: ContextLosses["rows"];
  counts: Float64Array;
  sums: Float64Array;
}

let made: { key: string; cube: Promise<Cube> } | null = null;

/** The cube of some models and a group; the last one is kept, so that a brush is answered from it. */
function cubeOf(data: ReportData, parameters: Parameters): Promise<Cube> {
  const dataset = datasetOf(parameters);
  const chosen = parameters["models"] as string[];
  const group = String(parameters["groups"] ?? "") || EVERY;
  const key = JSON.stringify([dataset, chosen, group]);
  if (made?.key !== key) {
    made = { key, cube: counted(data, dataset, chosen, group) };
    made.cube.catch(() => (made = null));
  }
  return made.cube;
}

async function counted(data: ReportData, dataset: string, chosen: readonly string[], group: string): Promise<Cube> {
  const models = data.models(dataset).map(({ name }) => name).filter((name) => !chosen.length || chosen.includes(name));
  const { rows, columns, values } = await lossesOf(data, dataset, models, SPLIT ? "log" : null);
  const inside = columnsOf(data, dataset, group);
  const [counts, sums] = [new Float64Array(rows.length * BINS), new Float64Array(rows.length * BINS)];
  for (let row = 0; row < rows.length; row++) {
    for (const column of inside) {
      const loss = values[row * columns + column]!;
      if (Number.isNaN(loss)) continue;
      const cell = row * BINS + Math.min(BINS - 1, Math.floor(64 * Math.sqrt(Math.max(0, loss))));
      counts[cell]! += 1;
      sums[cell]! += loss;
    }
  }
  return { dataset, group, rows, counts, sums };
}

/** The middle of the bins that hold the middle losses, and half their width; null where they are open. */
function median(counts: Float64Array, edges: readonly number[]): [number | null, number | null] {
  const n = counts.reduce((sum, count) => sum + count, 0);
  const binOf = (place: number) => {
    let below = 0;
    return counts.findIndex((count) => (below += count) >= place);
  };
  const [low, high] = [edges[binOf(Math.floor((n + 1) / 2))]!, edges[binOf(Math.floor(n / 2) + 1) + 1]!];
  return high === Infinity ? [null, null] : [(low + high) / 2, (high - low) / 2];
}

/** Mean and median by step of the losses in the bins from `low` to `high` nats. */
export async function cubeCurves(data: ReportData, parameters: Parameters): Promise<Frame> {
  const { dataset, group, rows, counts, sums } = await cubeOf(data, parameters);
  const [low, high] = [Number(parameters["low"] ?? 0), Number(parameters["high"] ?? Infinity)];
  const first = Math.max(0, Math.min(BINS - 1, EDGES.findIndex((edge) => edge > low) - 1));
  const end = Math.max(first + 1, Math.min(BINS, EDGES.findIndex((edge) => edge >= high)));
  const lines = rows.flatMap(({ model, step }, row) => {
    const part = (of: Float64Array) => of.subarray(row * BINS + first, row * BINS + end);
    const [n, sum] = [part(counts), part(sums)].map((of) => of.reduce((a, b) => a + b, 0)) as [number, number];
    const [middle, error] = median(part(counts), EDGES.slice(first, end + 1));
    return n ? [{ model, step, n, mean: sum / n, middle, error }] : [];
  });
  return frameOf({
    group: lines.map(() => group),
    dataset: lines.map(() => dataset),
    model: lines.map((line) => line.model),
    step: lines.map((line) => line.step),
    n: lines.map((line) => line.n),
    mean: lines.map((line) => line.mean),
    median: lines.map((line) => line.middle),
    median_error: lines.map((line) => line.error),
  }, noteOf(data, dataset, STEPS));
}

/** Losses by bin of the steps from `first` to `last`: how many, and which share of the model's they are. */
export async function cubeDensity(data: ReportData, parameters: Parameters): Promise<Frame> {
  const { dataset, group, rows, counts } = await cubeOf(data, parameters);
  const [first, last] = [Number(parameters["first"] ?? 0), Number(parameters["last"] ?? Infinity)];
  const models = new Map<string, Float64Array>();
  rows.forEach(({ model, step }, row) => {
    if (step < first || step > last) return;
    const sum = models.get(model) ?? new Float64Array(BINS);
    models.set(model, sum.map((count, bin) => count + counts[row * BINS + bin]!));
  });
  if (!models.size) throw new ApiError("No checkpoint lies within these steps.", "The overview shows which there are.");
  const bins = [...models].flatMap(([model, sum]) => {
    const n = sum.reduce((a, b) => a + b, 0);
    return [...sum.keys()].filter((bin) => sum[bin]).map((bin) => ({ model, bin, n: sum[bin]!, share: sum[bin]! / n }));
  });
  return frameOf({
    group: bins.map(() => group),
    dataset: bins.map(() => dataset),
    model: bins.map(({ model }) => model),
    low: bins.map(({ bin }) => EDGES[bin]!),
    high: bins.map(({ bin }) => (bin === BINS - 1 ? null : EDGES[bin + 1]!)),
    n: bins.map(({ n }) => n),
    share: bins.map(({ share }) => share),
  });
}
