"""Vocabularies of models without a tokenizer, whose data are token ids: a name for each id, by a file or its number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import option
from trajstore.errors import BadDataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_TOKENIZER = "none"
"""In the place of a tokenizer's name, for datasets of ids."""
_MOST = 1 << 20
"""Entries of a vocabulary without a tokenizer."""


def read_vocabulary(file: str | Path) -> dict[str, int]:
    """The id of each text, from JSON: {"text": id, …}, or the list of texts by id; raises `BadDataset`."""
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadDataset(f"The vocabulary {file} cannot be read as JSON: {error}.") from error
    if isinstance(content, list) and all(isinstance(text, str) for text in content):
        pairs = list(zip(content, range(len(content)), strict=True))
    elif isinstance(content, dict):
        pairs = list(content.items())
    else:
        pairs = []
    if not pairs or not all(type(token) is int and 0 <= token < _MOST for _, token in pairs):
        raise BadDataset(
            f'The vocabulary {file} is {{"text": id, …}} with ids from 0 to {_MOST - 1}, or a list of texts in the '
            "order of ids."
        )
    vocabulary = dict(pairs)
    if not len(vocabulary) == len(set(vocabulary.values())) == len(pairs):
        raise BadDataset(f"The vocabulary {file} has a text or an id twice; each id has one text.")
    return vocabulary


def numbered(ids: Iterable[Iterable[int]]) -> dict[str, int]:
    """A vocabulary of the ids from 0 to the highest, each called by its number."""
    highest = max((token for context in ids for token in context), default=0)
    if highest >= _MOST:
        raise BadDataset(f"An id is {highest}; without a tokenizer ids are 0 to {_MOST - 1}.")
    return {str(token): token for token in range(highest + 1)}


def check_known(ids: Iterable[Iterable[int]], vocabulary: Mapping[str, int]) -> None:
    """Raise `BadDataset` where an id is not in the vocabulary."""
    known = set(vocabulary.values())
    for number, context in enumerate(ids):
        for token in context:
            if token not in known:
                raise BadDataset(
                    f"Context {number} has the id {token}, which the vocabulary does not have. Put it into the file of "
                    f"{option('vocabulary')}, or leave that out to have ids called by their numbers."
                )


def word_level(vocabulary: Mapping[str, int]) -> PreTrainedTokenizerBase:
    """A tokenizer that has these texts as they are, for what tells ids by a tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(dict(vocabulary))))
