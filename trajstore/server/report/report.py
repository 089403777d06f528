"""The report: the page of `trajstore serve` with its data, as one file or as a folder for a static host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.arguments import defaults
from trajstore.errors import BadTarget, PlotError
from trajstore.output_files import check_new_folder, check_room, check_target, whole_folder, write_whole
from trajstore.progress import SILENT, bar
from trajstore.server.report.page import document, fill_folder
from trajstore.store.files import coverage
from trajstore.version import __version__

if TYPE_CHECKING:
    import numpy as np

    from trajstore.arguments.choices import Align
    from trajstore.progress import Progress
    from trajstore.server.report.content import ContextChoice, ReportScope
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Mark

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
    split: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Writes the page for these datasets, models (names or globs) and groups, by default all; returns its path.

    The token view holds the first `contexts` of each dataset (at least one), or with `worst` those of highest mean loss
    at the models' last steps, and of each model as many steps as keep its losses near 8 MB, at least 12. `align` is
    "predict" (the losses of the groups' tokens) or "after" (of the tokens that follow them). All findings kept of these
    models and datasets are shown; `findings` are sentences of plain text for the top, by default one of each finding.
    Slices with some contexts only are counted, and shown nowhere else.

    With `split` it is a new folder for a static host, whose page reads the losses of tokens from the store's own
    slices, at all steps; copies of them lie in it, so that nothing done to the folder reaches the store.

    Raises `BadTarget` where nothing can be written there, `PlotError` where nothing is scored completely, `UnknownName`
    for names not there.
    """
    from trajstore.server.report.content import ContextChoice, gather
    from trajstore.store.matrix.matrix import check_align

    if Path(out).resolve().is_relative_to(store.path.resolve()):
        raise BadTarget(f"{out} lies in the store, which holds its own files alone. Give a path outside it.")
    target = check_new_folder(out) if split else check_target(out, (".html",))
    title = title.encode(errors="replace").decode()  # a command line's bytes need not be text
    check_align(align)
    subject = _choose(
        store, dataset, models, groups, align, tuple(marks), ContextChoice(max(1, contexts), worst), split
    )
    if split:
        check_room(target, _slice_bytes(store, subject))
    with bar(progress, "report", len(subject.datasets), "datasets"):
        content = gather(store, subject, progress)
    sentences = findings or [f"{each['title']}. {each['text']}" for each in content.facts["analyses"]]
    content.facts |= {
        "title": title,
        "lead": _lead(store, subject),
        "sentences": list(sentences),
        "version": __version__,
    }
    if split:
        with whole_folder(target) as folder:
            fill_folder(folder, title, content.packed(), store.path, content.slices)
        return target
    progress.say(f"Losses are held in 16 bits: at most {content.told_error:.2g} nats from the store's.")
    return write_whole(target, document(title, content.packed()))


def _choose(
    store: Store,
    dataset: str | Sequence[str] | None,
    models: str | Sequence[str] | None,
    groups: Sequence[str] | None,
    align: Align,
    marks: tuple[Mark, ...],
    contexts: ContextChoice,
    split: bool,
) -> ReportScope:
    """Resolve names, and leave out what has no slice."""
    from trajstore.server.report.content import ReportScope
    from trajstore.store.matrix.selection import Selection

    chosen = list(dict.fromkeys(Selection(dataset, models).datasets or store.dataset_names()))
    facts = {name: store.dataset(name) for name in chosen}
    names = store.models(models)
    lines = [
        line for line in store.coverage() if line.model in names and line.dataset in chosen and line.steps
    ]
    if all(len(line.steps) == len(line.partial) for line in lines):
        raise PlotError(
            f"There are no {'complete ' if lines else ''}losses of these models on these datasets in {store.path}, "
            "so there is nothing to report. Score a model first: trajstore score MODEL --dataset D"
        )
    held = {name: _tokens_held(dataset.lengths, contexts) for name, dataset in facts.items()}
    a_step = sum(2 * held[line.dataset] for line in lines)
    known = store.groups.names() if groups is None else list(groups)
    return ReportScope(
        datasets=[name for name in chosen if any(line.dataset == name for line in lines)],
        measured=chosen,
        models=[name for name in names if any(line.model == name for line in lines)],
        coverage=lines,
        groups=sorted(known, key=lambda name: name != _FIRST_GROUP),
        align=align,
        marks=marks,
        contexts=contexts,
        step_limit=None if split else max(_FEWEST_STEPS, _TOKEN_BYTES // a_step),
    )


def _slice_bytes(store: Store, subject: ReportScope) -> int:
    """Bytes of the complete slices, copies of which lie in a folder."""
    return sum(
        size
        for line in subject.coverage
        for step, size in coverage.sizes_of(store.path, line.model, line.dataset).items()
        if step not in line.partial
    )


def _tokens_held(lengths: np.ndarray, contexts: ContextChoice) -> int:
    """Most tokens that so many contexts of a dataset have."""
    import numpy as np

    first = np.sort(lengths)[::-1] if contexts.worst else lengths
    return int(first[: contexts.count].sum())


def _lead(store: Store, subject: ReportScope) -> str:
    """Return a sentence on what the report is of."""
    slices = sum(len(line.steps) for line in subject.coverage)
    counts = ((len(subject.models), "model"), (len(subject.datasets), "dataset"), (slices, "slice"))
    lead = ", ".join(f"{n:,} {word}{'s' * (n != 1)}" for n, word in counts)
    return f"Per-token losses of the store “{store.path.name}”, in nats: {lead}."
