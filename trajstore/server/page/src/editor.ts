/** The SQL editor, a bundle of its own that is loaded when its pane is opened. */
import { autocompletion, completionKeymap, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import {
  deleteCharBackward,
  deleteCharForward,
  deleteGroupBackward,
  deleteGroupForward,
  history,
  historyKeymap,
  insertNewlineKeepIndent,
  selectAll,
} from "@codemirror/commands";
import { EditorState, Prec } from "@codemirror/state";
import { Decoration, EditorView, keymap, lineNumbers, MatchDecorator, ViewPlugin, type DecorationSet, type ViewUpdate } from "@codemirror/view";

export interface Editor {
  text(): string;
  replace(text: string): void;
  destroy(): void;
}

const WORDS =
  "all and anti any as asc asof between by case cast cross cube desc describe distinct else end escape except exclude exists explain " +
  "filter following from full group grouping having ilike in inner intersect is join last lateral left like limit lists natural not " +
  "nulls offset on or order outer over partition pivot positional preceding qualify range recursive replace right rollup row rows " +
  "sample select semi sets show similar summarize table then to unbounded union unpivot using values when where window with within";

/* A grammar of SQL would be as large as the rest of the page; words, texts, numbers and comments are told by a pattern. */
const KEYWORDS = new Set(WORDS.split(" "));
const PARTS = /--.*|'(?:[^']|'')*'|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b|[a-z_]\w*/gi;
const decorator = new MatchDecorator({
  regexp: PARTS,
  decoration: ([text]) => {
    const kind = text.startsWith("--") ? "comment" : text.startsWith("'") ? "text" : /^\d/.test(text) ? "number" : KEYWORDS.has(text.toLowerCase()) ? "word" : "";
    return kind ? Decoration.mark({ class: `sql-${kind}` }) : null;
  },
});
const colours = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;
    constructor(view: EditorView) {
      this.decorations = decorator.createDeco(view);
    }
    update(update: ViewUpdate): void {
      this.decorations = decorator.updateDeco(update, this.decorations);
    }
  },
  { decorations: ({ decorations }) => decorations },
);

/* What changes the text; the browser itself moves the cursor, and the whole of the usual keys is 7 KB gzipped. */
const KEYS = [
  { key: "Enter", run: insertNewlineKeepIndent, shift: insertNewlineKeepIndent },
  { key: "Backspace", run: deleteCharBackward, shift: deleteCharBackward },
  { key: "Delete", run: deleteCharForward },
  { key: "Mod-Backspace", mac: "Alt-Backspace", run: deleteGroupBackward },
  { key: "Mod-Delete", mac: "Alt-Delete", run: deleteGroupForward },
  { key: "Mod-a", run: selectAll },
];

/** Completions: after FROM and JOIN relations, after a relation's name and a dot its columns, else columns and words. */
function completing(schema: Record<string, string[]>): (context: CompletionContext) => CompletionResult | null {
  const relations = Object.keys(schema).map((label) => ({ label, type: "class" }));
  const columns = [...new Set(Object.values(schema).flat())].map((label) => ({ label, type: "property" }));
  const words = [...KEYWORDS].map((word) => ({ label: word.toUpperCase(), type: "keyword" }));
  return (context) => {
    const word = context.matchBefore(/\w*/);
    if (!word || (word.from === word.to && !context.explicit)) return null;
    const before = context.state.sliceDoc(Math.max(0, word.from - 200), word.from);
    if (/\b(from|join)\s+$/i.test(before)) return { from: word.from, options: relations };
    const group = /\b(groups\.)$/i.exec(before);
    if (group) return { from: word.from - group[1]!.length, options: relations };
    const owner = /(\w+)\.$/.exec(before)?.[1];
    const own = owner === undefined ? undefined : schema[owner];
    if (own) return { from: word.from, options: own.map((label) => ({ label, type: "property" })) };
    return { from: word.from, options: [...columns, ...relations, ...words] };
  };
}

const look = EditorView.theme({
  "&": { border: "1px solid var(--edge)", borderRadius: "6px", backgroundColor: "var(--card)", color: "var(--ink)", fontSize: "14px" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-content": { fontFamily: "var(--mono)", minHeight: "7em", caretColor: "var(--ink)" },
  ".cm-scroller": { maxHeight: "40vh", overflow: "auto" },
  ".cm-gutters": { backgroundColor: "var(--card)", color: "var(--quiet)", borderRight: "1px solid var(--line)" },
  ".sql-word": { color: "var(--accent)", fontWeight: "600" },
  ".sql-text": { color: "var(--warn)" },
  ".sql-number": { color: "var(--bad)" },
  ".sql-comment": { color: "var(--quiet)", fontStyle: "italic" },
  ".cm-tooltip": { backgroundColor: "var(--card)", color: "var(--ink)", border: "1px solid var(--edge)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--accent-ink)" },
});

/** Put typed text in place without the browser, which would give it inline styles that the page's policy refuses. */
function typed(event: InputEvent, view: EditorView): boolean {
  if (event.inputType !== "insertText" || event.data === null || event.isComposing) return false;
  view.dispatch(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
  return true;
}

/** An editor in `parent`, completing tables and columns; a shadow root lets it style itself under the page's policy. */
export function open(
  parent: HTMLElement,
  options: { text: string; schema: Record<string, string[]>; run: () => void },
): Editor {
  const root = parent.shadowRoot ?? parent.attachShadow({ mode: "open" });
  const run = (): boolean => {
    options.run();
    return true;
  };
  const view = new EditorView({
    root,
    parent: root as unknown as Element,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        lineNumbers(),
        history(),
        autocompletion({ override: [completing(options.schema)] }),
        colours,
        look,
        EditorView.lineWrapping,
        EditorView.domEventHandlers({ beforeinput: typed }),
        EditorView.contentAttributes.of({ "aria-label": "SQL" }),
        Prec.highest(keymap.of([{ key: "Mod-Enter", run }])),
        keymap.of([...completionKeymap, ...KEYS, ...historyKeymap]),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    replace: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    destroy: () => view.destroy(),
  };
}
