"""Colours of charts in files and in terminals; those of the page are in server/page/src/colours.ts."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito's colours that differ for colour-blind readers and stand out on white.
_DISTINCT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
MOST_DISTINCT = len(_DISTINCT)
"""More things than this are coloured along a scale, not told apart one by one."""
# Viridis without its lightest end: for more things than there are distinct colours, in their order.
_ORDERED = ("#440154", "#46327E", "#365C8D", "#277F8E", "#1FA187", "#4AC16D", "#A0DA39")


def density_scale() -> list[str]:
    """Colours (#rrggbb) of a density, from few to many points."""
    return list(reversed(_ORDERED))


def palette(n: int) -> list[str]:
    """n colours (#rrggbb) that colour-blind readers tell apart; more than `MOST_DISTINCT` are a dark-to-light scale."""
    if n <= len(_DISTINCT):
        return list(_DISTINCT[:n])
    return [_blend(_ORDERED, i / (n - 1)) for i in range(n)]


def _blend(stops: Sequence[str], share: float) -> str:
    """The colour at this share (0 to 1) of a scale of stops."""
    place = share * (len(stops) - 1)
    i = min(int(place), len(stops) - 2)
    pair = [[int(stop[c : c + 2], 16) for c in (1, 3, 5)] for stop in stops[i : i + 2]]
    mixed = [round(a + (b - a) * (place - i)) for a, b in zip(*pair, strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def rgba(color: str, alpha: float) -> str:
    """A colour (#rrggbb) with an opacity, as CSS writes it."""
    red, green, blue = (int(color[c : c + 2], 16) for c in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
