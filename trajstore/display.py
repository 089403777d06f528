"""A line for a result where Python shows one, in place of its arrays; in a notebook also its tables' first rows."""

from __future__ import annotations

import html
import importlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trajstore.errors import UnknownName, listed

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.view.charts.chart import Chart
    from trajstore.view.charts.save import Plot

_ROWS = 10
"""Rows of a table that are shown in a notebook."""
_NAMES = 4
"""Names that are listed before the rest is counted."""


class Brief:
    """A result that shows itself by `brief` and `tables`; a dataclass of this base is made with `repr=False`."""

    def brief(self) -> str:
        """Describe it in a line: its fields, arrays and tables by their shape."""
        assert is_dataclass(self)
        descriptions = (_field(field.name, getattr(self, field.name)) for field in fields(self) if field.repr)
        return ", ".join(filter(None, descriptions))

    def tables(self) -> Iterator[tuple[str, Any]]:
        """(name, Polars frame) of its tables, for a notebook."""
        assert is_dataclass(self)
        for field in fields(self):
            if _is_frame(value := getattr(self, field.name)):
                yield field.name, value

    def table(self, name: str) -> Any:
        """One of its tables by its name; raises `UnknownName`."""
        known = dict(self.tables())
        if name not in known:
            raise UnknownName("table of this result", name, list(known))
        return known[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.brief()})"

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{type(self).__name__}</b>: {html.escape(self.brief())}</p>"]
        for name, frame in self.tables():
            parts.append(f"<p>{html.escape(name)}: {count(frame.height, 'row')}</p>")
            parts.append(_table(frame.head(_ROWS)))
        return "".join(parts)


def count(number: int, noun: str, nouns: str = "") -> str:
    """A number of things: «1 step», «2 steps»."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def duration(seconds: float) -> str:
    """A span of time for people: «4.2 s», «45 s», «12 min», «3.2 h», «2.1 days»."""
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


class Drawn(Brief):
    """A result that can be drawn, by a function of the package `view` that is loaded when something is drawn."""

    drawn_by: ClassVar[str]
    """MODULE:FUNCTION, which takes the result and returns its charts."""

    def charts(self) -> list[Chart]:
        """Descriptions of its charts; raises `PlotError` where there is nothing to draw."""
        module, _, function = self.drawn_by.partition(":")
        made: list[Chart] = getattr(importlib.import_module(module), function)(self)
        return made

    def plot(self, path: Path | str | None = None) -> Plot:
        """The charts, which a notebook shows; with `path` written to that file too, by the suffixes of `save_chart`.

        Raises `BadTarget` and `PlotError`.
        """
        drawn: Plot = importlib.import_module("trajstore.view.charts.save").Plot(tuple(self.charts()))
        if path is not None:
            drawn.save(path)
        return drawn


def plural(unit: str) -> str:
    """Several of what is resampled: contexts, documents, categories; of several kinds, units of text."""
    return {"category": "categories", "unit": "units of text"}.get(unit, f"{unit}s")


def of_checkpoints(checkpoints: Iterable[Sequence[Any]]) -> str:
    """«2 models (a, b), 8 steps (0 to 64)» of rows that begin with (model, step)."""
    pairs = [(str(row[0]), int(row[1])) for row in checkpoints]
    models, steps = list(dict.fromkeys(model for model, _ in pairs)), sorted({step for _, step in pairs})
    if not pairs:
        return "no checkpoints"
    span = f" ({steps[0]} to {steps[-1]})" if len(steps) > 1 else f" ({steps[0]})"
    return f"{_named(models, 'model')}, {count(len(steps), 'step')}{span}"


def of_names(names: Iterable[Any], noun: str) -> str:
    """«2 datasets (d, e)»."""
    return _named(list(dict.fromkeys(map(str, names))), noun)


def _named(names: Sequence[str], noun: str) -> str:
    return f"{count(len(names), noun)} ({listed(names, _NAMES)})"


def _is_frame(value: object) -> bool:
    return hasattr(value, "height") and hasattr(value, "columns") and hasattr(value, "head")


def _field(name: str, value: Any) -> str:
    """A field in a few words, or "" for one that has no short form."""
    if _is_frame(value):
        return f"{name} {value.height:,} × {len(value.columns)}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{name} {value.dtype} {' × '.join(f'{n:,}' for n in value.shape)}"
    if isinstance(value, Brief):
        return f"{name}: {value.brief()}"
    if isinstance(value, str):
        return f"{name} {value}"
    if value is None or isinstance(value, Mapping):
        return ""
    if isinstance(value, Collection):
        plain = all(isinstance(item, str) for item in value)
        return f"{name} {listed(value, _NAMES)}" if plain and value else f"{len(value):,} {name}"
    return (
        f"{name} {value:g}"
        if isinstance(value, float)
        else f"{name} {value}"
        if isinstance(value, int)
        else ""
    )


def _table(frame: Any) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(cell))}</td>" for cell in row) + "</tr>"
        for row in frame.iter_rows()
    )
    style = (
        "border-collapse: separate; border-spacing: 1em 0"  # marimo's own style leaves no space between cells
    )
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
