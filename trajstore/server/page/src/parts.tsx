/** Parts that every pane shows: loading, nothing there, an error with its hint, links to the data, labelled choices. */
import type { ComponentChildren } from "preact";
import { address, type Frame, type Reply } from "./api";

/** The content of a reply: `children(frame)`, or what there is instead. `empty` says what to do where there are no rows. */
export function Loaded<T>(props: { reply: Reply<T>; empty: ComponentChildren; children: (value: T) => ComponentChildren }) {
  const { error, value, loading } = props.reply;
  if (error) return <Problem message={error.message} hint={error.hint} />;
  if (value === null && loading) return <p class="loading" aria-busy="true">Loading…</p>;
  const rows = (value as Partial<Frame> | null)?.rows;
  if (value === null || rows === 0 || (Array.isArray(value) && value.length === 0)) return <Empty>{props.empty}</Empty>;
  const notes = (value as Partial<Frame>).notes ?? [];
  return (
    <div class={loading ? "stale" : "fresh"} aria-busy={loading}>
      {notes.map((note) => <p key={note} class="note">{note}</p>)}
      {props.children(value)}
    </div>
  );
}

export const Empty = (props: { children: ComponentChildren }) => <div class="empty">{props.children}</div>;

export const Problem = (props: { message: string; hint: string }) => (
  <div class="problem" role="alert">
    <strong>{props.message}</strong>
    {props.hint && <p>{props.hint}</p>}
  </div>
);

/** Links to what a pane shows, as data; a report has no server to give it. */
export const DataLinks = (props: { reply: Pick<Reply<unknown>, "path" | "parameters"> }) => OFFLINE ? null : (
  <p class="data-links">
    <span>Data:</span>
    {(["json", "csv", "parquet"] as const).map((format) => (
      <a key={format} href={address(props.reply.path, props.reply.parameters, format)} download={`${props.reply.path}.${format}`}>
        .{format}
      </a>
    ))}
  </p>
);

/** A section of a pane with its heading. */
export const Card = (props: { title: string; note?: ComponentChildren; children: ComponentChildren; class?: string }) => (
  <section class={`card ${props.class ?? ""}`}>
    <header>
      <h2>{props.title}</h2>
      {props.note && <p class="note">{props.note}</p>}
    </header>
    {props.children}
  </section>
);

/** A labelled select. */
export function Choice<T extends string>(props: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  return (
    <label class="choice">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.onChange(event.currentTarget.value as T)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>{text}</option>
        ))}
      </select>
    </label>
  );
}

/** Choices of which one is on, as buttons side by side. */
export function Segments<T extends string>(props: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {text}
        </button>
      ))}
    </div>
  );
}
