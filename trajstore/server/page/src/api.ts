/** What the server answers, or the data inside a report: columns, JSON, and errors with a hint; a newer question of a part ends its older one. */
import { signal } from "@preact/signals";
import { tableFromIPC } from "@uwdata/flechette";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, Frame, type Parameters } from "./frame";
import { answerFrame, answerValue } from "./offline/answers";

export { ApiError, Frame };
export type { Column, Parameters } from "./frame";
export type Format = "arrow" | "json" | "csv" | "parquet";

/** The address of an endpoint. Values that are empty or null are left out. */
export function address(path: string, parameters: Parameters = {}, format: Format | "" = "arrow"): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    const text = Array.isArray(value) ? value.join(",") : value;
    if (text !== null && text !== undefined && text !== "") query.set(name, String(text));
  }
  return `api/${path}${format && `.${format}`}${query.size ? `?${query}` : ""}`;
}

/** The status line of the page: what is being loaded, or nothing. */
export const pending = signal(0);

async function answer(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  pending.value = pending.peek() + 1; // an effect that loads does not hang on what is loading
  try {
    response = await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("The server does not answer", "Is trajstore serve still running? Start it again and reload.");
  } finally {
    pending.value = pending.peek() - 1;
  }
  if (response.ok) return response;
  const said = (await response.json().catch(() => ({}))) as { error?: string; hint?: string };
  throw new ApiError(said.error ?? `The server answered ${response.status}`, said.hint ?? "");
}

/** The columns of a response in Arrow. */
export async function frameOf(response: Response): Promise<Frame> {
  const notes = JSON.parse(response.headers.get("Trajstore-Notes") ?? "[]") as string[];
  return new Frame(tableFromIPC(new Uint8Array(await response.arrayBuffer())), notes);
}

/** Post an object to an endpoint, which answers in Arrow or JSON. */
export const post = (path: string, body: unknown, parameters: Parameters = {}, init: RequestInit = {}): Promise<Response> =>
  answer(address(path, parameters, ""), {
    ...init,
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/** The columns that an endpoint answers with. */
export const fetchFrame = async (path: string, parameters: Parameters = {}, init: RequestInit = {}): Promise<Frame> =>
  OFFLINE ? answerFrame(path, parameters) : frameOf(await answer(address(path, parameters), init));

/** The value that an endpoint answers with, as JSON. */
export async function fetchValue<T>(path: string, parameters: Parameters = {}, init: RequestInit = {}): Promise<T> {
  return (OFFLINE ? await answerValue() : await (await answer(address(path, parameters, ""), init)).json()) as T;
}

/** What a pane has of a question: while a new answer loads, the last one stays. */
export interface Reply<T> {
  loading: boolean;
  value: T | null;
  error: ApiError | null;
  path: string;
  parameters: Parameters;
}

/** The server's newest changes: everything loaded is asked for again when it rises. */
export const revision = signal(0);

function useReply<T>(
  path: string,
  parameters: Parameters | null,
  load: (path: string, parameters: Parameters, init: RequestInit) => Promise<T>,
): Reply<T> {
  const [reply, setReply] = useState<Reply<T>>({ loading: true, value: null, error: null, path, parameters: {} });
  const running = useRef<AbortController | null>(null);
  const url = parameters === null ? null : address(path, parameters);
  const fresh = revision.value;
  useEffect(() => {
    running.current?.abort();
    if (parameters === null) return undefined;
    const controller = new AbortController();
    running.current = controller;
    setReply((last) => ({ ...last, loading: true }));
    load(path, parameters, { signal: controller.signal })
      .then((value) => controller.signal.aborted || setReply({ loading: false, value, error: null, path, parameters }))
      .catch((error: unknown) => {
        if (controller.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(String(error), "Reload the page.");
        setReply({ loading: false, value: null, error: known, path, parameters });
      });
    return () => controller.abort();
  }, [url, fresh]);
  return url === null ? { loading: false, value: null, error: null, path, parameters: {} } : reply;
}

/** The columns of an endpoint for these parameters; null asks nothing yet. */
export const useFrame = (path: string, parameters: Parameters | null = {}): Reply<Frame> =>
  useReply(path, parameters, fetchFrame);

/** The value of an endpoint for these parameters; null asks nothing yet. */
export const useValue = <T,>(path: string, parameters: Parameters | null = {}): Reply<T> =>
  useReply<T>(path, parameters, fetchValue);
