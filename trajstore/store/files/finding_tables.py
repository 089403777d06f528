"""The tables that each kind of finding has, and their columns: what files and views hold, in one place.

Columns are written as a list, each with its type, and a question mark where it may be null.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "doubles": pa.list_(pa.float64()),
    "bool": pa.bool_(),
}
"""Types of columns by their names here."""


def _columns(*lists: str) -> pa.Schema:
    """A schema of columns such as `step long, low double?`."""
    fields = []
    for column in ", ".join(lists).split(", "):
        name, kind = column.split()
        fields.append(pa.field(name, TYPES[kind.removesuffix("?")], nullable=kind.endswith("?")))
    return pa.schema(fields)


_SITE = "dataset text, context int, position int"
_INTERVAL = "low double?, high double?"
_WINDOW = "before_step long, at_step long, after_step long"
_UNITS = "unit text, units long, interval text"
_ENRICHED = (
    "group_name text, tokens long, marked long, share double, rest double, ratio double?, "
    f"{_INTERVAL}, p double?, p_adjusted double?"
)
_SLICES = "model text, step long, dataset text, loss_sha256 text"
_ALIKE = ", ".join(
    f"{name} double?, {name}_low double?, {name}_high double?"
    for name in ("pearson", "partial", "rms", "difference")
)

TABLES: Mapping[str, Mapping[str, pa.Schema]] = {
    "pca": {
        "components": _columns("component int, variance double, ratio double, zeros double"),
        "scores": _columns("model text, step long, component int, score double"),
        "loadings": _columns(_SITE, "component int, loading float"),
        # Dot products of a row with each row up to itself, all less the reference row; nats².
        "gram": _columns("model text, step long, products doubles"),
        "slices": _columns(_SLICES),
    },
    "phases": {
        "events": _columns(
            "model text, dataset text?, series text, event text, step long, low long, high long, value double"
        ),
    },
    "head_kinds": {
        "heads": _columns(
            "model text, layer int, head int, head_kind text, cluster int, distance double, nearest text, since long"
        ),
    },
    "head_matches": {
        "pairs": _columns(
            "model text, layer int, head int, head_kind text, other text, other_layer int, other_head int",
            "other_kind text, distance double, next_distance double?, random_distance double?, ambiguous bool",
        ),
        "layers": _columns(
            "model text, other text, pairs int, ambiguous int, same_layer int, same_layer_expected double",
            "layers_apart double, layers_apart_expected double, p_heads double, p_layers double, least_p double",
            "answer text",
        ),
    },
    "unigram_first": {
        "phases": _columns(
            "model text, dataset text, layer int, direction text, phase int, course text, answer text",
            "from_step long?, to_step long?, low long?, high long?, reason text",
        ),
    },
    "spikes": {
        "spikes": _columns("model text", _WINDOW, "height double", _INTERVAL, "chance double?"),
        "shares": _columns(
            "model text, spike long, window_kind text, token_class text", _WINDOW, "share double", _INTERVAL
        ),
        "tokens": _columns("model text, spike long", _SITE, "token_class text, change float, tau float"),
        "groups": _columns("model text, spike long, token_class text", _ENRICHED),
    },
    "compare": {
        "correlations": _columns(
            "model text, step long, other text, other_step long, dataset text, tokens long",
            _UNITS,
            "spearman double?",
            _ALIKE,
        ),
        "outliers": _columns(
            "winner text, step long", _SITE, "loss double, other_loss double, difference double"
        ),
        "groups": _columns("winner text", _ENRICHED),
        "outlier_steps": _columns(
            "winner text, dataset text, step long, tokens long, contexts long",
            _UNITS,
            "mean double",
            _INTERVAL,
        ),
    },
    "compare_measures": {
        "values": _columns(
            "measure text, layer int?, head int?, params text?, dataset text?, model text, step long",
            "minus_model text, minus_step long, value double, minus_value double, difference double",
            _INTERVAL,
            "contexts long?, unit text?, units long?, interval text",
        ),
    },
    "diff": {
        "groups": _columns(
            "group_name text, model text, step long, minus_model text, minus_step long, dataset text",
            "minus_dataset text, tokens long, contexts long",
            _UNITS,
            "mean_of text, mean double",
            _INTERVAL,
            "fell double?, rose double?, noise double?",
        ),
        "tokens": _columns(
            "change text, model text, step long, minus_model text, minus_step long",
            _SITE,
            "minus_dataset text, loss double, minus_loss double, difference double, relative double",
            "noise double?",
        ),
        "slices": _columns(_SLICES),
    },
    "shapes": {
        "tokens": _columns(
            "model text",
            _SITE,
            "shape text, nearest text, delta_bic float, midpoint double?, width float?, exponent float?, turn double?",
            "drop float, start float, final float, forgetting float, acquired double?, variability float?",
            "noise float, rho float",
        ),
        "slices": _columns(_SLICES),
    },
}
"""The tables of each kind of finding, and their columns."""
