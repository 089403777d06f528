/** A context's tokens as running text, each coloured by its number; pointer or arrow keys move the cursor. */
import { Fragment } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { colourOf, type ColourScale } from "../../colours";
import { chooses, moved } from "../../keyboard";
import { dark } from "../../theme";
import { linesOf, visible } from "../../text";

export function TokenText(props: {
  label: string;
  tokens: ArrayLike<string>;
  /** The number of the token at position i + 1. */
  values: Float32Array;
  scale: ColourScale;
  /** Tokens outside what is selected. */
  faded: readonly boolean[] | null;
  cursor: number | null;
  picked: number | null;
  onCursor: (position: number) => void;
  onPick: (position: number) => void;
}) {
  const { tokens, values, scale, faded, cursor, picked } = props;
  const box = useRef<HTMLDivElement>(null);
  const night = dark.value;
  const spans = useMemo(
    () =>
      Array.from(tokens, (token, position) => (
        <span key={position} class="token" data-position={position}>
          {linesOf(token).map((line, i) => (
            <Fragment key={i}>
              {visible(line)}
              {line.endsWith("\n") && <br />}
            </Fragment>
          ))}
        </span>
      )),
    [tokens],
  );
  // A thousand tokens change colour at each step of the slider: their elements stay, and only the colours are set.
  useLayoutEffect(() => {
    box.current!.querySelectorAll<HTMLElement>(".token").forEach((span, position) => {
      if (position) span.style.backgroundColor = colourOf(values[position - 1] ?? NaN, scale);
    });
  }, [tokens, values, scale, night]);
  useLayoutEffect(() => {
    const all = box.current!.querySelectorAll<HTMLElement>(".token");
    all.forEach((span, position) => {
      span.classList.toggle("at", position === cursor);
      span.classList.toggle("picked", position === picked);
    });
  }, [tokens, cursor, picked]);
  useLayoutEffect(() => {
    box.current!.querySelectorAll(".token").forEach((span, position) => span.classList.toggle("faded", Boolean(faded?.[position])));
  }, [tokens, faded]);

  const positionAt = (event: Event) => {
    const position = (event.target as HTMLElement).dataset?.position;
    return position === undefined ? null : Number(position);
  };
  const move = (event: KeyboardEvent) => {
    const here = cursor ?? picked ?? 0;
    if (chooses(event)) return props.onPick(here);
    const next = moved(event, here, tokens.length, 1, 10, 0);
    if (next === null) return undefined;
    box.current!.querySelector(`[data-position="${next}"]`)?.scrollIntoView({ block: "nearest" });
    return props.onCursor(next);
  };
  return (
    <div
      class="token-text"
      ref={box}
      role="application"
      aria-roledescription="coloured text"
      aria-label={`${props.label}: ${tokens.length} tokens. Arrow keys move, Enter chooses a token.`}
      tabIndex={0}
      onMouseOver={(event) => {
        const position = positionAt(event);
        if (position !== null) props.onCursor(position);
      }}
      onClick={(event) => {
        const position = positionAt(event);
        if (position !== null) props.onPick(position);
      }}
      onKeyDown={move}
    >
      {spans}
    </div>
  );
}
