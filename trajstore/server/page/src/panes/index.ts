/** The panes in the order of their tabs. */
import type { ComponentType } from "preact";
import { StorePane } from "./store";
import { TokensPane } from "./tokens";

export interface Pane {
  name: string;
  title: string;
  Component: ComponentType;
}

export const panes: readonly Pane[] = [
  { name: "store", title: "Store", Component: StorePane },
  { name: "tokens", title: "Tokens", Component: TokensPane },
];
