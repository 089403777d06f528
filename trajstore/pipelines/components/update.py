"""Components of a finding brought up to date: what is new is read, and the rest is known from its Gram matrix.

New contexts and datasets are read for their own dot products alone, and new checkpoints take one pass for theirs. What
comes of it is what a fit from scratch comes to. Loadings depend on all rows and columns, and are computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trajstore.analysis.components.gram import RowCentring, Treatment, products, products_of
from trajstore.analysis.components.methods import Method
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError, listed
from trajstore.pipelines.components.pca import KIND, PrincipalComponents, finish
from trajstore.pipelines.slice_hashes import hash_columns, hashes_now
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.matrix.blocks import BLOCK_BYTES
from trajstore.store.matrix.matrix import Sites
from trajstore.store.matrix.selection import Inputs, Selection, datasets_of, resolve, sites_in

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Changes:
    """The changes of a finding's selection in its update."""

    datasets: Sequence[str] = ()
    """Beside those it has."""
    models: Sequence[str] | None = None
    """Names or globs, beside those it has."""
    steps: str | None = None
    """In the place of its own, as those that follow."""
    contexts: str | None = None
    components: int | None = None


def update(
    store: Store,
    name: str,
    changes: Changes | None = None,
    progress: Progress = SILENT,
    limit: int = BLOCK_BYTES,
) -> PrincipalComponents:
    """The components of a finding with what its selection takes in by now; nothing is written.

    Raises `UnknownName`, and `TrajstoreError` where an update cannot come to what a fit from scratch does: for a
    finding that was scaled or made with missing losses, one whose losses or tokens have changed, or a selection that
    has not all that went into it.
    """
    made, new = store.finding(KIND, name), changes or Changes()
    old = Selection(**made.facts["asked"])
    method = _method(made, new.components)
    inputs, before = resolve(store, _merged(old, new)), _inputs_then(store, made, old)
    _require_unchanged(store, made, inputs, before)
    rows = _rows_as_then(made, inputs, method)
    gram = _grown(store, made, inputs, before, rows, method.treatment, progress, limit)
    blocks = inputs.blocks(store, False, progress, limit)
    return finish(store, inputs, method, rows, blocks, gram, progress)


def _grown(
    store: Store,
    made: Finding,
    inputs: Inputs,
    before: Inputs,
    rows: RowCentring,
    treatment: Treatment,
    progress: Progress,
    limit: int,
) -> np.ndarray:
    """The Gram matrix of the rows and columns that there are now, from that of those that there were."""
    place = {row: number for number, row in enumerate(inputs.checkpoints)}
    old = np.array([place[row] for row in before.checkpoints])
    gram = np.zeros((len(place), len(place)))
    for at, known in zip(old, made.table("gram")["products"].to_list(), strict=True):
        gram[at, old[: len(known)]] = gram[old[: len(known)], at] = known
    new = np.setdiff1d(np.arange(len(place)), old)
    if len(new):
        old_columns = replace(inputs, sites=before.sites).blocks(store, False, progress, limit)
        with bar(progress, "dot products of new checkpoints", old_columns.reads, "slices"):
            dots = products_of(old_columns, rows, new, treatment)
        gram[new] = dots
        gram[:, new] = dots.T
        del old_columns  # it may hold a block
    then = {chosen.dataset.name: chosen for chosen in before.sites}
    added = [_without(chosen, then.get(chosen.dataset.name)) for chosen in inputs.sites]
    if more := [chosen for chosen in added if len(chosen.tokens)]:
        beside = replace(inputs, sites=more).blocks(store, False, progress, limit)
        with bar(progress, "dot products on new contexts", beside.reads, "slices"):
            gram += products(beside, rows, treatment)
    return gram


def _without(sites: Sites, others: Sites | None) -> Sites:
    """The sites that are not among others of the same dataset."""
    if others is None:
        return sites
    new = ~np.isin(sites.tokens, others.tokens)
    take = np.arange(len(sites.tokens)) if sites.take is None else sites.take
    return Sites(sites.dataset, sites.tokens[new], take[new])


def _inputs_then(store: Store, made: Finding, selection: Selection) -> Inputs:
    """The rows and columns that went into a finding; raises `TrajstoreError` where those columns are others by now."""
    rows = made.table("gram").select("model", "step").rows()
    sites = [sites_in(store, selection, name) for name in datasets_of(store, selection)]
    for chosen in sites:
        then = made.facts["datasets"][chosen.dataset.name]
        if then["tokens_sha256"] != chosen.dataset.tokens_sha256:
            raise _stale(made, f"the tokens of {chosen.dataset.name} are others")
        if then["columns_sha256"] != hash_columns(chosen):
            raise _stale(made, f"the group {selection.group} takes in other tokens of {chosen.dataset.name}")
    return Inputs(selection, rows, sites)


def _require_unchanged(store: Store, made: Finding, inputs: Inputs, before: Inputs) -> None:
    """Raise `TrajstoreError` where a slice is not what it was, or the selection has not all that went in."""
    gone = [f"{model} at step {step}" for model, step in set(before.checkpoints) - set(inputs.checkpoints)]
    now = {chosen.dataset.name: chosen for chosen in inputs.sites}
    gone += [
        f"contexts of {chosen.dataset.name}"
        for chosen in before.sites
        if not np.isin(chosen.tokens, now[chosen.dataset.name].tokens).all()
    ]
    if gone:
        raise TrajstoreError(
            f"An update only adds, and this one would lack {listed(sorted(gone), 6)}, which went into the finding "
            f"{made.name}. Choose those as well, or make another finding."
        )
    then = made.table("slices")
    changed = then.join(hashes_now(store, then), on=then.columns, how="anti", maintain_order="left")
    for model, step, dataset, _ in changed.head(1).iter_rows():
        raise _stale(made, f"the losses of {model} on {dataset} at step {step} are others")


def _stale(made: Finding, reason: str) -> TrajstoreError:
    return TrajstoreError(
        f"The finding {made.name} cannot be brought up to date: {reason} than those it was made of. Make it anew with "
        f"the options it was made with (trajstore finding show) and {option('replace')}."
    )


def _rows_as_then(made: Finding, inputs: Inputs, method: Method) -> RowCentring:
    """The rows, less the reference row that was subtracted then."""
    model, step = made.facts["reference"]
    reference = inputs.checkpoints.index((model, step))
    return RowCentring.of([name for name, _ in inputs.checkpoints], method.treatment.center, reference)


def _method(made: Finding, components: int | None) -> Method:
    """Return the method of a finding; raises `TrajstoreError` where that cannot be continued."""
    facts = made.facts
    treatment = Treatment(facts["center"], facts["scale"], facts["missing"], facts.get("precision", "double"))
    why = [
        words
        for words, true in (
            (option("method", facts["method"]), facts["method"] != "full"),
            (option("scale"), treatment.scale),
            (option("missing", treatment.missing), treatment.missing != "error"),
        )
        if true
    ]
    if why:
        raise BadOption("update", made.name, f"a finding that was made without {' and '.join(why)}")
    return Method("full", components or facts["components"], treatment)


def _merged(old: Selection, changes: Changes) -> Selection:
    """The selection of an update."""
    datasets = list(dict.fromkeys([*(old.datasets or ()), *changes.datasets]))
    models = old.models
    if models is not None and changes.models is not None:
        models = list(dict.fromkeys([*models, *changes.models]))
    return replace(
        old,
        datasets=datasets,
        models=models,
        steps=changes.steps or old.steps,
        contexts=changes.contexts or old.contexts,
    )
