"""Lists of different numbers, a mark, and the same numbers in order: as token ids, and as a dataset's files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

NUMBERS = 51
"""0 to 50, which are their own token ids."""
MARK = NUMBERS
"""The id between a list and the same list in order."""
VOCABULARY = NUMBERS + 1
LENGTH = 10
"""Numbers of a list."""
CONTEXT = 2 * LENGTH + 1
FIRST_SORTED = LENGTH + 1
"""The position of the lowest number, from which on all that comes is known from the list."""


def draw_lists(rng: np.random.Generator, number: int) -> npt.NDArray[np.int64]:
    """Contexts of lists drawn evenly, (number, CONTEXT)."""
    lists = rng.random((number, NUMBERS)).argsort(axis=1)[:, :LENGTH]
    return np.hstack([lists, np.full((number, 1), MARK), np.sort(lists, axis=1)])


def write_lists(folder: Path, number: int, seed: int) -> tuple[Path, Path]:
    """Write lists of token ids and the texts of the ids, for `dataset add` without a tokenizer; returns both files."""
    folder.mkdir(parents=True, exist_ok=True)
    source, vocabulary = folder / "lists.jsonl", folder / "vocabulary.json"
    rows = draw_lists(np.random.default_rng(seed), number).tolist()
    source.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows), encoding="utf-8")
    texts = [f"{token} " for token in range(NUMBERS)] + ["| "]
    vocabulary.write_text(json.dumps(texts), encoding="utf-8")
    return source, vocabulary
