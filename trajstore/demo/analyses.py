"""The demo's analyses, each as anyone would ask for it: spikes, shapes, two seeds compared, induction, measures.

Each keeps its finding in the store, which the report shows, and gives a sentence; a finding of an earlier run is
replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from trajstore.analysis.shapes.shapes import S_SHAPED
from trajstore.demo.corpus import DATASETS
from trajstore.demo.measure_lines import Measured, measure_lines
from trajstore.demo.measure_sentences import (
    SINK,
    collapse,
    embeddings_and_induction,
    heads_formed,
    missed_heads,
    plateau,
    sinks_and_induction,
    unigram_first,
    unigram_fit,
)
from trajstore.demo.measured import REPEATS, TEXT
from trajstore.demo.sentences import Stretch, Training
from trajstore.pipelines import shapes, spikes
from trajstore.pipelines.comparison.comparison import compare
from trajstore.pipelines.measures.head_kinds import head_kinds
from trajstore.pipelines.measures.unigram_first import unigram_first as find_unigram_first
from trajstore.pipelines.phases import Induction, phases
from trajstore.progress import Progress
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

NAME = "demo"
"""Of the findings."""
_TEXTS = ("code", "docs")
_COURSES = ("rankme", "kl_unigram", "interaction_energy", "llc")
"""Measures whose events are looked for."""
_PROBE = "probe-repeats"
_LATE, _EARLY = "position_is(100)", "position_is(20)"
_GAPS = """
SELECT step, avg(gap) AS value, stddev(gap) / sqrt(count(*)) AS stderr FROM (
    SELECT step, context, avg(loss) - any_value(value) AS gap
    FROM losses JOIN measures USING (model, step, dataset, context)
    WHERE name = 'entropy' AND model = $model AND dataset = $dataset GROUP BY ALL
) GROUP BY step
"""
"""How much the loss of a model is above the entropy of its predictions, over contexts, nats."""


def analyse(
    store: Store,
    models: Sequence[str],
    seeds: Sequence[str],
    groups: Sequence[str],
    mix_change: int,
    progress: Progress,
) -> tuple[list[str], list[str]]:
    """A sentence of each, for models of which the first two are seeds of one size if there are more than one.

    Shapes, which take longest, are those of the `seeds` of one size. With the sentences, the lines on single measures.
    """
    induction, bumps = _induction(store, models, progress)
    sentences = [_spikes(store, models[0], progress), _shapes(store, seeds, groups, progress), induction]
    if len(models) > 1:
        sentences.append(_seeds(store, models[:2], progress))
    on_measures, lines = _measures(store, models, bumps, mix_change, progress)
    return [*sentences, *on_measures], lines


def _spikes(store: Store, model: str, progress: Progress) -> str:
    """Return whether the mean loss on text rises and falls back, and what single tokens do then."""
    result = spikes.spikes(store, Selection(_TEXTS, [model]), progress=progress)
    result.keep(NAME, replace=True)
    on = f"{model} on {' and '.join(_TEXTS)}"
    text = spikes.not_found(result.facts)
    of_spikes = []
    for spike in result.spikes:
        shares = dict(spike.shares.filter(window_kind="spike").select("token_class", "share").iter_rows())
        of_spikes.append(
            f"at step {spike.steps[1]} by {spike.height:.2f} nats, between steps {spike.steps[0]} and {spike.steps[2]} "
            f"({shares['follow']:.0%} of the tokens follow it, {shares['inverse']:.0%} go the other way)"
        )
    if of_spikes:
        text = f"The mean loss of {on} rises and falls back {'; '.join(of_spikes)}."
    return text


def _shapes(store: Store, models: Sequence[str], groups: Sequence[str], progress: Progress) -> str:
    """Count the tokens of groups whose course is S-shaped, a power law, or cannot be told."""
    shapes.shapes(store, Selection(DATASETS, models), progress=progress).keep(NAME, replace=True)
    shares = shapes.shares(store, NAME, ["every_token", *groups])
    first = shares.filter(model=models[0]).with_columns(s_shaped=pl.sum_horizontal(S_SHAPED))
    ranked = first.filter(pl.col("group") != "every_token").sort("s_shaped", descending=True)
    every = first.filter(group="every_token").row(0, named=True)
    most = ", ".join(
        f"{group} {share:.0%} ({undecided:.0%} undecided)"
        for group, share, undecided in ranked.select("group", "s_shaped", "undecided").iter_rows()
    )
    return (
        f"Courses of the loss in {models[0]}: {every['s_shaped']:.0%} of all tokens are S-shaped, "
        f"{every['power_law']:.0%} are power laws, and of {every['undecided']:.0%} no shape is decided; S-shaped by "
        f"group: {most}."
    )


def _induction(store: Store, models: Sequence[str], progress: Progress) -> tuple[str, dict[str, Stretch]]:
    """Find when the in-context-learning score and the loss on repeated tokens fall together, in each model."""
    induction = Induction("repeated_half", _LATE, _EARLY)
    result = phases(store, (), Selection(["repeats"], models), induction=induction, progress=progress)
    result.keep(NAME, replace=True)
    bumps = {
        event.model: Stretch(event.low, event.high) for event in result.events if event.kind == "induction"
    }
    said = [f"{model} {bump.text}" for model, bump in bumps.items()]
    without = [f"no such bump in {model}" for model, _ in result.without]
    return f"Induction bump on repeats: {'; '.join([*said, *without])}.", bumps


def _seeds(store: Store, models: Sequence[str], progress: Progress) -> str:
    """Compare two seeds token by token, by step."""
    compared = compare(store, models, selection=Selection(_TEXTS), progress=progress)
    compared.keep(NAME, replace=True)
    pairs = compared.of_pairs().filter(dataset=_TEXTS[1]).sort("step")
    first, last = pairs.row(0, named=True), pairs.row(-1, named=True)
    return (
        f"{models[0]} and {models[1]} on {_TEXTS[1]}: their losses of the same tokens correlate by "
        f"{last['pearson']:.2f} at step {last['step']}, and given each token's frequency by {last['partial']:.2f}, up "
        f"from {first['partial']:.2f} at step {first['step']}."
    )


def _measures(
    store: Store, models: Sequence[str], bumps: Mapping[str, Stretch], mix_change: int, progress: Progress
) -> tuple[list[str], list[str]]:
    """Sentences on measures: of the heads of all models, of the insides of the first one; and a line on each other."""
    kinds = head_kinds(store, Selection([_PROBE], models))
    kinds.keep(NAME, replace=True)
    heads = kinds.frame.sort(pl.col("model").cast(pl.Enum(models)), "layer", "head")
    training = Training(kinds.steps, mix_change)
    first, learned = models[0], "repeated_half"
    rows = _of_models(store, models)
    there = set(rows.filter(model=first)["name"])
    events = phases(
        store,
        [learned],
        Selection([TEXT, REPEATS], [first]),
        [name for name in _COURSES if name in there],
        progress=progress,
    )
    events.keep(f"{NAME}-measures", replace=True)
    phases_of_unigrams = find_unigram_first(store, Selection([TEXT], models))
    phases_of_unigrams.keep(NAME, replace=True)
    of_first = rows.filter(model=first)
    last_layer = max(of_first.filter(name="rankme")["layer"])
    facts = store.sql("SELECT model, n_layer, position_embedding FROM models").pl()
    sentences = [
        heads_formed(heads, training),
        sinks_and_induction(heads, rows.filter(name=SINK), training),
        missed_heads(rows.filter(name="ablation"), heads),
        collapse(events.frame, of_first.filter(name="rankme", layer=last_layer), training),
        unigram_first(phases_of_unigrams.frame),
        unigram_fit(
            rows.filter(pl.col("params").str.contains("model||counts", literal=True), name="unigram_latent")
        ),
    ]
    if len(models) > 1:
        ordered = pl.DataFrame({"model": models}).join(facts, on="model", maintain_order="left")
        sentences.append(embeddings_and_induction(ordered, bumps))
    if "llc" in there:
        llc, r_hat = (of_first.filter(name=name) for name in ("llc", "llc_r_hat"))
        sentences.append(plateau(events.frame, llc, r_hat, learned, training))
    gaps = store.sql(_GAPS, {"model": first, "dataset": TEXT}).pl()
    return sentences, measure_lines(Measured(rows, gaps, heads))


def _of_models(store: Store, models: Sequence[str]) -> pl.DataFrame:
    """The measures over all contexts of these models, in their order."""
    frames = (store.measures(model).filter(pl.col("context").is_null()) for model in models)
    return pl.concat(frames)
