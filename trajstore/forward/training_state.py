"""A model in the middle of its training, as it would be if it were loaded from its checkpoint; and back again.

Reads no store and writes none.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trajstore import scratch
from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.weight_files import weight_files
from trajstore.checkpoints.weights.fingerprints import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the model is in eval mode, without autocast; afterwards all is as it was before.

    That is: the mode of every module, its buffers, the configuration, and the random numbers of torch, numpy and
    Python.
    """
    modes = [(module, module.training) for module in model.modules()]
    # Tables of positions that grow with use would be tensors that no gradient can pass.
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    config, plain = dict(vars(model.config)), random.getstate()
    numbers = np.random.get_state()
    # With mixed precision, accelerate hides the class's own forward behind one of the instance.
    forward = vars(model).pop("forward", None)
    devices = sorted(
        {parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"}
    )
    try:
        with torch.random.fork_rng(devices):
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
        for module, tensors in buffers:
            module._buffers.update(tensors)
        vars(model.config).clear()
        vars(model.config).update(config)
        if forward is not None:
            vars(model)["forward"] = forward
        random.setstate(plain)
        np.random.set_state(numbers)


def fingerprint_in_memory(model: PreTrainedModel) -> str:
    """Fingerprint of the weights' files that `save_pretrained` writes of the model as it is now: its checkpoint's own.

    Writes them to a temporary folder (TMPDIR) and removes them again. Raises `OSError` where there is no room.
    """
    with tempfile.TemporaryDirectory(prefix="weights-", dir=scratch.folder()) as folder, quiet():
        model.save_pretrained(folder)
        return fingerprint(weight_files(Path(folder)))
