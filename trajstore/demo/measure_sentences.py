"""Sentences of the demo on its measures, of frames as the store has them: what is not there is said not to be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from trajstore.demo.sentences import HALF, LARGEST_R_HAT, Stretch, Training
from trajstore.errors import listed

SINK, COPIES = "bos_attractor", "prefix_matching"


def heads_formed(kinds: pl.DataFrame, training: Training) -> str:
    """Return which heads of which models formed when, from `HeadKinds.frame`."""
    texts = []
    for (model,), part in kinds.group_by("model", maintain_order=True):
        formed = part.filter(pl.col("nearest") != "none").sort("since", maintain_order=True)
        heads = [
            f"{layer}.{head} {kind} {training.text(training.since(since))}"
            for layer, head, kind, since in formed.select("layer", "head", "nearest", "since").iter_rows()
        ]
        texts.append(f"{model}: {', '.join(heads) if heads else f'not seen in any of {part.height}'}")
    return f"Heads that formed, by what they attend to in random tokens repeated: {'; '.join(texts)}."


def sinks_and_induction(kinds: pl.DataFrame, scores: pl.DataFrame, training: Training) -> str:
    """Return whether induction heads form before attention sinks; `scores` are those of sinks: model, layer, head, …"""
    texts, without = [], []
    for (model,), part in kinds.group_by("model", maintain_order=True):
        first = {
            kind: training.since(min(since))
            for kind in (COPIES, SINK)
            if (since := part.filter(nearest=kind)["since"].to_list())
        }
        if len(first) < 2:
            without.append(str(model))
            continue
        when = first[COPIES].order(first[SINK])
        texts.append(
            f"in {model} induction forms {f'{when} sinks' if when else 'when sinks do, as far as steps tell'} "
            f"({first[COPIES].text}; {first[SINK].text})"
        )
    if without:
        highest = scores.filter(pl.col("model").is_in(without)).sort("value").row(-1, named=True)
        texts.append(
            f"cannot tell in {listed(without)}, where not both are seen (a head attends to the first token by at most "
            f"{highest['value']:.2f}, {highest['layer']}.{highest['head']} of {highest['model']} at step "
            f"{highest['step']})"
        )
    return f"Induction before attention sinks? {_upper('; '.join(texts))}."


def missed_heads(ablation: pl.DataFrame, kinds: pl.DataFrame) -> str:
    """Return which head's loss costs most where tokens are repeated, at the last step: model, layer, head, value …"""
    texts = []
    nearest = {
        tuple(row[:3]): row[3] for row in kinds.select("model", "layer", "head", "nearest").iter_rows()
    }
    for (model,), part in ablation.group_by("model", maintain_order=True):
        row = part.sort("value").row(-1, named=True)
        half = HALF * row["stderr"]
        if row["value"] - half <= 0:
            texts.append(f"no head of {model} is missed")
            continue
        kind = nearest.get((model, row["layer"], row["head"]), "none")
        texts.append(
            f"{row['layer']}.{row['head']} of {model} ({kind if kind != 'none' else 'of no kind'}): {row['value']:.2f} "
            f"({row['value'] - half:.2f} to {row['value'] + half:.2f})"
        )
    return (
        "The head without which repeated tokens cost most, in nats a token at the last step: "
        f"{'; '.join(texts)}."
    )


def embeddings_and_induction(models: pl.DataFrame, bumps: Mapping[str, Stretch]) -> str:
    """Return whether induction comes at another time with another position embedding: model, n_layer, kind, seed."""
    alike = models.filter(n_layer=models["n_layer"][0])
    kinds: dict[str, list[Stretch | None]] = {}
    texts = []
    for (kind,), part in alike.group_by("position_embedding", maintain_order=True):
        names = part["model"].to_list()
        kinds[str(kind)] = [bumps.get(name) for name in names]
        when = [f"{bumps[name].text} in {name}" if name in bumps else f"not seen in {name}" for name in names]
        texts.append(f"{kind}: {', '.join(when)}")
    seen = {kind: [bump for bump in of_kind if bump] for kind, of_kind in kinds.items()}
    start = f"Induction by position embedding, models of {alike['n_layer'][0]} layers: {'; '.join(texts)}"
    if len(kinds) < 2 or not all(seen.values()):
        return f"{start}. Whether its time depends on the embedding, cannot tell."
    (first, ours), *others = seen.items()
    for kind, theirs in others:
        orders = {own.order(other) for own in theirs for other in ours}
        order = orders.pop() if len(orders) == 1 else ""
        compared = {"after": "later with", "before": "earlier with"}.get(order, "not at a time apart with")
        seeds, own_seeds = _seeds(len(theirs)), _seeds(len(ours))
        start += f". It comes {compared} {kind} ones ({seeds}) than with {first} ones ({own_seeds})"
    return (
        f"{start}; so few cannot tell whether the embedding is why, and not a difference of seeds or of other parts "
        "of the architectures."
    )


def collapse(events: pl.DataFrame, values: pl.DataFrame, training: Training) -> str:
    """Return when RankMe of the last layer falls and rises, from its events and values by step of one model."""
    rows = values.sort("step")
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    low = rows.row(int(rows["value"].arg_min() or 0), named=True)
    of = f"RankMe of layer {first['layer']} of {first['model']} on {first['dataset']}"
    when = [
        f"{words} fastest {training.text(_stretch(event))}"
        for kind, words in (("fastest_fall", "falls"), ("fastest_rise", "rises"))
        for event in events.filter(kind=kind, series=f"rankme, layer {first['layer']}").iter_rows(named=True)
    ]
    return (
        f"{of}: {first['value']:.1f} at step {first['step']}, lowest {low['value']:.1f} at step {low['step']}, "
        f"{last['value']:.1f} at step {last['step']}; {listed(when) if when else 'no fall or rise is seen'}."
    )


def unigram_first(phases: pl.DataFrame) -> str:
    """Return which of the three phases of «unigram first» each model shows, from `UnigramFirst.frame`."""
    numbered = phases.unique("phase", maintain_order=True).sort("phase")
    courses = "; ".join(
        f"{number} {course}" for number, course in numbered.select("phase", "course").iter_rows()
    )
    models: dict[str, list[str]] = {}
    for (model,), part in phases.group_by("model", maintain_order=True):
        answers: dict[str, list[str]] = {}
        for row in part.iter_rows(named=True):
            border = f", {'begins' if row['phase'] == 3 else 'ends'} {_stretch(row).text}"
            answer = f"{row['answer']}{border if row['answer'] == 'seen' else ''}"
            answers.setdefault(answer, []).append(str(row["phase"]))
        text = "; ".join(f"{listed(numbers)} {answer}" for answer, numbers in answers.items())
        models.setdefault(text, []).append(str(model))
    texts = " ".join(f"{listed(names)}: {text}." for text, names in models.items())
    return f"Unigram first on {listed(phases['dataset'].unique().sort())} (phases: {courses})? {texts}"


def unigram_fit(rows: pl.DataFrame) -> str:
    """Return how near one hidden state brings each model to the frequencies of tokens: model, step, value, dataset."""
    texts = []
    for (model,), part in rows.sort("step").group_by("model", maintain_order=True):
        first, last = part.row(0, named=True), part.row(-1, named=True)
        seen = "" if last["value"] < first["value"] else ", not nearer"
        texts.append(f"{model} {first['value']:.2f} → {last['value']:.2f}{seen}")
    return (
        f"One hidden state that makes the output head predict the frequencies of {rows['dataset'][0]}, KL in nats "
        f"from the first to the last step: {', '.join(texts)}."
    )


def plateau(
    events: pl.DataFrame, values: pl.DataFrame, r_hat: pl.DataFrame, learned: str, training: Training
) -> str:
    """Return whether the learning coefficient's plateau ends where a group is learned, of one model."""
    rise, fall = (
        _event(events.filter(series="llc"), "fastest_rise"),
        _event(events.filter(series=learned), "fastest_fall"),
    )
    rows = values.sort("step")
    of = f"Learning coefficient of {rows['model'][0]} on {rows['dataset'][0]}"
    if rise is None or fall is None:
        return f"{of}: no plateau is seen to end."
    ends, falls = _stretch(rise), _stretch(fall)
    before, after = (rows.filter(step=step)["value"][0] for step in (ends.low, ends.high))
    order = ends.order(falls)
    compared = (
        f"{order} {learned} is learned" if order else f"where {learned} is learned, as far as steps tell"
    )
    apart = r_hat.filter(pl.col("value") > LARGEST_R_HAT).sort("step")["step"].to_list()
    chains = (
        f"chains do not agree at steps {listed(map(str, apart))}" if apart else "chains agree at every step"
    )
    return (
        f"{of}: {before:.0f} → {after:.0f} {training.text(ends)}, its fastest rise, {compared} "
        f"({training.text(falls)}); {chains} (R̂ at most {max(r_hat['value']):.2f})."
    )


def _event(events: pl.DataFrame, kind: str) -> dict[str, Any] | None:
    """The one event of a kind, the first of several."""
    rows = events.filter(kind=kind).sort("step")
    return rows.row(0, named=True) if rows.height else None


def _stretch(event: Mapping[str, Any]) -> Stretch:
    return Stretch(event["low"], event["high"])


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"{number} seeds"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
