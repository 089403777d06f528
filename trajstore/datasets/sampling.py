"""Draws the windows that become a dataset's contexts: one of each document in turn, round after round.

A window is a slice of at most `length` tokens anywhere inside a document, not its beginning, and never
shorter than 2 tokens. A document of n > `length` tokens has n // `length` windows that do not overlap, at a
random offset, given out in random order; a shorter one is a window itself. No token is drawn twice. What a
document gives depends on the seed and the document's number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajstore.datasets.sources import SOURCES
from trajstore.datasets.token_bytes import encode
from trajstore.errors import BadDataset
from trajstore.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transformers import PreTrainedTokenizerBase

    from trajstore.datasets.sources import Document
    from trajstore.progress import Progress


@dataclass(frozen=True)
class TokenWindow:
    """A slice of a document: one context."""

    document: str
    ids: np.ndarray
    """int32 (tokens,)."""
    bytes: tuple[int | None, int | None]
    """[start, end) in the document's UTF-8; None where the tokenizer keeps no offsets."""


def draw(
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    contexts: int,
    length: int,
    seed: int,
    progress: Progress,
) -> list[TokenWindow]:
    """One window of each document in turn, round after round, until there are enough or none is left.

    Where there are fewer than `contexts`, `progress` says so; raises `BadDataset` where there is none at all.
    """
    drawn: list[TokenWindow] = []
    looked_at = 0

    def rounds() -> Iterator[TokenWindow]:
        nonlocal looked_at
        waiting = []
        for document in documents:
            looked_at += 1
            # No more can be asked of it, so that no more is kept.
            windows = windows_of(document, tokenizer, length, seed, contexts - len(drawn))
            waiting.append(windows)
            yield from windows[:1]
        for turn in range(1, max(map(len, waiting), default=0)):
            yield from (windows[turn] for windows in waiting if turn < len(windows))

    with bar(progress, "drawing contexts", contexts, "contexts"):
        for window in rounds():
            drawn.append(window)
            progress.advance()
            if len(drawn) == contexts:
                return drawn
    if not drawn:
        raise BadDataset(f"{source} has no document of 2 tokens or more ({looked_at} looked at). {SOURCES}")
    progress.say(f"{contexts} contexts were asked for; {source} gave {len(drawn)} (documents: {looked_at}).")
    return drawn


def windows_of(
    document: Document, tokenizer: PreTrainedTokenizerBase, length: int, seed: int, most: int
) -> list[TokenWindow]:
    """A document's first `most` windows in the order in which they are given out; none under 2 tokens."""
    tokens = encode(tokenizer, document.text)
    n = len(tokens.ids)
    if n < 2:
        return []
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(document.number,)))
    size = min(length, n)
    count = n // size
    offset = int(random.integers(n - count * size, endpoint=True))
    starts = [offset + size * int(place) for place in random.permutation(count)[:most]]
    return [
        TokenWindow(document.name, tokens.ids[start : start + size].copy(), tokens.span(start, start + size))
        for start in starts
    ]
