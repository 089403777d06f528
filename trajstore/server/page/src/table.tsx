/** A table of any length: only the rows in sight are in the page. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { moved } from "./keyboard";

export interface TableColumn {
  name: string;
  title?: string;
  /** Numbers stand on the right. */
  number?: boolean;
  /** Content of a cell; a string of it is shown in full when the pointer rests on the cell. */
  cell(row: number): ComponentChildren;
}

const ROW = 30;
const BEYOND = 8;

/** Rows 0 to `rows` − 1. `onPick` makes a row a choice: by click, or by Enter on the row that the arrows reach. */
export function Table(props: {
  label: string;
  columns: readonly TableColumn[];
  rows: number;
  height?: number;
  picked?: number | null;
  onPick?: (row: number) => void;
}) {
  const { columns, rows, onPick } = props;
  const height = Math.min(props.height ?? 420, (rows + 1) * ROW + 14);
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [active, setActive] = useState(0);
  useEffect(() => {
    setTop(0);
    setActive(0);
    box.current?.scrollTo(0, 0);
  }, [rows]);
  const first = Math.max(0, Math.floor(top / ROW) - BEYOND);
  const last = Math.min(rows, Math.ceil((top + height) / ROW) + BEYOND);

  const move = (event: KeyboardEvent) => {
    if (event.key === "Enter" && onPick && event.target === box.current) return onPick(active);
    const next = moved(event, active, rows, 0, 1, Math.floor(height / ROW) - 2);
    if (next === null) return undefined;
    setActive(next);
    const view = box.current!;
    if (next * ROW < view.scrollTop) view.scrollTop = next * ROW;
    if ((next + 3) * ROW > view.scrollTop + height) view.scrollTop = (next + 3) * ROW - height;
    return undefined;
  };

  return (
    <div
      class="table"
      ref={box}
      role="region"
      aria-label={props.label}
      tabIndex={0}
      style={{ height: `${height}px` }}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={move}
    >
      <table aria-rowcount={rows + 1}>
        <thead>
          <tr>
            {columns.map(({ name, title, number }) => (
              <th key={name} scope="col" class={number ? "number" : undefined}>{title ?? name}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr aria-hidden="true" style={{ height: `${first * ROW}px` }}><td colSpan={columns.length} /></tr>}
          {Array.from({ length: last - first }, (_, i) => first + i).map((row) => (
            <tr
              key={row}
              aria-rowindex={row + 2}
              class={[onPick && "choice", row === active && "active", row === props.picked && "picked"].filter(Boolean).join(" ")}
              onClick={() => {
                setActive(row);
                onPick?.(row);
              }}
            >
              {columns.map((column) => {
                const content = column.cell(row);
                return (
                  <td key={column.name} class={column.number ? "number" : undefined} title={typeof content === "string" ? content : undefined}>
                    {content}
                  </td>
                );
              })}
            </tr>
          ))}
          {last < rows && <tr aria-hidden="true" style={{ height: `${(rows - last) * ROW}px` }}><td colSpan={columns.length} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
