/** Columns of numbers and texts by name, and errors with a hint. */
import type { Table } from "@uwdata/flechette";

export type Parameters = Record<string, string | number | readonly string[] | null | undefined>;

/** A column as an array; numbers are a typed array where no value is null. */
export type Column<T = number> = ArrayLike<T> & Iterable<T>;

/** An error with what to do next. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

/** Columns by name. */
export class Frame {
  constructor(
    private readonly table: Pick<Table, "numRows" | "names"> & { getChild(name: string): { toArray(): unknown } | null | undefined },
    /** What is said beside it, as what was left out. */
    readonly notes: readonly string[] = [],
  ) {}

  get rows(): number {
    return this.table.numRows;
  }

  get names(): string[] {
    return this.table.names.map(String);
  }

  has(name: string): boolean {
    return this.names.includes(name);
  }

  column<T = number>(name: string): Column<T> {
    const column = this.table.getChild(name);
    if (!column) throw new ApiError(`The server's answer has no column "${name}"`, "Reload the page.");
    return column.toArray() as Column<T>;
  }
}
