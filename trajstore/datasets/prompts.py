"""Problems under a prompt: each by itself (zero-shot), or those of a category one after another (few-shot).

A problem's text is `question\\nanswer`. It is tokenised by itself and token ids are joined, so that a problem has the
same tokens under both prompts, whatever a tokenizer would merge across the line break between two of them. Items
number the problems, item_position is the place in one: the same item and item_position are the same token under both.
A token's role is `question`, `answer` (from the token that holds the line break on) or `separator`, the line break
between two problems, which belongs to no item. Generates no problems and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import polars as pl

from trajstore.arguments import defaults
from trajstore.arguments.choices import Prompting
from trajstore.arguments.spelling import as_given, option
from trajstore.datasets.build import from_ids
from trajstore.datasets.token_bytes import encode, piece_texts
from trajstore.datasets.tokenizers import load_tokenizer
from trajstore.errors import BadDataset
from trajstore.progress import SILENT
from trajstore.store.files.datasets import ITEM_COLUMNS, NewDataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trajstore.progress import Progress
    from trajstore.store.files.datasets import Source


@dataclass(frozen=True)
class Problem:
    """A question with its answer."""

    category: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        """As it is scored."""
        return f"{self.question}\n{self.answer}"


@dataclass(frozen=True)
class _Segment:
    """Consecutive tokens of a context: a problem, or a separator."""

    ids: np.ndarray
    """int32 (tokens,)."""
    item: int
    """−1 for a separator."""
    answer: int = 0
    """Index of the answer's first token."""

    def labels(self) -> pl.DataFrame:
        n = len(self.ids)
        roles = ["question"] * self.answer + ["answer"] * (n - self.answer)
        columns: dict[str, object] = {"item": [self.item] * n, "item_position": range(n), "role": roles}
        if self.item < 0:
            columns = {"item": [None] * n, "item_position": [None] * n, "role": ["separator"] * n}
        return pl.DataFrame(columns, schema=ITEM_COLUMNS)


def prompt_dataset(
    problems: Sequence[Problem],
    tokenizer: str,
    prompting: Prompting,
    *,
    length: int = defaults.LENGTH,
    source: Source | None = None,
    progress: Progress = SILENT,
) -> NewDataset:
    """The problems as contexts of at most `length` tokens; item k is `problems[k]`.

    `prompting` is "zero", a context a problem, or "few", a context a category, with its problems in their order. What
    does not fit into a context is cut off, and `progress` says how much that is. A context's `category` is its
    problems', its `shot` the number of problems before its last one. Raises `BadDataset`, also for a tokenizer that
    keeps no line breaks, and `TokenizerNotFound`.
    """
    if prompting not in get_args(Prompting):
        raise BadDataset(f"{as_given('prompting', prompting)}: there is zero and few.")
    if length < 2:
        raise BadDataset(f"{option('length', length)}: a loss needs two tokens at least.")
    loaded = load_tokenizer(tokenizer)
    parts = _encoded(problems, loaded)
    runs = [[part] for part in parts]
    if prompting == "few":
        by_category: dict[str, list[_Segment]] = {}
        for problem, part in zip(problems, parts, strict=True):
            by_category.setdefault(problem.category, []).append(part)
        runs = list(by_category.values())
    separator = _Segment(_line_break(loaded), -1)
    contexts = [_cut(_joined(run, separator), length) for run in runs]
    kept = [[part for part in context if part.item >= 0] for context in contexts]
    _say_what_is_cut(parts, [part for context in kept for part in context], length, progress)
    return from_ids(
        [np.concatenate([part.ids for part in context]) for context in contexts],
        loaded,
        tokenizer,
        source={**(source or {"source": "problems"}), "prompting": prompting, "length": length},
        items=pl.concat([part.labels() for context in contexts for part in context]),
        category=[problems[context[0].item].category for context in kept],
        shot=[len(context) - 1 for context in kept],
    )


def _encoded(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase) -> list[_Segment]:
    """Each problem's tokens; raises `BadDataset` where no token holds the line break before the answer."""
    ids = [encode(tokenizer, problem.text).ids for problem in problems]
    if not ids:
        raise BadDataset("A dataset needs one problem at least.")
    texts = iter(piece_texts(tokenizer, np.concatenate(ids)))
    parts = []
    for item, (problem, tokens) in enumerate(zip(problems, ids, strict=True)):
        breaks = np.cumsum([next(texts).count("\n") for _ in tokens])
        after = np.flatnonzero(breaks > problem.question.count("\n"))
        if not after.size:
            raise _no_line_breaks(tokenizer)
        parts.append(_Segment(tokens, item, int(after[0])))
    return parts


def _line_break(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The tokens of a line break by itself, without one for a space that some tokenizers put before any text."""
    ids = encode(tokenizer, "\n").ids
    holding = [number for number, text in enumerate(piece_texts(tokenizer, ids)) if "\n" in text]
    if not holding:
        raise _no_line_breaks(tokenizer)
    return ids[holding[0] :]


def _no_line_breaks(tokenizer: PreTrainedTokenizerBase) -> BadDataset:
    return BadDataset(
        f"The tokenizer {tokenizer.name_or_path} keeps no line breaks, so questions, answers and problems would run "
        "into each other. Choose one that keeps the text as it is."
    )


def _joined(run: Sequence[_Segment], separator: _Segment) -> list[_Segment]:
    joined = [part for problem in run for part in (separator, problem)]
    return joined[1:]


def _cut(parts: Sequence[_Segment], length: int) -> list[_Segment]:
    kept = []
    for part in parts:
        if length > 0:
            kept.append(_Segment(part.ids[:length], part.item, min(part.answer, length)))
        length -= len(part.ids)
    return kept


def _say_what_is_cut(
    parts: Sequence[_Segment], kept: Sequence[_Segment], length: int, progress: Progress
) -> None:
    """A line about the problems that a cut has taken a part of, or all."""
    whole = sum(len(part.ids) == len(parts[part.item].ids) for part in kept)
    if whole < len(parts):
        progress.say(
            f"Contexts are cut at {length} tokens: of {len(parts)} problems {whole} are whole, {len(kept) - whole} "
            f"in part, {len(parts) - len(kept)} left out."
        )
