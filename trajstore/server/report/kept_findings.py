"""Kept findings as the report shows them: of each a sentence, charts and tables, made from the finding's own tables.

Losses are read again only for what a finding does not hold: the mean loss under its spikes or events, and examples of
shapes. Where those losses are gone, the tables are shown alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import option
from trajstore.errors import TrajstoreError, describe_error, listed
from trajstore.server.report import findings
from trajstore.server.report.findings.table import PageTable
from trajstore.view.charts.chart import Mark
from trajstore.view.figures.axes import NAMED

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart

KINDS = tuple(module.name for module in pkgutil.iter_modules(findings.__path__) if module.name != "table")
"""Kinds of findings that have a sentence and charts: those with a module in `findings`."""


@dataclass(frozen=True)
class Analysis:
    """One analysis as the page shows it."""

    kind: str
    name: str
    text: str
    """Sentences: what it is of, and what came of it."""
    charts: tuple[Chart, ...] = ()
    tables: tuple[PageTable, ...] = ()

    @property
    def title(self) -> str:
        """Its kind and name."""
        return f"{self.kind}: {self.name}"


def kept_analyses(
    store: Store, models: Collection[str], datasets: Collection[str], marks: Sequence[Mark]
) -> list[Analysis]:
    """All findings of any of these models and datasets, in order of kind and name.

    One of a kind without a module has its tables alone. A finding that cannot be read, or whose losses are not there
    any more, says so in its text.
    """
    return [
        _analysis(store, finding, marks) for finding in store.findings() if _is_of(finding, models, datasets)
    ]


def _is_of(finding: Finding, models: Collection[str], datasets: Collection[str]) -> bool:
    subject = finding.subject
    on = not subject.datasets or not set(subject.datasets).isdisjoint(datasets)  # weights are on none
    return on and not set(subject.models).isdisjoint(models)


def _analysis(store: Store, finding: Finding, marks: Sequence[Mark]) -> Analysis:
    who, on = (listed(names, NAMED) for names in (finding.subject.models, finding.subject.datasets))
    head = f"{who} on {on}, made on {finding.made[:10]}." if on else f"{who}, made on {finding.made[:10]}."
    text, tables, charts = head, tuple[PageTable, ...](), list["Chart"]()
    try:
        if finding.kind not in KINDS:
            every = tuple(PageTable.of(name.capitalize(), frame) for name, frame in finding.tables())
            return Analysis(finding.kind, finding.name, head, (), every)
        parts = importlib.import_module(f"{findings.__name__}.{finding.kind}")
        said, tables = parts.tables(store, finding)
        text = f"{head} {said}".strip()
        charts = list(parts.charts(store, finding, marks))
    except TrajstoreError as error:
        text += f" {'Its charts' if tables else 'It'} cannot be shown: {error}"
    except (LookupError, TypeError, ValueError) as error:
        text += (
            f" {'Its charts' if tables else 'It'} cannot be shown: its facts are not those that this version writes "
            f"({describe_error(error)}). Compute it again, with {option('replace', True)}."
        )
    return Analysis(finding.kind, finding.name, text, tuple(charts), tables)
