/** The store while it grows: the server says what changed, and what is shown is asked for again. */
import { signal } from "@preact/signals";
import { pending, revision } from "./api";
import { visible, whole } from "./text";

interface Change {
  parts: string[];
  slices: { model: string; dataset: string; step: number }[];
  more: number;
}

/** What changed last, in words. */
export const lastChange = signal("");

const WAIT = 250;
let due = false;

/** Ask again once nothing is under way, so that a fast run does not cut off every answer. */
function askAgain(): void {
  if (pending.value > 0) {
    setTimeout(askAgain, WAIT);
    return;
  }
  due = false;
  revision.value += 1;
}

function words({ parts, slices, more }: Change): string {
  const last = slices.at(-1);
  if (!last) return `Changed: ${parts.join(", ")}`;
  const others = slices.length - 1 + more;
  return `New: ${visible(last.model)}, step ${whole(last.step)}${others > 0 ? ` and ${whole(others)} more` : ""}`;
}

/**
 * Follow the store while the page is seen; the browser opens a broken stream anew.
 *
 * A browser has six connections to a server for all its tabs, and keeps those of pages that were left for going back:
 * a stream of each would soon leave none to load a page with.
 */
export function followChanges(): void {
  let events: EventSource | null = null;
  let lost = false;
  const changed = (text: string): void => {
    if (text) lastChange.value = text;
    if (due) return;
    due = true;
    setTimeout(askAgain, WAIT);
  };
  const listen = (): EventSource => {
    const stream = new EventSource("api/events");
    stream.addEventListener("change", (event) => changed(words(JSON.parse(event.data as string) as Change)));
    stream.addEventListener("error", () => (lost = true));
    stream.addEventListener("open", () => {
      if (lost) changed(""); // what came meanwhile was not told
      lost = false;
    });
    return stream;
  };
  const follow = (): void => {
    if (!document.hidden) {
      events ??= listen();
      return;
    }
    events?.close();
    events = null;
    lost = true;
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}
