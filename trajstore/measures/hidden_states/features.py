"""Features of hidden states for measures of their geometry: of last tokens, kept, or of all tokens, summed up.

Last tokens cost nothing beside the pass. Of all tokens only XᵀX is held, in float64 (width² numbers a layer), since
its small eigenvalues would drown in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from trajstore.errors import BadMeasures
from trajstore.measures.streams import Stream, exact

if TYPE_CHECKING:
    from torch import Tensor

    from trajstore.measures.spectra import Spectrum
    from trajstore.measures.streams import Batch, PassFacts

Features = Literal["last", "all"]


class LastTokens(Stream):
    """The hidden states of every context's last token, by layer: (contexts, width) each."""

    def begin(self, facts: PassFacts) -> None:
        """Take the room that is there for all streams."""
        self.contexts = len(facts.ids)
        self.facts, self.states = facts, facts.last_states

    def layer(self, layer: int, hidden: Tensor, batch: Batch) -> None:
        """Take the last tokens of a batch."""
        if not self.states:
            # of all layers at once: between what a pass makes and frees, each would keep its neighbours' memory
            layers = 1 + len(self.facts.blocks)
            self.states.update(enumerate(hidden.new_zeros((layers, self.contexts, hidden.shape[-1]))))
        numbers, lengths = batch.places(hidden.device)
        last = (lengths - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
        self.states[layer][numbers] = hidden.gather(1, last)[:, 0]


class AllTokens(Stream):
    """Sums over all tokens by layer: of states (width,), and of their products (width, width)."""

    def begin(self, facts: PassFacts) -> None:
        """Make room."""
        self.tokens = sum(map(len, facts.ids))
        self.sums: dict[int, Tensor] = {}
        self.products: dict[int, Tensor] = {}

    def layer(self, layer: int, hidden: Tensor, batch: Batch) -> None:
        """Add the tokens of a batch."""
        tokens = exact(hidden[batch.real(hidden.device)])
        sums = self.sums.get(layer, 0) + tokens.sum(0)
        products = self.products.get(layer, 0) + tokens.T @ tokens
        # both or, where memory runs out, none: the batch comes again
        self.sums[layer], self.products[layer] = sums, products


class Spectra(Stream):
    """The spectra of features at each layer, which a measure turns into numbers."""

    def __init__(self, features: Features, *, centred: bool) -> None:
        if features not in get_args(Features):
            raise BadMeasures(f"features are last or all, and not {features!r}.")
        self.features, self.centred = features, centred
        self._taken: LastTokens | AllTokens = LastTokens() if features == "last" else AllTokens()

    def begin(self, facts: PassFacts) -> None:
        """Make room."""
        self._taken.begin(facts)

    def layer(self, layer: int, hidden: Tensor, batch: Batch) -> None:
        """Take the features of a batch."""
        self._taken.layer(layer, hidden, batch)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters that the spectra depend on, and the number of features that they are of."""
        number = self._taken.contexts if isinstance(self._taken, LastTokens) else self._taken.tokens
        return {"features": self.features, "centred": self.centred, "number": number}

    def singular_values(self) -> dict[int, Spectrum]:
        """Of the matrix of features, descending, by layer."""
        taken = self._taken
        if isinstance(taken, LastTokens):
            return {layer: _of_states(states, self.centred) for layer, states in sorted(taken.states.items())}
        return {
            layer: _of_products(products, taken.sums[layer], taken.tokens if self.centred else None)
            for layer, products in sorted(taken.products.items())
        }


def _of_states(states: Tensor, centred: bool) -> Spectrum:
    """Of a matrix (number, width); what lies below the rounding of float32 is 0."""
    import torch

    matrix = exact(states)
    if centred:
        matrix = matrix - matrix.mean(0)
    return _without_rounding(torch.linalg.svdvals(matrix).cpu().numpy(), max(states.shape))


def _of_products(products: Tensor, sums: Tensor, tokens: int | None) -> Spectrum:
    """Of the matrix X whose XᵀX is given; of X without its mean where the number of `tokens` is given."""
    import torch

    if tokens is not None:
        products = products - torch.outer(sums, sums) / tokens
    eigenvalues = torch.linalg.eigvalsh(products).flip(0).clamp(min=0).cpu().numpy()
    return _without_rounding(np.sqrt(eigenvalues), len(products))


def _without_rounding(values: Spectrum, size: int) -> Spectrum:
    """The values, with 0 for those that are no more than the rounding of a float32 matrix."""
    noise = np.finfo(np.float32).eps * size * values.max(initial=0) / 8
    return np.where(values > noise, values, 0.0)
