/** What the server computes of tokens, computed here from the losses that a report holds. */
import { ApiError, Frame, type Parameters } from "../frame";
import type { ContextLosses, ReportData } from "./data";

const NEIGHBOURS = 20;
const AROUND = 48;
const STARTS = 24;
const MOST = 50;

type Columns = Record<string, ArrayLike<unknown>>;

export const frameOf = (columns: Columns, notes?: readonly string[]): Frame => {
  const names = Object.keys(columns);
  return new Frame({ numRows: columns[names[0]!]!.length, names, getChild: (name) => (columns[name] ? { toArray: () => columns[name] } : null) }, notes);
};

interface Site {
  dataset: string;
  context: number;
  losses: ContextLosses;
}

/** A dataset and a context; an error where the report has none of it. */
export function siteOf(data: ReportData, { dataset: one, datasets, context: number }: Parameters): { dataset: string; context: number } {
  const [dataset, context] = [String(one ?? (datasets as string[])[0]), Number(number)];
  const kept = data.contexts(dataset);
  if (kept.includes(context)) return { dataset, context };
  throw new ApiError(
    `Context ${context} of ${dataset} is not in the report.`,
    `It holds ${kept.length}; trajstore report takes others with --contexts and --worst, and trajstore serve shows all.`,
  );
}

/** A context with its losses in these models at some steps, a SPEC. */
async function lossesOf(data: ReportData, parameters: Parameters, models: string[], spec?: Parameters[string]): Promise<Site> {
  const site = siteOf(data, parameters);
  return { ...site, losses: (await data.losses(site.dataset, [site.context], models, spec?.toString()))! };
}

/** Numbers of the rows of these models, in the order in which the models are named. */
const rowsOf = ({ rows }: ContextLosses, models: readonly string[]): number[] =>
  models.flatMap((model) => rows.flatMap((row, number) => (row.model === model ? [number] : [])));

/** Columns of some rows of losses with all tokens each. */
function long({ rows, columns, values }: ContextLosses, numbers: readonly number[]): Columns & { loss: Float32Array } {
  const repeat = <T,>(of: (number: number) => T): T[] => numbers.flatMap((number) => new Array<T>(columns).fill(of(number)));
  const loss = new Float32Array(numbers.length * columns);
  numbers.forEach((number, i) => loss.set(values.subarray(number * columns, (number + 1) * columns), i * columns));
  const position = Int32Array.from(loss, (_, i) => 1 + (i % columns));
  return { model: repeat((number) => rows[number]!.model), step: Float64Array.from(repeat((number) => rows[number]!.step)), position, loss };
}

export async function tokens(data: ReportData, parameters: Parameters): Promise<Frame> {
  const models = parameters["models"] as string[];
  const { losses } = await lossesOf(data, parameters, models, parameters["steps"]);
  return frameOf(long(losses, rowsOf(losses, models)));
}

/** Pairs of rows: each step of a model and the one before it, or the second model and the first at the same step. */
function pairsOf(losses: ContextLosses, { of, models }: Parameters): [later: number, before: number][] {
  const [first, second] = (models as string[]).map((model) => rowsOf(losses, [model]));
  if (of === "steps") return first!.slice(1).map((row, i): [number, number] => [row, first![i]!]);
  const stepOf = (row: number) => losses.rows[row]!.step;
  return (second ?? []).flatMap((row) => first!.filter((other) => stepOf(other) === stepOf(row)).map((other): [number, number] => [row, other]));
}

export async function differences(data: ReportData, parameters: Parameters): Promise<Frame> {
  const { dataset, losses } = await lossesOf(data, parameters, parameters["models"] as string[], parameters["steps"]);
  const pairs = pairsOf(losses, parameters);
  if (!pairs.length) throw new ApiError("There are no two checkpoints to compare here.", "Choose other models.");
  const { noise, least } = data.facts.report!;
  const floorOf = new Map(noise.map(([model, step, on, value]) => [`${model} ${step} ${on}`, value]));
  const floors = pairs.map((pair) => Math.max(0, ...pair.map((row) => floorOf.get(`${losses.rows[row]!.model} ${losses.rows[row]!.step} ${dataset}`) ?? 0)));
  const later = long(losses, pairs.map(([row]) => row));
  const before = long(losses, pairs.map(([, row]) => row));
  const minus = before.loss;
  const change = (i: number) => later.loss[i]! - minus[i]!;
  const relative = parameters["scale"] === "relative";
  const floor = (i: number) => Math.max(floors[Math.floor(i / losses.columns)]!, Number(parameters["threshold"] ?? 0));
  return frameOf({
    ...later,
    minus_model: before["model"]!,
    minus_step: before["step"]!,
    minus_loss: minus,
    difference: Float32Array.from(minus, (loss, i) => (relative ? change(i) / Math.max(loss, least) : change(i))),
    equal: Array.from(minus, (_, i) => Math.abs(change(i)) <= floor(i)),
  });
}

export async function trajectory(data: ReportData, parameters: Parameters): Promise<Frame> {
  const models = parameters["models"] as string[];
  const { losses } = await lossesOf(data, parameters, models, parameters["steps"]);
  const numbers = rowsOf(losses, models);
  const at = Number(parameters["position"]) - 1;
  return frameOf({
    model: numbers.map((number) => losses.rows[number]!.model),
    step: numbers.map((number) => losses.rows[number]!.step),
    loss: Float32Array.from(numbers, (number) => losses.values[number * losses.columns + at]!),
  });
}

/** The tokens of the report's contexts whose losses over a model's steps are nearest to those of one. */
export async function neighbours(data: ReportData, parameters: Parameters): Promise<Frame> {
  const models = [String(parameters["model"])];
  const { dataset, context, losses } = await lossesOf(data, parameters, models, "log");
  const position = Number(parameters["position"]);
  const own = losses.rows.map((_, number) => losses.values[number * losses.columns + position - 1]!);
  const found: { context: number; position: number; distance: number }[] = [];
  const { columns, values } = (await data.losses(dataset, data.contexts(dataset), models, "log"))!;
  sitesOf(data, dataset).forEach((site, at) => {
    if (site.context === context && site.position === position) return;
    let sum = 0;
    for (let row = 0; row < own.length; row++) sum += (values[row * columns + at]! - own[row]!) ** 2;
    const distance = Math.sqrt(sum / own.length);
    if (!Number.isNaN(distance)) found.push({ ...site, distance });
  });
  found.sort((a, b) => a.distance - b.distance);
  found.length = Math.min(NEIGHBOURS, found.length);
  const texts = columnOf<string>(data, dataset, "token");
  return frameOf({
    context: found.map((token) => token.context),
    position: found.map((token) => token.position),
    token: found.map((token) => texts.get(token.context)![token.position]!),
    distance: found.map((token) => token.distance),
  });
}

/** The groups that each token of a context is in, or of these one alone. */
export function groups(data: ReportData, parameters: Parameters): Frame {
  const { dataset, context } = siteOf(data, parameters);
  const table = data.table(`context/${dataset}`)!;
  const [contexts, positions, names] = [table.column("context"), table.column("position"), table.column<string>("groups")];
  const rows = Array.from({ length: table.rows }, (_, row) => row).filter((row) => Number(contexts[row]) === context);
  const one = parameters["groups"];
  const of = (row: number) => (!one ? names[row]! : isIn(names[row]!, String(one)) ? String(one) : "");
  return frameOf({ position: rows.map((row) => positions[row]!), groups: rows.map(of) });
}

const columns = new Map<string, Map<number, unknown[]>>();

/** A column of the table of tokens by context, the first token's too, which has no loss; decoded once. */
export function columnOf<T>(data: ReportData, dataset: string, name: string): Map<number, T[]> {
  const key = `${dataset} ${name}`;
  const known = columns.get(key);
  if (known) return known as Map<number, T[]>;
  const values = new Map<number, T[]>(data.contexts(dataset).map((number) => [number, []]));
  columns.set(key, values);
  const table = data.table(`context/${dataset}`);
  if (!table) return values;
  const [contexts, column] = [table.column("context"), table.column<T>(name)];
  for (let row = 0; row < table.rows; row++) values.get(Number(contexts[row]))!.push(column[row]!);
  return values;
}

/** Tell whether a group is among these names, as a table has them; a name may hold a comma. */
export const isIn = (names: string, group: string): boolean => `, ${names}, `.includes(`, ${group}, `);

/** The tokens with a loss, in the order of the columns of all contexts' losses. */
export const sitesOf = (data: ReportData, dataset: string): { context: number; position: number }[] =>
  data.blocks(dataset).flatMap(({ context, tokens }) => Array.from({ length: tokens }, (_, i) => ({ context, position: i + 1 })));

/** How each context begins. */
export function starts(data: ReportData, parameters: Parameters): Frame {
  const texts = [...columnOf<string>(data, String(parameters["dataset"]), "shown")];
  return frameOf({ context: texts.map(([context]) => context), snippet: texts.map(([, pieces]) => pieces.slice(0, STARTS).join("").slice(0, 40)) });
}

/** Contexts by a text in them, or by how much a group's mean loss changed from the first step to the last. */
export async function find(data: ReportData, parameters: Parameters): Promise<Frame> {
  const dataset = String(parameters["dataset"]);
  const texts = columnOf<string>(data, dataset, "shown");
  const rows: { context: number; score: number | null; snippet: string }[] = [];
  const text = parameters["text"];
  if (typeof text === "string") {
    for (const [context, pieces] of texts) {
      const whole = pieces.join("");
      const at = whole.toLowerCase().indexOf(text.toLowerCase());
      if (at >= 0) rows.push({ context, score: null, snippet: whole.slice(Math.max(0, at - AROUND), at + text.length + AROUND) });
    }
  } else {
    const changes = await changesOf(data, dataset, String(parameters["group"]), parameters["models"] as string[]);
    for (const [context, score] of changes) rows.push({ context, score, snippet: texts.get(context)!.slice(0, STARTS).join("") });
    rows.sort((a, b) => Math.abs(b.score!) - Math.abs(a.score!));
    rows.length = Math.min(MOST, rows.length);
  }
  return frameOf({ context: rows.map((row) => row.context), score: rows.map((row) => row.score), snippet: rows.map((row) => row.snippet) });
}

async function changesOf(data: ReportData, dataset: string, group: string, models: string[]): Promise<Map<number, number>> {
  const changes = new Map<number, number>();
  for (const [context, groups] of columnOf<string>(data, dataset, "groups")) {
    const places = [...groups.keys()].filter((position) => position > 0 && isIn(groups[position]!, group));
    if (!places.length) continue;
    const changed: number[] = [];
    for (const { name, steps } of data.models(dataset)) {
      if (!models.includes(name) || steps.length < 2) continue;
      const { columns, values } = (await data.losses(dataset, [context], [name], `${steps[0]},${steps.at(-1)}`))!;
      const mean = (row: number) => places.reduce((sum, position) => sum + values[row * columns + position - 1]!, 0) / places.length;
      changed.push(mean(1) - mean(0));
    }
    const change = changed.reduce((sum, of) => sum + of, 0) / changed.length;
    if (Number.isFinite(change)) changes.set(context, change);
  }
  return changes;
}
