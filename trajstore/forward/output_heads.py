"""A model's output head, apart from the model: the logits of any rows of the vocabulary from last hidden states.

    logits = cap · tanh(scale · (hidden @ weightᵀ + bias) / cap)

where most models have neither scale nor cap. Which they have is read from the fields of their configurations that
say so (Gemma's soft cap, Cohere's and Granite's scale, …), and is taken only where it gives the model's own logits.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trajstore.checkpoints.weights.swapping import OF_NO_EFFECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

_MULTIPLIERS = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
_DIVISORS = ("logits_scaling",)
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


@dataclass(frozen=True)
class Head:
    """A linear layer on the last hidden state, and what is done to each logit after it."""

    weight: Tensor
    """(rows, width)."""
    bias: Tensor | None = None
    """(rows,)."""
    scale: float = 1.0
    cap: float | None = None

    def __len__(self) -> int:
        return len(self.weight)

    def first(self, rows: int) -> Head:
        """The head of the first `rows` entries of the vocabulary."""
        return replace(self, weight=self.weight[:rows], bias=None if self.bias is None else self.bias[:rows])

    def prepared(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, width) as `logits` takes them: in the weights' dtype, then float32 unless a GPU sums so."""
        hidden = hidden.to(self.weight.dtype)
        return hidden if self._half_product else hidden.float()

    def logits(self, hidden: Tensor, rows: slice | Tensor, buffer: Tensor) -> Tensor:
        """Float32 logits (n, rows) of prepared hidden states (n, width), in the memory of a flat `buffer`."""
        weight = self.weight[rows]
        out = buffer[: len(hidden) * len(weight)].view(len(hidden), len(weight))
        if self._half_product:
            torch.mm(hidden, weight.T, out_dtype=torch.float32, out=out)
        else:
            torch.mm(hidden, weight.float().T, out=out)
        if self.bias is not None:
            out += self.bias[rows].float()
        return self._changed_(out)

    @property
    def _half_product(self) -> bool:
        """Return whether half-precision matrices have a product in float32, as tensor cores sum it anyway."""
        return self.weight.is_cuda and self.weight.dtype in (torch.bfloat16, torch.float16)

    def _changed_(self, logits: Tensor) -> Tensor:
        """Scale and cap, in place."""
        if self.scale != 1.0:
            logits *= self.scale
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    def gives(self, linear: Tensor, logits: Tensor) -> bool:
        """Return whether these are the model's logits, (n, rows), where `linear` is what its layer alone gives.

        Compared in the weights' own dtype, up to another order of summation; NaN is no.
        """
        mine, eps = self._changed_(linear.clone()).float(), torch.finfo(linear.dtype).eps
        return torch.allclose(mine, logits, rtol=2 * eps, atol=1e-5 * logits.abs().max().item())


@dataclass(frozen=True)
class RecognisedHead:
    """A model's head, with the hidden states and logits that it was recognised by."""

    head: Head
    hidden: Tensor
    """The body's last hidden states (n, width)."""
    logits: Tensor
    """The model's own logits (n, rows), float32."""
    certain: bool
    """True where no other scale or cap that the configuration may mean gives these logits."""


def find_head(model: PreTrainedModel, ids: Tensor) -> RecognisedHead | None:
    """The head of a model that gives its logits on `ids`, int64 (1, n); None if none is known.

    Runs the body and the whole model on `ids`: the layer applied to the body's last hidden state, changed as the
    configuration says or not at all, must give the model's logits.
    """
    layer, body = model.get_output_embeddings(), getattr(model, "base_model", model)
    if not isinstance(layer, nn.Linear) or body is model or not layer.weight.is_floating_point():
        return None
    hidden = getattr(body(ids, use_cache=False), "last_hidden_state", None)
    if not isinstance(hidden, Tensor) or hidden.shape != (*ids.shape, layer.in_features):
        return None
    linear = layer(hidden.to(layer.weight.dtype))[0]
    logits = model(ids, use_cache=False).logits[0].float()
    if logits.shape != linear.shape or not logits.isfinite().all():
        return None
    heads = [Head(layer.weight, layer.bias, *change) for change in _named_changes(model.config)]
    fitting = [head for head in heads if head.gives(linear, logits)]
    return RecognisedHead(fitting[0], hidden[0], logits, len(fitting) == 1) if fitting else None


def build(model: PreTrainedModel) -> tuple[object, ...]:
    """Return what a model's logits depend on beside the values of its weights, to be compared after changes.

    Layers, hooks, forward functions that were put into the place of others, configuration, dtype; not where it is from.
    """
    layers = [
        (
            type(module),
            # no reference, which might keep the model itself
            id(getattr(module.forward, "__func__", module.forward)),
            *module._forward_pre_hooks,  # the keys, of which each hook has its own
            *module._forward_hooks,
        )
        for module in model.modules()
    ]
    without = {"training", *OF_NO_EFFECT}  # the folder, say, changes with each checkpoint of a run
    plain = {key: value for key, value in vars(model).items() if isinstance(value, int | float | str)}
    own, config = (
        [(key, value) for key, value in values.items() if key not in without]
        for values in (plain, model.config.to_dict())
    )
    return (*layers, *own, repr(config), model.dtype)


def _named_changes(config: Any) -> Iterator[tuple[float, float | None]]:
    """(scale, cap) as the configuration's fields may mean them, the most that they can mean first; none last."""
    inner = config.get_text_config(decoder=True)
    fields = {name: _number(inner, name) or _number(config, name) for name in (*_MULTIPLIERS, *_CAPS)}
    scales = [value for name in _MULTIPLIERS if (value := fields[name])]
    scales += [1 / value for name in _DIVISORS if (value := fields[name])]
    caps = [value for name in _CAPS if (value := fields[name])]
    yield from dict.fromkeys(itertools.product([*scales, 1.0], [*caps, None]))


def _number(config: Any, name: str) -> float | None:
    """A field that holds a number other than zero."""
    value = getattr(config, name, None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value else None
