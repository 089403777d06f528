"""RankMe: the effective rank of hidden states, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from trajstore.errors import BadMeasures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.hidden_states.features import Features, Spectra
from trajstore.measures.spectra import effective_rank
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Iterable

SpectrumOf = Literal["singular", "eigen"]


class RankMe(Spectra):
    """The effective rank of every layer's features."""

    def __init__(self, features: Features, spectrum: SpectrumOf, centred: bool) -> None:
        super().__init__(features, centred=centred)
        if spectrum not in get_args(SpectrumOf):
            raise BadMeasures(f"rankme: the spectrum is singular or eigen, and not {spectrum!r}.")
        self.spectrum = spectrum

    def finish(self) -> list[Measure]:
        """The effective ranks."""
        params = {**self.params, "spectrum": self.spectrum}
        power = 1 if self.spectrum == "singular" else 2
        ranks = {layer: effective_rank(values**power) for layer, values in self.singular_values().items()}
        return list(_measures("rankme", ranks, params))


def _measures(name: str, values: dict[int, float], params: dict[str, object]) -> Iterable[Measure]:
    """One value a layer, those that are not defined left out."""
    return (
        Measure(name, value, layer=layer, params=params) for layer, value in values.items() if value == value
    )


DEFINITIONS = (
    MeasureDefinition(
        "rankme",
        formula="exp(−Σ p ln p), p = σ / Σσ, σ the singular values of a layer's features",
        unit="1",
        stream=RankMe,
        needs=("hidden",),
        axes=("layer",),
        parameters={"features": "last", "spectrum": "singular", "centred": False},
        source="Garrido et al. 2023, RankMe; arXiv 2509.23024 for language models over training",
        meaning=(
            "The number of directions that the features fill about evenly: 1 where all lie on a line, d where d "
            "directions carry the same. Features are of the last token of each context, or of all tokens; the "
            "spectrum is of singular values, or of their squares, the eigenvalues, which gives lower numbers. It "
            "cannot exceed the number of features, so that values of different numbers of contexts are not to be "
            "compared."
        ),
    ),
)
