/** In the place of @codemirror/language and @lezer/common, a sixth of the page: the editor has no grammar, and what asks for one is not called. */
import { Facet } from "@codemirror/state";

export const indentUnit = Facet.define<string, string>({ combine: (units) => units[0] ?? "  " });

function none(): never {
  throw new Error("The editor has no grammar of SQL");
}
export {
  none as getIndentation,
  none as getIndentUnit,
  none as IndentContext,
  none as indentString,
  none as matchBrackets,
  none as NodeProp,
  none as syntaxTree,
};
