"""Prefix matching: how much a head attends from a token to what followed the same token earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from trajstore.errors import BadMeasures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.heads.attention_scores import SOURCES, AttentionScore, earlier_occurrences

if TYPE_CHECKING:
    from trajstore.measures.heads.attention_scores import Pairs
    from trajstore.measures.streams import Ids

Occurrences = Literal["all", "last"]


class PrefixMatching(AttentionScore):
    """The prefix-matching score of every head."""

    name = "prefix_matching"
    nothing = "no token of these contexts occurs twice; take contexts with repeats"

    def __init__(self, offset: int, occurrences: Occurrences) -> None:
        if occurrences not in get_args(Occurrences):
            raise BadMeasures(f"prefix_matching: occurrences are all or last, and not {occurrences!r}.")
        self.offset, self.occurrences = offset, occurrences

    def params(self) -> dict[str, Any]:
        """Which earlier tokens count."""
        return {"offset": self.offset, "occurrences": self.occurrences}

    def pairs_of(self, ids: Ids) -> Pairs:
        """A token with each position that is the offset after an earlier occurrence of it, or after the last."""
        rows, columns = earlier_occurrences(ids)
        if self.occurrences == "last" and len(rows):
            last = np.append(rows[1:] != rows[:-1], True)
            rows, columns = rows[last], columns[last]
        columns = columns + self.offset
        seen = (columns >= 0) & (columns <= rows)
        return rows[seen], columns[seen]


DEFINITIONS = (
    MeasureDefinition(
        "prefix_matching",
        formula="mean over tokens i of Σⱼ A[i, j + offset], j the earlier positions of the same token",
        unit="1",
        stream=PrefixMatching,
        needs=("attention",),
        axes=("layer", "head", "context"),
        parameters={"offset": 1, "occurrences": "all"},
        cost="probe",
        source=SOURCES,
        meaning=(
            "1 for a head that attends to nothing but what followed the same token earlier, as induction heads do. "
            "Texts differ in the offset, 1 here: the token after. With occurrences=last only the most recent counts."
        ),
    ),
)
