"""A line of the demo on each measure that no sentence is about, of frames as the store has them.

Mostly of one model, from its first checkpoint to its last one; a line says what is not seen, and that a change is no
larger than its standard errors allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from trajstore.demo.sentences import HALF

_ALIKE = 0.5
"""Spearman's correlation from which on two measures are said to go together."""
_DIAGONAL = 0.5
"""A head attends by distance where its matrix changes less than this along its diagonals, as a share of across them."""
_READS = {"Q": "queries", "K": "keys", "V": "values"}


@dataclass(frozen=True)
class Measured:
    """The measures of some models over all contexts, in the order of the models."""

    rows: pl.DataFrame
    """Columns of the view `measures`, of which context is null."""
    gaps: pl.DataFrame
    """step, value, stderr: how much the loss of the first model is above the entropy of its predictions, nats."""
    kinds: pl.DataFrame
    """Of `HeadKinds.frame`: model, layer, head, nearest."""

    @property
    def model(self) -> str:
        """The model that lines are of."""
        return str(self.rows["model"][0])

    def of(self, name: str, **params: str) -> pl.DataFrame:
        """A measure of the first model by step, with these parameters."""
        return with_params(self.rows.filter(model=self.model, name=name), **params).sort("step")

    def last_layer(self, name: str) -> pl.DataFrame:
        """A measure of the first model at its last layer."""
        rows = self.of(name)
        return rows.filter(layer=rows["layer"].max())

    def kind(self, layer: int, head: int) -> str:
        """The kind of one of the first model's heads in brackets; empty for none."""
        nearest = self.kinds.filter(model=self.model, layer=layer, head=head)["nearest"].to_list()
        return f" ({nearest[0]})" if nearest and nearest[0] != "none" else ""


def with_params(rows: pl.DataFrame, **params: str) -> pl.DataFrame:
    """The rows whose params have these values."""
    for key, value in params.items():
        rows = rows.filter(
            pl.Series([json.loads(text).get(key) == value for text in rows["params"]], dtype=pl.Boolean)
        )
    return rows


def measure_lines(measured: Measured) -> list[str]:
    """Return a line for each measure that is there, after one that says of what they are."""
    steps = sorted(measured.rows.filter(model=measured.model)["step"])
    present = [name for name in LINES if measured.of(_KEPT_AS.get(name, name)).height]
    lines = [f"{name}: {LINES[name](measured)}." for name in present]
    heading = f"Measure by measure, {measured.model} from step {steps[0]} to {steps[-1]}:"
    return [heading, *lines] if lines else []


def first_guess(measured: Measured) -> str:
    """Return how many first guesses are right."""
    return _change(measured.of("top_1"), "first guesses are right for {} of the tokens", "{:.1%}")


def rank(measured: Measured) -> str:
    """Return how many tokens are likelier than the one that comes."""
    return _change(
        measured.of("rank"), "{} tokens of the vocabulary are likelier than the one that comes", "{:.3g}"
    )


def entropy(measured: Measured) -> str:
    """Return how unsure predictions are, and where they are surer than right: less unsure than their loss is high."""
    text = _change(measured.of("entropy"), "predictions have {} nats", "{:.2f}")
    gaps = measured.gaps.sort("step")
    most, last = gaps.row(int(gaps["value"].arg_max() or 0), named=True), gaps.row(-1, named=True)
    if most["value"] <= HALF * most["stderr"]:
        return f"{text}; never surer than right"
    half = HALF * last["stderr"]
    way = (
        "surer"
        if last["value"] > half
        else "less sure"
        if last["value"] < -half
        else "neither surer nor less sure"
    )
    return (
        f"{text}; surer than right by {most['value']:.2f} nats at step {most['step']}, the most, and {way} at step "
        f"{last['step']} ({_number('{:.2f}', last['value'])} ± {half:.2f})"
    )


def calibration(measured: Measured) -> str:
    """Return how far the probability of first guesses is from how often they are right."""
    rows = measured.of("calibration_error")
    apart = f"{_ends(rows, '{:.3f}')}, {_peak(rows, '{:.3f}')}"
    return f"how often first guesses are right differs from their probability by {apart}"


def bigram(measured: Measured) -> str:
    """Return whether predictions are near the unigram distribution before the bigram distribution."""
    nearest = {}
    for name in ("kl_unigram", "kl_bigram"):
        rows = measured.of(name, direction="model||counts")
        nearest[name] = rows.row(int(rows["value"].arg_min() or 0), named=True)
    one, two = nearest["kl_unigram"], nearest["kl_bigram"]
    order = "both at once"
    if one["step"] != two["step"]:
        order = "frequencies first" if one["step"] < two["step"] else "pairs first"
    return (
        f"predictions are nearest to how frequent tokens are at step {one['step']} ({one['value']:.2f} nats), to what "
        f"follows the token before at step {two['step']} ({two['value']:.2f}, pairs counted in these contexts alone): "
        f"{order}"
    )


def decay(measured: Measured) -> str:
    """Return how fast the spectrum of the last layer falls, and whether that goes with RankMe."""
    rows, ranks = measured.last_layer("alpha_req"), measured.last_layer("rankme")
    text = f"the spectrum of layer {rows['layer'][0]} falls with the exponent {_ends(rows, '{:.2f}')}"
    both = rows.join(ranks, on="step", suffix="_rank")
    if both.height < 3:
        return text
    rho = float(both.select(pl.corr("value", "value_rank", method="spearman")).item())
    with_ranks = (
        "with RankMe"
        if rho >= _ALIKE
        else "against RankMe"
        if rho <= -_ALIKE
        else "its own way beside RankMe"
    )
    return f"{text}; step by step it goes {with_ranks} (Spearman {_number('{:.2f}', rho)})"


def dimension(measured: Measured) -> str:
    """Return the intrinsic dimension of the last layer's states."""
    rows = measured.last_layer("twonn")
    number = json.loads(rows["params"][-1])["number"]
    values = f"{_ends(rows, '{:.1f}')}, {_peak(rows, '{:.1f}')}"
    return f"layer {rows['layer'][0]} has the dimension {values}; of {number} states, so roughly"


def directions(measured: Measured) -> str:
    """Return into how many directions heads write."""
    return f"directions that heads write into on these contexts: {_heads(measured, 'participation_ratio', '{:.1f}')}"


def copying(measured: Measured) -> str:
    """Return which heads copy, by their weights."""
    return f"1 copies, −1 suppresses: {_heads(measured, 'ov_copying', '{:.2f}')}"


def composed(measured: Measured) -> str:
    """Return which heads of each model compose most at the last step, if more than any two do at the first."""
    texts = []
    for (model,), rows in measured.rows.filter(name="composition").group_by("model", maintain_order=True):
        first, last = (rows.filter(step=step) for step in (rows["step"].min(), rows["step"].max()))
        most = last.sort("value").row(-1, named=True)
        params = json.loads(most["params"])
        before = with_params(first, **params).filter(layer=most["layer"], head=most["head"])["value"][0]
        pair = f"{most['layer']}.{most['head']} of {params['from_layer']}.{params['from_head']}"
        if most["value"] <= first["value"].max():
            texts.append(f"in {model} none more than at the start, where it is chance")
        else:
            texts.append(
                f"in {model} {pair} by its {_READS[params['kind']]}, {before:.2f} → {most['value']:.2f}"
            )
    return f"the head that reads most of what another writes, at the end: {'; '.join(texts)}"


def norm(measured: Measured) -> str:
    """Return the size of all weights."""
    rows = measured.of("weight_norm", matrix="all")
    return f"all weights {_ends(rows, '{:.1f}')}, {_peak(rows, '{:.1f}')}"


def ranks_of_weights(measured: Measured) -> str:
    """Return which matrix lost or gained most directions."""
    rows = measured.of("effective_rank").with_columns(matrix=pl.col("params").str.json_path_match("$.matrix"))
    ends = (
        rows.group_by("layer", "matrix", maintain_order=True)
        .agg(first=pl.col("value").first(), last=pl.col("value").last())
        .sort((pl.col("last") / pl.col("first")).log().abs())
    )
    most = ends.row(-1, named=True)
    block = "" if most["layer"] is None else f" of block {most['layer']}"
    return f"{most['matrix']}{block} changes most of {ends.height} matrices, {most['first']:.1f} → {most['last']:.1f}"


def updates(measured: Measured) -> str:
    """Return when successive updates go the same way, and whether they do so again later."""
    rows = measured.of("weight_distance_cosine", matrix="all")
    first = rows.row(int(rows["value"].arg_max() or 0), named=True)
    text = f"successive updates go the same way most at step {first['step']} (cosine {first['value']:.2f})"
    below = rows.filter(pl.col("step") > first["step"], pl.col("value") < first["value"] / 2)
    later = rows.filter(pl.col("step") > below["step"][0]) if below.height else below
    if later.height:
        again = later.row(int(later["value"].arg_max() or 0), named=True)
        text += f", later most at step {again['step']} ({again['value']:.2f})"
    end = rows.row(-1, named=True)
    way = "turn back" if end["value"] < 0 else "do not turn back"
    return f"{text}; at step {end['step']} they {way} ({_number('{:.2f}', end['value'])})"


def by_distance(measured: Measured) -> str:
    """Return whose attention on repeated tokens depends on distance, which changes little along its diagonals."""
    along, across = (measured.of(f"translational_symmetry_{way}") for way in ("along", "across"))
    both = along.join(across, on=["step", "layer", "head"], suffix="_across").filter(step=along["step"].max())
    shares = both.with_columns(share=pl.col("value") / pl.col("value_across")).sort("layer", "head")
    texts = [
        f"{layer}.{head} {share:.2f}{measured.kind(layer, head) if share < _DIAGONAL else ''}"
        for layer, head, share in shares.select("layer", "head", "share").iter_rows()
    ]
    number = shares.filter(pl.col("share") < _DIAGONAL).height
    return (
        f"attention changes along diagonals, as a share of across them: {', '.join(texts)}; below {_DIAGONAL}, where "
        f"distance tells it, in {number} of {shares.height} heads"
    )


def diagonal(measured: Measured) -> str:
    """Return which head's attention is most of all on diagonals."""
    rows = measured.of("diagonal_score")
    most = rows.filter(step=rows["step"].max()).sort("value").row(-1, named=True)
    half = HALF * most["stderr"]
    if most["value"] <= half:
        return "no head changes less along its diagonals than across them"
    return f"most in {most['layer']}.{most['head']}, {most['value']:.0f} ± {half:.0f}"


def kinds_of_text(measured: Measured) -> str:
    """Return whether kinds of text can be told from the last layer, beside the same of labels that are shuffled."""
    rows, shuffled = measured.last_layer("text_type_probe"), measured.last_layer("text_type_probe_shuffled")
    last, chance = rows.row(-1, named=True), shuffled.row(-1, named=True)
    half = HALF * (last["stderr"] ** 2 + chance["stderr"] ** 2) ** 0.5
    if last["value"] - chance["value"] <= half:
        return f"kinds of text cannot be told from layer {last['layer']}, {last['value']:.0%}, as by chance"
    number = json.loads(last["params"])["classes"]
    first = measured.of("text_type_probe").filter(layer=0)
    return (
        f"{number} kinds of text are told from layer {last['layer']} in {_ends(rows, '{:.0%}')} of contexts (labels "
        f"shuffled {chance['value']:.0%}), from the embeddings alone in {_ends(first, '{:.0%}')}"
    )


def _change(rows: pl.DataFrame, words: str, form: str) -> str:
    """A measure at the first and the last step in words; or that no change can be told."""
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    text = words.format(_ends(rows, form))
    errors = [row["stderr"] or 0.0 for row in (first, last)]
    if abs(last["value"] - first["value"]) <= HALF * (errors[0] ** 2 + errors[1] ** 2) ** 0.5:
        text += ", which is no change that can be told"
    return text


def _ends(rows: pl.DataFrame, form: str) -> str:
    return " → ".join(_number(form, rows["value"][at]) for at in (0, -1))


def _number(form: str, value: float) -> str:
    return form.format(value).replace("-", "−")


def _peak(rows: pl.DataFrame, form: str) -> str:
    """The highest value in words."""
    highest = rows.row(int(rows["value"].arg_max() or 0), named=True)
    for step, end in ((rows["step"][0], "start"), (rows["step"][-1], "end")):
        if highest["step"] == step:
            return f"highest at the {end}"
    return f"highest at step {highest['step']} ({_number(form, highest['value'])})"


def _heads(measured: Measured, name: str, form: str) -> str:
    """A measure of each head of the first model."""
    return ", ".join(
        f"{layer}.{head}{measured.kind(layer, head)} {_ends(rows, form)}"
        for (layer, head), rows in measured.of(name).group_by("layer", "head", maintain_order=True)
    )


LINES: dict[str, Callable[[Measured], str]] = {
    "top_1": first_guess,
    "rank": rank,
    "entropy": entropy,
    "calibration_error": calibration,
    "kl_bigram": bigram,
    "alpha_req": decay,
    "twonn": dimension,
    "participation_ratio": directions,
    "ov_copying": copying,
    "composition": composed,
    "weight_norm": norm,
    "effective_rank": ranks_of_weights,
    "weight_distance": updates,
    "translational_symmetry": by_distance,
    "diagonal_score": diagonal,
    "text_type_probe": kinds_of_text,
}
"""By the name of the measure, the function of its line."""
_KEPT_AS = {"translational_symmetry": "translational_symmetry_along"}
"""The names of values of measures that have none of their own name."""
