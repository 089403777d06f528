/** What the server would answer, from the data inside a report. */
import { ApiError, Frame, type Column, type Parameters } from "../frame";
import type { StoreFacts } from "../facts";
import { ReportData } from "./data";
import * as many from "./losses";
import * as computed from "./tokens";

/** Columns that a parameter chooses rows by. */
const CHOOSES: Record<string, string> = {
  models: "model", model: "model", datasets: "dataset", dataset: "dataset", groups: "group", group: "group",
  context: "context", position: "position", step: "step", component: "component", measures: "measures",
};

/** What is computed here from losses of tokens, and not kept as a table. */
const ANSWERS: Record<string, (data: ReportData, parameters: Parameters) => Frame | Promise<Frame>> = {
  tokens: computed.tokens, token_differences: computed.differences, token: computed.trajectory, neighbours: computed.neighbours,
  find: computed.find, "context-starts": computed.starts, token_groups: computed.groups,
  density: many.density, "box-tokens": many.tokensInBox, "box-groups": many.groupsInBox, convergence: many.convergence,
  "cube/curves": many.cubeCurves, "cube/density": many.cubeDensity,
};

let reading: Promise<ReportData> | null = null;
const read = (): Promise<ReportData> => (reading ??= ReportData.read());

/** The facts of the store, and of the report. */
export const answerValue = async (): Promise<StoreFacts> => (await read()).facts;

/** The columns that an endpoint would answer with. */
export async function answerFrame(path: string, parameters: Parameters): Promise<Frame> {
  const data = await read();
  const answer = ANSWERS[path];
  if (answer) return answer(data, parameters);
  if (path === "context") computed.siteOf(data, parameters);
  const table = data.table(tableName(path, parameters));
  if (!table) throw new ApiError("This is not in the report.", "trajstore serve shows it, where the store is.");
  return chosen(table, parameters);
}

function tableName(path: string, parameters: Parameters): string {
  const { kind, finding, table, dataset, datasets } = parameters;
  if (path === "finding") return `finding/${kind}/${finding}/${table}`;
  if (path === "shape-shares") return `${path}/${finding}`;
  if (path.startsWith("component-")) return finding ? `${path}/kept/${finding}` : `${path}/new/${(datasets as string[])[0]}`;
  return path === "context" ? `context/${dataset}` : path;
}

/** The rows of a table that the parameters choose; a row that is of no one model or dataset is of any. */
function chosen(table: Frame, parameters: Parameters): Frame {
  let rows = Array.from({ length: table.rows }, (_, row) => row);
  for (const [name, value] of Object.entries(parameters)) {
    const column = CHOOSES[name];
    if (!column || value === null || value === undefined || value.toString() === "" || !table.has(column)) continue;
    const texts = new Set(typeof value === "object" ? value : String(value).split(";"));
    const values = table.column<unknown>(column);
    rows = rows.filter((row) => values[row] === null || texts.has(String(values[row])));
  }
  if (rows.length === table.rows) return table;
  const pick = (values: Column<unknown>): unknown => {
    const made = ArrayBuffer.isView(values) ? new (values.constructor as Float64ArrayConstructor)(rows.length) : new Array<unknown>(rows.length);
    rows.forEach((row, i) => (made[i] = values[row] as number));
    return made;
  };
  const getChild = (name: string) => ({ toArray: () => pick(table.column(name)) });
  return new Frame({ numRows: rows.length, names: table.names, getChild }, table.notes);
}
