/** Text of tokens made safe to look at: what would not show, or would turn the line around, is written as an escape. */

const CONTROLS: Record<string, string> = { "\n": "⏎", "\r": "␍", "\t": "⇥", "\0": "␀" };
/* Controls, marks of direction, blanks without width and lone surrogates; joiners and variation selectors make emoji. */
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/gu;

/** One character as an escape that can be read. */
const escaped = (character: string): string =>
  CONTROLS[character] ?? `\\u{${character.codePointAt(0)!.toString(16)}}`;

/** The text with each unseen character as an escape. Everything else stays as it is. */
export const visible = (text: string): string => text.replace(UNSEEN, escaped);

/** The text short enough for a label, its end cut. */
export function short(text: string, length = 40): string {
  const shown = visible(text);
  const characters = [...shown];
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : shown;
}

/** The lines of a text, each with the break that ends it. */
export const linesOf = (text: string): string[] => text.split(/(?<=\n)/);

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A whole number with its thousands apart. */
export const whole = (value: number): string => plain.format(value);

const brief = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A number on an axis: large ones in thousands and millions. */
export const compact = (value: number): string => (Math.abs(value) >= 1e4 ? brief.format(value) : String(+value.toPrecision(6)));

/** A number of nats: three decimals. */
export const nats = (value: number | null | undefined, signed = false): string =>
  value === null || value === undefined || Number.isNaN(value)
    ? "none"
    : `${signed && value > 0 ? "+" : ""}${value.toFixed(3).replace("-", "−")}`;

/** A size on disk. */
export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${(value / 1000 ** power).toPrecision(3)} ${units[power]}`;
}
