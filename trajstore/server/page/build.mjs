// Builds the page into ../static, or into the folder given: node build.mjs [FOLDER]. The same sources give the same bytes.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Bytes of all that a browser loads, gzipped. */
const LIMIT = 160_000;

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "..", "static"));

await mkdir(out, { recursive: true });
const options = {
  absWorkingDir: here,
  outdir: out,
  alias: { "@codemirror/language": "./src/grammarless.ts", "@lezer/common": "./src/grammarless.ts" },
  bundle: true,
  minify: true,
  target: "es2022",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  metafile: true,
};
const result = await build({ ...options, entryPoints: { page: "src/main.tsx", sql: "src/editor.ts" }, format: "esm", define: { OFFLINE: "false", SPLIT: "false" } });
// The page of a report, one script and one style that stand inside a file: nobody loads it from a server.
const report = { ...options, entryPoints: { report: "src/report.ts" }, format: "iife" };
await build({ ...report, define: { OFFLINE: "true", SPLIT: "false" } });
// The same of a report in a folder, with a reader of Parquet; its style is that of the other.
const split = await build({ ...report, entryPoints: { split: "src/report.ts" }, loader: { ".css": "empty" }, define: { OFFLINE: "true", SPLIT: "true" } });
const pages = ["index.html", "icon.svg"];
for (const name of [...pages, "report.html", "split.html"]) await copyFile(join(here, "src", name), join(out, name));

// Licences of what is bundled ask to be kept beside it.
const inputs = [result, split].flatMap(({ metafile }) => Object.keys(metafile.inputs)).join("\n");
const bundled = [...new Set(inputs.match(/(?<=node_modules\/)(@[^/]+\/)?[^/]+/g))].sort();
const licences = await Promise.all(
  bundled.map(async (name) => `${name}\n\n${(await readFile(join(here, "node_modules", name, "LICENSE"), "utf8")).trim()}\n`),
);
await writeFile(join(out, "licences.txt"), licences.join("\n\n"));

// What trajstore serve sends counts; a report is read from a file or a host.
const files = [...Object.keys(result.metafile.outputs).map((path) => resolve(here, path)), ...pages.map((name) => join(out, name))];
const sizes = await Promise.all(files.map(async (path) => gzipSync(await readFile(path)).length));
const total = sizes.reduce((sum, size) => sum + size, 0);
console.log(`${files.length} files, ${total.toLocaleString("en")} bytes gzipped`);
if (total > LIMIT) throw new Error(`The page is ${total} bytes gzipped, more than ${LIMIT}`);
