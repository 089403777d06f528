"""Compares the attention kernel that a model runs with against transformers' plain one, by the losses of one context.

For most models they differ by rounding alone. For some they do not, such as Falcon with ALiBi, and then the losses
depend on the kernel, which is worth knowing before many are kept.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trajstore.arguments.spelling import option
from trajstore.checkpoints.library_output import quiet
from trajstore.forward.losses import token_losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids

PLAIN = "eager"
"""The kernel that transformers writes out in torch's own operations."""
MOST_TOKENS = 256
"""Of a context, for the comparison."""


def kernel_warning(model: PreTrainedModel, contexts: Sequence[Ids]) -> str | None:
    """A sentence where the model's attention kernel and the plain one give other losses than rounding explains.

    The longest context is taken. None where they agree, where the plain one is in use, and where the model cannot be
    had with it. Raises as `token_losses` of the model itself.
    """
    used = getattr(model.config, "_attn_implementation", None)
    if used in (None, PLAIN) or not contexts:
        return None
    sample = [max(contexts, key=len)[:MOST_TOKENS]]
    mine = token_losses(model, sample)[0]
    try:
        with quiet():
            theirs = token_losses(_twin(model, PLAIN), sample)[0]
    except Exception:  # of model code that has no such kernel, or no room for it
        return None
    apart = float(np.abs(mine.astype(np.float64) - theirs).max())
    eps = torch.finfo(model.dtype).eps
    if not apart > max(1e-3, 3 * eps * float(np.abs(mine).max())):  # nor of what is not a number
        return None
    return (
        f"The losses of {type(model).__name__} depend on the attention kernel: with {used}, which is used, and with "
        f"{PLAIN} they differ by up to {apart:.2g} nats in one context, far more than by rounding. Slices say with "
        f"which they were made; score everything that you compare with the same one ({option('attention')})."
    )


def _twin(model: PreTrainedModel, kernel: str) -> PreTrainedModel:
    """The same model with another attention kernel; it shares the weights and takes no memory for them."""
    config: Any = copy.deepcopy(model.config)
    with torch.device("meta"):
        twin: Any = type(model)._from_config(config, attn_implementation=kernel, dtype=model.dtype)
    twin.load_state_dict(model.state_dict(), assign=True)
    own = dict(model.named_buffers())
    for name, _ in list(twin.named_buffers()):
        module, _, buffer = name.rpartition(".")
        setattr(twin.get_submodule(module), buffer, own[name])
    evaluated: PreTrainedModel = twin.eval()
    return evaluated
