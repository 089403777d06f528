/** The panes in the order of their tabs. */
import type { ComponentType } from "preact";
import { ComparePane } from "./compare";
import { ComponentsPane } from "./components";
import { FindingsPane } from "./findings";
import { GroupsPane } from "./groups";
import { LossesPane } from "./losses";
import { SqlPane } from "./sql";
import { StorePane } from "./store";
import { TokensPane } from "./tokens";

export interface Pane {
  name: string;
  title: string;
  Component: ComponentType;
}

/* A file runs no SQL. */
export const panes: readonly Pane[] = [
  { name: "store", title: OFFLINE ? "Overview" : "Store", Component: StorePane },
  { name: "tokens", title: "Tokens", Component: TokensPane },
  { name: "groups", title: "Groups", Component: GroupsPane },
  { name: "components", title: "Components", Component: ComponentsPane },
  { name: "compare", title: "Compare", Component: ComparePane },
  { name: "findings", title: "Findings", Component: FindingsPane },
  { name: "losses", title: "Losses", Component: LossesPane },
  ...(OFFLINE ? [] : [{ name: "sql", title: "SQL", Component: SqlPane }]),
];
