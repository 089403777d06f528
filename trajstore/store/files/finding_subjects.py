"""The subject of a finding, read from its facts: models, datasets, groups and steps, under the keys of any analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trajstore.errors import listed

_NAMES = 3
"""Names that are listed before the rest is counted."""


@dataclass(frozen=True)
class FindingSubject:
    """The losses that a finding is of."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """Groups and measures; none where it is of all tokens."""
    steps: str = "all"
    """As they were asked for."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> FindingSubject:
        """The subject of a finding with these facts, also of facts that another version wrote."""
        return cls(
            _names(facts, "models", "model"),
            _names(facts, "datasets", "tokens_sha256"),
            (*_names(facts, "groups", "group"), *_names(facts, "measures"), *_names(facts, "repeated")),
            next((steps for steps in _values(facts, "steps") if isinstance(steps, str)), "all"),
        )

    def __str__(self) -> str:
        """«a, b on d; stopword; steps log»."""
        on = [listed(names, _NAMES) for names in (self.models, self.datasets) if names]
        through = listed(self.groups, _NAMES) if self.groups else ""
        steps = "" if self.steps == "all" else f"steps {self.steps}"
        return "; ".join(filter(None, [" on ".join(on), through, steps]))


def _values(facts: Mapping[str, Any], key: str) -> Iterator[Any]:
    """The values under a key, of the facts and then of the parts that say what was asked for."""
    for part in (facts, *(facts.get(name) for name in ("asked", "selection", "induction"))):
        if isinstance(part, Mapping) and part.get(key):
            yield part[key]


def _names(facts: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """The first names that stand under any of the keys."""
    for key in keys:
        for value in _values(facts, key):
            if isinstance(value, str | list | tuple | Mapping):
                return (value,) if isinstance(value, str) else tuple(map(str, value))
    return ()
