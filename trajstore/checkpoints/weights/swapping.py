"""Puts a checkpoint's tensors into a model that another checkpoint of the same run was loaded into.

A model takes them only after it was shown that transformers does nothing else with them: each tensor of the file that
transformers built it from is bit for bit a parameter or buffer, of that name or one that transformers changed it to,
and the model has no others. The next file must have the same names, shapes and dtypes beside the same configuration,
and the model must be as it was after it was built, but for its weights: some models note in themselves what they did to
their weights or tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from trajstore.checkpoints.weights.reading import Tensors

OF_NO_EFFECT = ("_name_or_path", "name_or_path", "transformers_version")
"""Keys of a configuration that say nothing of the model."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Layout:
    """Properties that checkpoints must share for one's tensors to take the places of another's."""

    config: dict[str, Any]
    """Without what has no effect."""
    tensors: dict[str, tuple[torch.dtype, torch.Size]]
    """Dtypes and shapes of the files' tensors, by name."""


def layout(config: dict[str, Any], tensors: dict[str, Tensor]) -> Layout:
    """Return the layout of a checkpoint by its configuration and its tensors."""
    effective = {key: value for key, value in config.items() if key not in OF_NO_EFFECT}
    return Layout(effective, {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()})


def may_swap(config: dict[str, Any], folder: Path) -> bool:
    """Return whether a checkpoint is one that others may take the place of: without code of its own or an adapter, and
    not quantized.
    """
    plain = not {"auto_map", "quantization_config"} & config.keys()
    return bool(config) and plain and not (folder / "adapter_config.json").exists()


def find_places(model: PreTrainedModel, tensors: dict[str, Tensor]) -> dict[str, str] | None:
    """Return the parameters and buffers that a file's tensors are, by name, of a model that was built from the file.

    None unless they make up the whole model on the CPU, bit for bit after the cast to its dtypes. Tensors without a
    place in it are left out, as transformers left them, who has read the same file.
    """
    saved = model.state_dict()
    inside = {name: tensor.detach() for name, tensor in _named(model) if name in saved}
    if inside.keys() != saved.keys():  # of a model that saves what is no tensor
        return None
    places = {name: name for name in tensors if name in inside}
    if not all(_same_bits(inside[name], tensors[name]) for name in places):
        return None
    covered = {_address(inside[name]) for name in places}
    empty = [name for name, tensor in inside.items() if _address(tensor) not in covered]
    for name in tensors.keys() - places.keys():
        same = [other for other in empty if _same_bits(inside[other], tensors[name])]
        if len(same) == 1 and _varies(tensors[name]) and same[0] not in places.values():
            places[name] = same[0]
            covered.add(_address(inside[same[0]]))
    everything = [*inside.values(), *(parameter.detach() for parameter in model.parameters())]
    return places if all(_address(tensor) in covered for tensor in everything) else None


class SwappableModel:
    """A model on its device into which checkpoints of one layout are put."""

    def __init__(
        self, model: PreTrainedModel, places: dict[str, str], layout: Layout, dtype: torch.dtype
    ) -> None:
        """`model` was built in `dtype` by transformers from tensors with these `places`; nothing has used it yet."""
        self.model, self._places, self._layout, self._dtype = model, places, layout, dtype
        self._state, self._tables = _state(model), _tables(model)
        self._block: Tensor | None = None
        """The memory that the model's tensors lie in, where they were taken as they lay."""
        inside = dict(_named(model))
        tensors = [inside[place] for place in places.values()]
        alone = len({_address(tensor) for tensor in tensors}) == len({id(tensor) for tensor in tensors})
        self._may_move = (
            alone and model.device.type == "cpu" and all(tensor.is_contiguous() for tensor in tensors)
        )

    def takes(self, layout: Layout, tensors: dict[str, Tensor], dtype: torch.dtype) -> bool:
        """Return whether a checkpoint can be put into the model as it is now, to be run in `dtype`."""
        if layout != self._layout or dtype != self._dtype or _state(self.model) != self._state:
            return False
        tables = _tables(self.model)
        if tables.keys() != self._tables.keys() or not all(
            torch.equal(before, tables[name]) for name, before in self._tables.items()
        ):
            return False
        inside = self.model.state_dict()
        one: dict[object, Tensor] = {}
        for name, place in self._places.items():  # of two names for one place both must say the same
            other = one.setdefault(_address(inside[place]), tensors[name])
            if other is not tensors[name] and not _same_bits(other, tensors[name]):
                return False
        return True

    def put(self, tensors: Tensors, folder: Path) -> tuple[Tensor | None, torch.cuda.Event | None]:
        """Put the tensors of a checkpoint in `folder` into their places.

        Returns the memory of tensors that the model needs no more, and what tells when a GPU has read it, None where
        nothing is still read. A model on the CPU takes tensors of its own dtypes as they lie in memory. Copies join the
        current stream, so that a pass begun later finds them whole: they are made in place, where the last pass may
        still be reading, so that a stream of their own would only wait for it.
        """
        inside = dict(_named(self.model))
        gpu = self.model.device.type == "cuda"
        moved = False
        with torch.no_grad():
            for name, place in self._places.items():
                new, old = tensors.by_name[name], inside[place]
                if self._may_move and tensors.block is not None and new.dtype == old.dtype:
                    old.data, moved = new, True
                else:
                    old.copy_(new, non_blocking=gpu)
        self.model.zero_grad(set_to_none=True)
        self.model.name_or_path = self.model.config.name_or_path = str(folder)
        if moved:
            spent, self._block = self._block, tensors.block
            return spent, None
        return tensors.block, torch.cuda.current_stream(self.model.device).record_event() if gpu else None


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether a tensor is another one cast to its dtype, bit for bit, also where they are no numbers."""
    if one.shape != other.shape:
        return False
    bits = _BITS[one.dtype.itemsize]
    return torch.equal(one.contiguous().view(bits), other.to(one.dtype).contiguous().view(bits))


def _varies(tensor: Tensor) -> bool:
    """Return whether a tensor has more than one value, so that an equal one is no accident."""
    return tensor.numel() > 1 and bool((tensor != tensor.flatten()[0]).any())


def _address(tensor: Tensor) -> object:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _tables(model: PreTrainedModel) -> dict[str, Tensor]:
    """Copies of the buffers that a model computes itself and no file holds."""
    saved = model.state_dict()
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers() if name not in saved}


def _state(model: PreTrainedModel) -> list[object]:
    """Return what a model's computation depends on beside its tensors' values.

    Its modules with their hooks, forward functions and plain attributes; its tensors' places, dtypes and devices.
    """
    config = {key: value for key, value in model.config.to_dict().items() if key not in OF_NO_EFFECT}
    state: list[object] = [repr(config)]
    for module in model.modules():
        forward = getattr(module.forward, "__func__", module.forward)
        state.append((id(module), id(forward), *module._forward_pre_hooks, *module._forward_hooks))
        plain = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str)}
        state.append({key: value for key, value in plain.items() if key not in ("training", *OF_NO_EFFECT)})
    state.extend((name, tensor.dtype, tensor.device, tensor.shape) for name, tensor in _named(model))
    return state


def _named(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters and buffers, tied ones under each of their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
