/** Losses from the store's own Parquet slices, which lie beside the page. */
import { signal } from "@preact/signals";
import { decompress } from "fzstd";
import { parquetRead } from "hyparquet";
import { ApiError } from "../frame";

/** What is being read, in words. */
export const reading = signal("");

/** Bytes of decoded losses that are kept. */
const ROOM = 512 << 20;
const AT_ONCE = 6;
const kept = new Map<string, Promise<Float32Array>>();
let bytes = 0;

export interface Slice {
  model: string;
  step: number;
}

const compressors = { ZSTD: (input: Uint8Array, size: number) => decompress(input, new Uint8Array(size)) };

async function decoded(path: string): Promise<Float32Array> {
  // A host that says nothing of caching lets a browser keep a slice that has been scored anew since.
  const response = await fetch(path, { cache: "no-cache" });
  if (!response.ok) throw new ApiError(`${path} is not beside the page.`, "Copy the whole folder that trajstore report --split wrote.");
  const file = await response.arrayBuffer();
  const parts: ArrayLike<number>[] = [];
  await parquetRead({ file, columns: ["loss"], compressors, onChunk: ({ columnData }) => parts.push(columnData as ArrayLike<number>) });
  const losses = parts.length === 1 && parts[0] instanceof Float32Array ? parts[0] : Float32Array.from(parts.flatMap((part) => Array.from(part)));
  bytes += losses.byteLength;
  return losses;
}

/** The losses of a slice; the ones that were not asked for longest are let go. */
function lossesOf(dataset: string, { model, step }: Slice): Promise<Float32Array> {
  const path = `losses/model=${model}/dataset=${dataset}/step=${step}/slice.parquet`;
  const losses = kept.get(path) ?? decoded(path);
  kept.delete(path);
  kept.set(path, losses);
  losses.catch(() => kept.delete(path));
  for (const [old, values] of kept) {
    if (bytes <= ROOM || old === path) break;
    kept.delete(old);
    void values.then((of) => (bytes -= of.byteLength));
  }
  return losses;
}

/** The losses of these contexts in each slice, one slice behind the other. */
export async function rowsOfSlices(dataset: string, slices: readonly Slice[], contexts: readonly { first: number; tokens: number }[]): Promise<Float32Array> {
  const columns = contexts.reduce((sum, { tokens }) => sum + tokens, 0);
  const values = new Float32Array(slices.length * columns);
  let [next, done] = [0, 0];
  const work = async () => {
    for (let i = next++; i < slices.length; i = next++) {
      const losses = await lossesOf(dataset, slices[i]!);
      let place = i * columns;
      for (const { first, tokens } of contexts) {
        values.set(losses.subarray(first, first + tokens), place);
        place += tokens;
      }
      done += 1;
      if (done % AT_ONCE === 0) reading.value = `${done} of ${slices.length} slices`;
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } finally {
    reading.value = "";
  }
  return values;
}
