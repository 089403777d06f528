"""α-ReQ: how fast the eigenvalues of the hidden states' covariance decay, by layer."""

from __future__ import annotations

from trajstore.errors import BadMeasures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.hidden_states.features import Features, Spectra
from trajstore.measures.spectra import decay_exponent
from trajstore.store.files.measures import Measure


class AlphaReq(Spectra):
    """The exponent of every layer's spectrum."""

    def __init__(self, features: Features, first: int, last: int) -> None:
        super().__init__(features, centred=True)
        if not 1 <= first < last:
            raise BadMeasures(f"alpha_req: 1 ≤ first < last must hold, and not first={first}, last={last}.")
        self.first, self.last = first, last

    def finish(self) -> list[Measure]:
        """The exponents, NaN for layers with fewer than 3 eigenvalues in the range."""
        params = {**self.params, "first": self.first, "last": self.last}
        return [
            Measure("alpha_req", decay_exponent(values**2, self.first, self.last), layer=layer, params=params)
            for layer, values in self.singular_values().items()
        ]


DEFINITIONS = (
    MeasureDefinition(
        "alpha_req",
        formula="α of the fit λᵢ ∝ i^−α to the eigenvalues first … last of the covariance of a layer's features",
        unit="1",
        stream=AlphaReq,
        needs=("hidden",),
        axes=("layer",),
        parameters={"features": "last", "first": 11, "last": 100},
        source=(
            "Agrawal et al. 2022, α-ReQ; the weights 1/i and the first eigenvalue of the range, 11, are of Stringer et "
            "al. 2019, whose last is 500"
        ),
        meaning=(
            "Small where many directions carry much, large where few do; 1 is the border between rough and smooth. It "
            "is a straight line through a log-log plot, whether the spectrum is one or not, and depends on the range."
        ),
    ),
)
