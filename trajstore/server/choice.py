"""The parameters of a request, as a selection and plain values; each is checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from starlette.datastructures import QueryParams

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.arguments.choices import IntervalKind
from trajstore.errors import BadOption, MissingParameter, UnknownName
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

_MOST_NAMES = 1000
_MOST_TEXT = 20_000


class Parameters:
    """Parameters of a request; several names are joined by commas, or given again."""

    def __init__(self, store: Store, values: QueryParams) -> None:
        self._store = store
        self._values = values

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a parameter's text; raises `BadOption` for one that is too long."""
        value = self._values.get(name)
        if value is not None and len(value) > _MOST_TEXT:
            raise BadOption(name, value[:40] + "…", f"at most {_MOST_TEXT:,} characters")
        return value or default

    def required(self, name: str) -> str:
        """Return a parameter's text; raises `MissingParameter`."""
        if (value := self.text(name)) is None:
            raise MissingParameter("This address", {name: ""})
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of a few words, the first by default; raises `BadOption`."""
        value = self.text(name) or choices[0]
        if value not in choices:
            raise BadOption(name, value, f"one of {', '.join(choices)}")
        return value

    def integer(self, name: str, default: int | None = None, least: int = 0, most: int = 2**53) -> int:
        """Return a whole number; raises `BadOption`, and `MissingParameter` where there is no default."""
        if default is not None and self.text(name) is None:
            return default
        text = self.required(name)
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise BadOption(name, text, f"a whole number from {least} to {most}")
        return int(text)

    def number(self, name: str, default: float) -> float:
        """Return a number; raises `BadOption`."""
        text = self.text(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise BadOption(name, text, "a number")
        return value

    def names(self, name: str) -> list[str] | None:
        """Return names, None where there are none; raises `BadOption` for too many."""
        texts = [text for value in self._values.getlist(name) for text in value.split(",") if text.strip()]
        if len(texts) > _MOST_NAMES:
            raise BadOption(name, f"{len(texts)} names", f"at most {_MOST_NAMES}")
        return [text.strip() for text in texts] or None

    def groups(self) -> list[str] | None:
        """Return the groups or expressions of them in `groups`, joined by commas or semicolons, or given again."""
        texts = [text.strip() for value in self._values.getlist("groups") for text in _apart(value)]
        if len(texts) > _MOST_NAMES or sum(map(len, texts)) > _MOST_TEXT:
            raise BadOption("groups", f"{len(texts)} groups", f"at most {_MOST_NAMES}")
        return list(filter(None, texts)) or None

    def models(self) -> list[str] | None:
        """Return the names or globs in `models`, each of which fits a model of the store; raises `UnknownName`."""
        names = self.names("models")
        if names is not None:
            self._store.models(names)
        return names

    def datasets(self) -> list[str] | None:
        """Return the datasets in `datasets`; raises `UnknownName`."""
        names = self.names("datasets")
        for name in names or ():
            self._store.dataset(name)
        return names

    def model(self, name: str = "model") -> str:
        """Return the model in a parameter, or the one in `models`; raises `UnknownName` and `BadOption`."""
        value = self._one(name)
        if value not in (known := self._store.model_names()):
            raise UnknownName("model", value, known, "Score one: trajstore score MODEL --dataset D")
        return value

    def dataset(self, name: str = "dataset") -> str:
        """Return the dataset in a parameter, or the one in `datasets`; raises `UnknownName` and `BadOption`."""
        return self._store.dataset(self._one(name)).name

    def _one(self, name: str) -> str:
        """The one value of a parameter, or of the one whose name is its plural."""
        if self.text(name) is None and (several := self.names(f"{name}s")):
            if len(several) > 1:
                raise BadOption(f"{name}s", ",".join(several), "one of them, for one is looked at here")
            return several[0]
        return self.required(name)

    def selection(self) -> Selection:
        """Return the selection of losses in `models`, `datasets`, `steps`, `contexts`, `align` and `group`."""
        return Selection(
            datasets=self.datasets(),
            models=self.models(),
            steps=self.text("steps") or "all",
            contexts=self.text("contexts"),
            align="after" if self.choice("align", ("predict", "after")) == "after" else "predict",
            group=self.text("group"),
        )


_PART = re.compile(r"""'[^']*'|"[^"]*"|.""", re.DOTALL)


def _apart(text: str) -> list[str]:
    """The parts of a text between commas and semicolons that stand in no brackets and no quotes."""
    parts, depth = [""], 0
    for part in _PART.findall(text):
        depth += (part in "([{") - (part in ")]}")
        if part in ",;" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += part
    return parts


def interval_of(parameters: Parameters, *kinds: IntervalKind) -> Interval:
    """Return the interval in `ci` and `level`, of the kinds bootstrap, none and those given; raises `BadOption`."""
    kind = parameters.choice("ci", ("bootstrap", "none", *kinds))
    return Interval(cast("IntervalKind", kind), parameters.number("level", 0.95))
