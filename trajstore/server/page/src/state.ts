/** The one state of the page: signals that the address holds, so that a link opens what was seen. */
import { batch, effect, signal, type Signal } from "@preact/signals";

interface Field {
  signal: Signal<unknown>;
  initial: unknown;
  read(text: string): unknown;
  write(value: unknown): string;
}

const fields = new Map<string, Field>();
/** A file has no address but its own: a report keeps its state behind the #. */
const MARK = OFFLINE ? "#" : "?";
const inAddress = () => new URLSearchParams((OFFLINE ? location.hash : location.search).slice(1));
const opened = inAddress();
let push = false;

function field<T>(key: string, initial: T, read: (text: string) => T, write: (value: T) => string): Signal<T> {
  const text = opened.get(key);
  const value = signal(text === null ? initial : read(text));
  fields.set(key, { signal: value as Signal<unknown>, initial, read, write: write as (value: unknown) => string });
  return value;
}

/** A signal of text that the address keeps under `key`; a pane's own keys begin with its name: "tokens.view". */
export const textField = <T extends string = string>(key: string, initial: NoInfer<T>): Signal<T> =>
  field<T>(key, initial, (text) => text as T, (value) => value);

/** A signal of a number, or of null for none. */
export const numberField = <T extends number | null>(key: string, initial: T): Signal<T> =>
  field<T>(
    key,
    initial,
    (text) => (text !== "" && Number.isFinite(Number(text)) ? (Number(text) as T) : initial),
    (value) => String(value),
  );

/** A signal of names, joined by commas, which no name holds. */
export const namesField = (key: string): Signal<string[]> =>
  field<string[]>(key, [], (text) => text.split(",").filter(Boolean), (value) => value.join(","));

/** A part chosen in one pane that the others follow, as "steps:64~1000" or "loss:2.5~4@model@512". */
export interface Brush {
  of: string;
  from: number;
  to: number;
  /** Of losses: the checkpoint that has them, as MODEL@STEP. */
  at?: string | undefined;
  /** Losses that the same tokens have at another one. */
  other?: Brush | null;
}

const PART = /^(\w+):([-+\d.e]+)~([-+\d.e]+)(?:@([\w.@-]+))?(?:;(.+))?$/;
const readBrush = (text: string): Brush | null => {
  const [, of, from, to, at, other] = PART.exec(text) ?? [];
  return of ? { of, from: Number(from), to: Number(to), at, other: readBrush(other ?? "") } : null;
};
const writeBrush = ({ of, from, to, at, other }: Brush): string => `${of}:${from}~${to}${at ? `@${at}` : ""}${other ? `;${writeBrush(other)}` : ""}`;

export type Theme = "auto" | "light" | "dark";

export const state = {
  pane: textField("pane", "store"),
  /** Models chosen; all where there are none. */
  models: namesField("models"),
  datasets: namesField("datasets"),
  step: numberField<number | null>("step", null),
  context: numberField<number | null>("context", null),
  group: textField("group", ""),
  brush: field<Brush | null>("brush", null, readBrush, (brush) => (brush ? writeBrush(brush) : "")),
  theme: textField<Theme>("theme", "auto"),
};

/** Change the state as one step that the browser's back button undoes. */
export function navigate(change: () => void): void {
  push = true;
  batch(change);
  push = false;
}

/** The address that the state would have after a change of these keys, for links. */
export function addressWith(changes: Record<string, string | null>): string {
  const query = currentQuery();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) query.delete(key);
    else query.set(key, value);
  }
  return MARK + query;
}

function currentQuery(): URLSearchParams {
  const query = new URLSearchParams();
  for (const [key, { signal: value, initial, write }] of fields) {
    const text = write(value.value);
    if (text !== write(initial)) query.set(key, text);
  }
  return query;
}

/** Browsers refuse more than a few hundred changes of the address a minute; a slider makes sixty a second. */
const PAUSE = 200;

/** Keep the address and the state the same, both ways. Called once, when every pane has made its fields. */
export function followAddress(): void {
  let due: string | null = null;
  let timer = 0;
  const write = () => {
    if (due !== null) history.replaceState(null, "", due);
    due = null;
  };
  effect(() => {
    const query = currentQuery().toString();
    const address = query || OFFLINE ? MARK + query : location.pathname;
    const same = query === inAddress().toString();
    if (push) {
      write(); // what was seen before, for going back to it
      if (!same) history.pushState(null, "", address);
      return;
    }
    due = same ? null : address;
    timer ||= setTimeout(() => {
      timer = 0;
      write();
    }, PAUSE);
  });
  addEventListener("pagehide", write);
  addEventListener("popstate", () => {
    due = null;
    const query = inAddress();
    batch(() => {
      for (const [key, { signal: value, initial, read }] of fields) {
        const text = query.get(key);
        value.value = text === null ? initial : read(text);
      }
    });
  });
}
