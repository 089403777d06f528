"""Contexts to look at, by their text or by how much a group changed in them; and what is known of their tokens."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from starlette.routing import BaseRoute

from trajstore.errors import GroupError, NothingChosen, QueryError
from trajstore.progress import SILENT, Progress
from trajstore.server.cache import ByteCache
from trajstore.server.endpoints import Ask, frames
from trajstore.server.panes.tokens import require_context, token_frame
from trajstore.store.files import group_files
from trajstore.store.files.datasets import Dataset
from trajstore.store.groups.kept_tables import ACROSS_CONTEXTS, VIEWS, KeptTables, kept_tables
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.context_sums import context_sums
from trajstore.store.matrix.selection import Selection, sites_by_group
from trajstore.store.queries import query
from trajstore.store.store import Store
from trajstore.text import join_pieces

MOST = 50
"""Contexts that are listed."""
_SNIPPET = 48
"""Characters of a context's text on either side of what was looked for."""
_STARTS = 24
"""Tokens with which a context is shown."""
_BLOCK = 16
"""Contexts in a block."""
_MASKS: ByteCache[np.ndarray] = ByteCache(64 << 20)
"""Of the groups that come with trajstore, which tokens of some contexts are in each, a bit a token."""

FOUND = {"context": pl.Int64, "score": pl.Float64, "snippet": pl.String}
"""Columns of contexts that were looked for."""


def routes() -> Sequence[BaseRoute]:
    """The endpoints."""
    return [
        frames("find", _find),
        frames("token_groups", _token_groups),
        frames("token_findings", _token_findings),
    ]


def _find(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    if (text := chosen.text("text")) is not None:
        return with_text(ask.store, chosen.dataset(), text)
    selection = chosen.selection()
    return by_change(ask.store, selection, chosen.dataset(), selection.group or "every_token", ask.progress)


def _token_groups(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    groups = chosen.groups()
    return token_groups(ask.store, chosen.dataset(), chosen.integer("context"), groups, ask.progress)


def _token_findings(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    return token_findings(ask.store, chosen.dataset(), chosen.integer("context"), chosen.integer("position"))


def with_text(store: Store, dataset: str, text: str) -> pl.DataFrame:
    """The first contexts whose text has this in it, in capitals or not, with what stands around it: as `FOUND`."""
    ask = (
        "SELECT context, text FROM context_texts WHERE dataset = $dataset AND contains(lower(text), lower($text)) "
        f"ORDER BY context LIMIT {MOST}"
    )
    rows, _ = query.frame(store, ask, parameters={"dataset": dataset, "text": text})
    snippets = []
    for whole in rows["text"]:
        at = max(0, whole.lower().find(text.lower()))
        snippets.append(_with_bytes(whole[max(0, at - _SNIPPET) : at + len(text) + _SNIPPET]))
    return pl.DataFrame(
        {"context": rows["context"].cast(pl.Int64), "score": [None] * len(snippets), "snippet": snippets},
        schema=FOUND,
    )


def by_change(
    store: Store, selection: Selection, dataset: str, group: str, progress: Progress = SILENT
) -> pl.DataFrame:
    """The contexts in which a group's mean loss changed most from the first to the last step: as `FOUND`.

    Looked at are the selection's contexts, with its alignment. The score is the change in nats, the mean over the
    selection's models that have two steps. Raises as `trajectories`.
    """
    rows = checkpoints(store.scored(selection.models), [dataset], selection.models, selection.steps)
    by_model = {
        model: [step for name, step in rows if name == model] for model in dict.fromkeys(m for m, _ in rows)
    }
    ends = [(model, steps[end]) for model, steps in by_model.items() if len(steps) > 1 for end in (0, -1)]
    if not ends:
        raise NothingChosen("No model has two of these steps on it, so nothing changed. Choose more steps.")
    within = Selection([dataset], contexts=selection.contexts, align=selection.align)
    sites = sites_by_group(store, within, dataset, [group])
    sums = context_sums(store.path, ends, sites, "nan", progress=progress)[group]
    means = sums.sums / sums.tokens
    changes = (means[1::2] - means[::2]).mean(axis=0)  # NaN where a model lacks the context
    known = np.flatnonzero(np.isfinite(changes))
    chosen = known[np.argsort(-np.abs(changes[known]), kind="stable")[:MOST]]
    contexts = sums.contexts[chosen]
    return pl.DataFrame(
        {
            "context": contexts,
            "score": changes[chosen],
            "snippet": _beginnings(store, dataset, contexts.tolist()),
        },
        schema=FOUND,
    )


def _beginnings(store: Store, dataset: str, contexts: Sequence[int]) -> list[str]:
    """The first words of contexts."""
    of = store.dataset(dataset)
    texts = token_frame(store, dataset)["text"]
    return [
        join_pieces(texts.slice(int(of.offsets[context]), min(_STARTS, int(of.lengths[context]))))
        for context in contexts
    ]


_STRAY = re.compile("[\U0010f080-\U0010f0ff]")


def _with_bytes(text: str) -> str:
    """A text of `context_texts` in which the bytes of no whole character stand as they do in a token's text."""
    return _STRAY.sub(lambda match: f"<0x{ord(match[0]) & 255:02X}>", text)


def token_groups(
    store: Store,
    dataset: str,
    context: int,
    groups: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The groups, all by default, that each token of a context is in: position, groups (names joined by ", ").

    A group that cannot be computed is left out, and said.
    """
    require_context(store, dataset, context)
    of = store.dataset(dataset)
    names: list[list[str]] = [[] for _ in range(of.lengths[context])]
    with contextlib.ExitStack() as stack:
        block = _block(of, context)
        tables = functools.cache(lambda: stack.enter_context(kept_tables(store, VIEWS, [of], block)))
        for name in store.groups.names() if groups is None else groups:
            progress.advance(0)
            try:
                inside = _inside(store, name, of, context, tables)
            except (GroupError, QueryError) as error:
                progress.say(f"{name} is left out: {error}")
                continue
            for place in np.flatnonzero(inside):
                names[place].append(name)
    return pl.DataFrame(
        {
            "position": np.arange(len(names), dtype=np.int32),
            "groups": pl.Series([", ".join(of_token) for of_token in names], dtype=pl.String),
        }
    )


def _block(dataset: Dataset, context: int) -> range:
    """Return the contexts whose tokens' groups are looked for together: who reads one reads its neighbours next."""
    start = context - context % _BLOCK
    return range(start, min(start + _BLOCK, dataset.n_contexts))


def _inside(
    store: Store, group: str, dataset: Dataset, context: int, tables: Callable[[], KeptTables]
) -> np.ndarray:
    """Return which tokens of a context are in a group, bool (tokens,); `tables` are those of its block."""
    shipped = group in group_files.shipped()
    in_block = shipped and group not in ACROSS_CONTEXTS
    contexts = _block(dataset, context) if in_block else range(dataset.n_contexts)
    first, end = dataset.offsets[contexts.start], dataset.offsets[contexts.stop]

    def mask() -> np.ndarray:
        inside = np.zeros(end - first, dtype=bool)
        inside[store.groups.members(group, dataset, tables() if in_block else None) - first] = True
        return np.packbits(inside)

    # A group of the store's own may look at losses, which change.
    packed = _MASKS.get((dataset.files_sha256, group, contexts), mask) if shipped else mask()
    inside = np.unpackbits(packed, count=end - first).astype(bool)
    return inside[dataset.offsets[context] - first : dataset.offsets[context + 1] - first]


_FINDINGS = {
    "shapes": "SELECT 'shape', finding, model, shape FROM shapes",
    "pca": "SELECT 'loading', finding, 'component ' || component, round(loading, 6)::VARCHAR FROM pca_loadings",
    "spikes": "SELECT 'spike', finding, model || ' at ' || spike, token_class::VARCHAR FROM spike_tokens",
}
_SITE = " WHERE dataset = $dataset AND context = $context AND position = $position ORDER BY ALL"


def token_findings(store: Store, dataset: str, context: int, position: int) -> pl.DataFrame:
    """The findings that name a token: what (shape, loading, spike), finding, of, value, all String."""
    columns = ("what", "finding", "of", "value")
    site = {"dataset": dataset, "context": context, "position": position}
    kinds = {finding.kind for finding in store.findings()}
    parts = [
        query.frame(store, text + _SITE, parameters=site)[0].rows()
        for kind, text in _FINDINGS.items()
        if kind in kinds
    ]
    rows = [row for part in parts for row in part]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
