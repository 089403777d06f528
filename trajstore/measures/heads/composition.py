"""Composition: how much a head reads of what a head of an earlier block writes, from their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.measures.definitions import MeasureDefinition
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from trajstore.forward.model_structure import HeadWeights
    from trajstore.measures.definitions import MeasureInputs


def composition(inputs: MeasureInputs) -> list[Measure]:
    """The three ratios of each pair of heads of different blocks; raises `UnknownStructure`."""
    from trajstore.forward.model_structure import head_weights

    assert inputs.model is not None
    blocks = head_weights(inputs.model)
    rows = []
    for block, later in enumerate(blocks):
        for from_block, earlier in enumerate(blocks[:block]):
            if later is None or earlier is None:
                continue
            for kind, ratios in _ratios(earlier, later):
                rows += [
                    Measure(
                        "composition",
                        value,
                        layer=block,
                        head=head,
                        params={"kind": kind, "from_layer": from_block, "from_head": from_head},
                    )
                    for from_head, own in enumerate(ratios.tolist())
                    for head, value in enumerate(own)
                ]
    return rows


def _ratios(earlier: HeadWeights, later: HeadWeights) -> Iterator[tuple[str, Tensor]]:
    """(kind, ratios (earlier heads, later heads)): ‖W_OV M‖ / (‖W_OV‖ ‖M‖), M what the later head reads by.

    M is W_Q W_Kᵀ for its queries, W_K W_Qᵀ for its keys, W_V W_O for its values. Every product is taken in the small
    dimensions of heads: ‖A B Cᵀ‖² = tr((AᵀA) B (CᵀC) Bᵀ).
    """
    writes = earlier.value[earlier.group], earlier.output
    query, key = later.query, later.key[later.group]
    reads = (
        ("Q", query, key.mT),
        ("K", key, query.mT),
        ("V", later.value[later.group], later.output),
    )
    for kind, first, second in reads:
        joined = _norms(writes[0][:, None], (writes[1][:, None] @ first[None]), second[None])
        yield kind, joined / (_norms(writes[0], None, writes[1])[:, None] * _norms(first, None, second)[None])


def _norms(left: Tensor, core: Tensor | None, right: Tensor) -> Tensor:
    """Frobenius norms of left · core · right, (…), for left (…, width, size) and right (…, size, width)."""
    inner = left.mT @ left
    outer = right @ right.mT
    squares = inner * outer.mT if core is None else (inner @ core @ outer) * core
    return squares.sum((-2, -1)).clamp(min=0).sqrt()


DEFINITIONS = (
    MeasureDefinition(
        "composition",
        formula="‖W_OV M‖ / (‖W_OV‖ ‖M‖), M = W_Q W_Kᵀ (Q), W_K W_Qᵀ (K) or W_V W_O (V) of the later head",
        unit="1",
        compute=composition,
        needs=("model",),
        axes=("layer", "head"),
        cost="weights",
        source="Elhage et al. 2021, A mathematical framework for transformer circuits",
        meaning=(
            "By pairs: layer and head are of the one that reads, from_layer and from_head in params of the one that "
            "writes. Matrices at random do not give 0 but about 1/√width, so that values are compared with those of "
            "step 0. Norms between the heads are left aside."
        ),
    ),
)
