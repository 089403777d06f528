/** Places that keys lead to, the same in every table, text, chart and heat map. */

/**
 * The place among `count` that a key leads to from `here`, or null for a key that leads nowhere: ← and → go `across`
 * places, ↑ and ↓ `along`, Page Up and Down `page`, and Home and End to the ends unless `ends` is 0.
 */
export function moved(event: KeyboardEvent, here: number, count: number, across: number, along: number, page: number, ends = count): number | null {
  const [, back, on] = /^(?:Arrow|Page)?(?:(Left|Up|Home)|(Right|Down|End))$/.exec(event.key) ?? [];
  const name = back ?? on ?? "";
  const by = /^H|^E/.test(name) ? ends : /^[LR]/.test(name) ? across : event.key.startsWith("P") ? page : along;
  if (!name || !by) return null;
  event.preventDefault();
  return Math.max(0, Math.min(count - 1, here + (back ? -by : by)));
}

/** Tells whether a key chooses what it stands on. */
export function chooses(event: KeyboardEvent): boolean {
  if (event.key !== "Enter" && event.key !== " ") return false;
  event.preventDefault();
  return true;
}
