"""The report: one self-contained HTML page of a store's groups, principal components and tokens.

The page opens from a file without any network: its content policy forbids every request. Its parts come from
`assets/`; charts, tokens and losses are embedded as JSON in which no `<` remains, so no text can end the script.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from trajstore.arguments import defaults
from trajstore.errors import PlotError
from trajstore.output_files import check_target, write_whole
from trajstore.progress import SILENT
from trajstore.version import __version__

if TYPE_CHECKING:
    import numpy as np

    from trajstore.arguments.choices import Align
    from trajstore.progress import Progress
    from trajstore.store.files.coverage import Coverage
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Mark
    from trajstore.view.report.content import Content, ReportScope
    from trajstore.view.report.tokens import ContextChoice

_ASSETS = Path(__file__).parent / "assets"
_FIRST_GROUP = "every_token"
_TOKEN_BYTES = 8_000_000
_FEWEST_STEPS = 12


def write_report(
    store: Store,
    out: Path | str,
    *,
    dataset: str | Sequence[str] | None = None,
    models: str | Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    align: Align = "predict",
    contexts: int = defaults.REPORT_CONTEXTS,
    worst: bool = False,
    title: str = defaults.REPORT_TITLE,
    marks: Sequence[Mark] = (),
    findings: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Path:
    """Writes the page for these datasets, models (names or globs) and groups, by default all; returns its path.

    The token view holds the first `contexts` of each dataset (at least one), or with `worst` those of highest mean loss
    at the models' last steps, and of each model as many steps as keep its losses near 8 MB, at least 12. `align` is
    "predict" (the losses of the groups' tokens) or "after" (of the tokens that follow them). All findings kept of these
    models and datasets are shown; `findings` are sentences of plain text for the top, by default one of each finding.
    Slices with some contexts only are counted, and shown nowhere else. Raises `BadTarget` where the file cannot be
    written, `PlotError` where nothing is scored completely, `UnknownName` for names not there.
    """
    from trajstore.store.matrix.matrix import check_align
    from trajstore.view.report.content import gather
    from trajstore.view.report.tokens import ContextChoice

    target = check_target(out, (".html",))
    check_align(align)
    subject = _choose(
        store, dataset, models, groups, align, tuple(marks), ContextChoice(max(1, contexts), worst)
    )
    progress.start("report", len(subject.datasets), "datasets")
    try:
        content = gather(store, subject, progress)
    finally:
        progress.stop()
    sentences = findings or [f"{analysis.title}. {analysis.text}" for analysis in content.analyses]
    return write_whole(target, _page(store, subject, title, sentences, content).encode())


def _choose(
    store: Store,
    dataset: str | Sequence[str] | None,
    models: str | Sequence[str] | None,
    groups: Sequence[str] | None,
    align: Align,
    marks: tuple[Mark, ...],
    contexts: ContextChoice,
) -> ReportScope:
    """Resolve names, and leave out what has no slice."""
    from trajstore.store.matrix.selection import Selection
    from trajstore.view.report.content import ReportScope

    chosen = list(dict.fromkeys(Selection(dataset, models).datasets or store.dataset_names()))
    facts = {name: store.dataset(name) for name in chosen}
    names = store.models(models)
    coverage = [
        line for line in store.coverage() if line.model in names and line.dataset in chosen and line.steps
    ]
    if all(len(line.steps) == len(line.partial) for line in coverage):
        raise PlotError(
            f"There are no {'complete ' if coverage else ''}losses of these models on these datasets in {store.path}, "
            "so there is nothing to report. Score a model first: trajstore score MODEL --dataset D"
        )
    held = {name: _tokens_held(dataset.lengths, contexts) for name, dataset in facts.items()}
    a_step = sum(2 * held[line.dataset] for line in coverage)
    known = store.groups.names() if groups is None else list(groups)
    return ReportScope(
        datasets=[name for name in chosen if any(line.dataset == name for line in coverage)],
        models=[name for name in names if any(line.model == name for line in coverage)],
        coverage=coverage,
        groups=sorted(known, key=lambda name: name != _FIRST_GROUP),
        align=align,
        marks=marks,
        contexts=contexts,
        step_limit=max(_FEWEST_STEPS, _TOKEN_BYTES // a_step),
    )


def _tokens_held(lengths: np.ndarray, contexts: ContextChoice) -> int:
    """Most tokens that so many contexts of a dataset have."""
    import numpy as np

    first = np.sort(lengths)[::-1] if contexts.worst else lengths
    return int(first[: contexts.count].sum())


def _page(store: Store, subject: ReportScope, title: str, findings: Sequence[str], content: Content) -> str:
    from plotly.offline import get_plotlyjs

    from trajstore.view.charts.plotly import OFFLINE

    slices = sum(len(line.steps) for line in subject.coverage)
    counts = ((len(subject.models), "model"), (len(subject.datasets), "dataset"), (slices, "slice"))
    lead = ", ".join(f"{n:,} {word}{'s' * (n != 1)}" for n, word in counts)
    parts = {
        "policy": OFFLINE,
        "title": html.escape(title),
        "lead": html.escape(f"Per-token losses of the store “{store.path.name}”, in nats: {lead}."),
        "hidden": "" if findings else "hidden",
        "findings": "\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in findings),
        "coverage": _coverage_table(store, subject),
        "footer": html.escape(
            f"Made by trajstore {__version__}. This page holds all it shows and loads nothing."
        ),
        "css": _asset("report.css"),
        "script": _asset("report.js"),
        "plotly": get_plotlyjs(),
        "data": content.json(),
    }
    return Template(_asset("report.html")).substitute(parts)


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8").rstrip()


def _coverage_table(store: Store, subject: ReportScope) -> str:
    """Models down, datasets across: steps there, those of them there in part, and missing."""
    cells = {(line.model, line.dataset): line for line in subject.coverage}
    heads = []
    for name in subject.datasets:
        facts = store.dataset(name)
        size = f"{facts.n_contexts:,} contexts, {facts.n_tokens:,} tokens"
        heads.append(f'<th scope="col">{html.escape(name)}<small>{size}</small></th>')
    rows = [
        f'<tr><th scope="row">{html.escape(model)}{_model_facts(store, model)}</th>'
        + "".join(_cell(cells.get((model, name))) for name in subject.datasets)
        + "</tr>"
        for model in subject.models
    ]
    head = f'<tr><th scope="col">model</th>{"".join(heads)}</tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(coverage: Coverage | None) -> str:
    if coverage is None:
        return "<td>none</td>"
    counts = ((len(coverage.partial), "partial"), (len(coverage.missing), "missing"))
    missing = "".join(f", {n} {word}" for n, word in counts if n)
    first, last = coverage.steps[0], coverage.steps[-1]
    if first == last:
        return f"<td>1 step{missing}<small>{first}</small></td>"
    return f"<td>{len(coverage.steps)} steps{missing}<small>{first} to {last}</small></td>"


def _model_facts(store: Store, model: str) -> str:
    """Return the facts of a model, under its name."""
    facts = store.model(model)
    if facts is None:
        return ""
    known = (
        (facts.family, "{}"),
        (facts.n_layer, "layers: {}"),
        (facts.n_params, "parameters: {:,}"),
        (facts.seed, "seed: {}"),
    )
    words = ", ".join(form.format(value) for value, form in known if value is not None)
    return f"<small>{html.escape(words)}</small>" if words else ""
