"""Looks at a checkpoint's configuration before transformers does: whether its files can hold the model that it says.

A configuration of 10⁹ layers would keep transformers busy for ever, and one of huge layers would fill the memory. So
its numbers are compared with what the files of weights hold, and then the model's parameters, counted without memory
for them. Reads headers only.
"""

from __future__ import annotations

import json
import math
import re
import sys
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from trajstore.checkpoints.weight_files import check_regular, safetensors_header
from trajstore.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CONFIG = "config.json"

_LONGEST = 10_000_000
"""Bytes of a configuration."""
_FEW_LAYERS = 100
"""So many are built in no time, whatever the files hold."""
_SMALL = 100_000
"""A number up to this is never out of proportion."""
_LAYERS = re.compile(r"(^|_)(n|num)_.*layers?$|_layers$")
# positions, ids of tokens and the like are sizes of nothing
_NO_SIZE = re.compile(
    r"position|theta|context|length|seq|window|token|_ids?$|max|seed|step|base|freq|factor|version|ctx|param"
)


@dataclass(frozen=True)
class TensorSizes:
    """The sizes of tensors that the files of weights can hold."""

    tensors: int
    numbers: int
    known: bool
    """True where all files say what they hold, and these are not bounds by their bytes."""


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a checkpoint's folder; raises `CheckpointError` where it cannot be read or is none."""
    path = folder / CONFIG
    try:
        check_regular(path)
        if path.stat().st_size > _LONGEST:
            raise CheckpointError(
                f"{path} has {path.stat().st_size:,} bytes: it is no configuration of a model."
            )
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else f"it is cut off, or no JSON ({error})"
        raise CheckpointError(
            f"{path} cannot be read: {said}. Download or save that checkpoint again."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds no configuration: a {type(config).__name__} and no object.")
    return config


def check_config(folder: Path, files: Iterable[Path]) -> None:
    """Raises `CheckpointError` where the configuration names sizes that the files of weights do not hold."""
    held = _held(files)
    for name, value in _numbers(read_config(folder)):
        if _LAYERS.search(name) and value > max(_FEW_LAYERS, held.tensors):
            raise CheckpointError(
                f"{folder / CONFIG} says {name} = {value:,}, but the files beside it hold {held.tensors:,} tensors. "
                "They are not of one model, or one of them is damaged."
            )
        if not _NO_SIZE.search(name) and value > max(_SMALL, held.numbers):
            raise CheckpointError(
                f"{folder / CONFIG} says {name} = {value:,}, but the files beside it hold {held.numbers:,} numbers in "
                "all. They are not of one model, or one of them is damaged."
            )


def check_parameters(folder: Path, files: Iterable[Path], *, trust_remote_code: bool) -> None:
    """Raises `CheckpointError` where the model has far more parameters than the files of weights hold numbers.

    To be called after `check_config`. Builds the model without memory for it, once for all of one configuration.
    """
    text, held = (folder / CONFIG).read_text(encoding="utf-8"), _held(files)
    if (
        "quantization_config" in text or not held.known
    ):  # several parameters to a number; a file that is damaged
        return
    own = str(folder) if "auto_map" in text else ""
    needed = _parameters(text, own, trust_remote_code)
    if needed is not None and needed > 2 * held.numbers:
        raise CheckpointError(
            f"The model that {folder / CONFIG} describes has {needed:,} parameters, but the files beside it hold "
            f"{held.numbers:,} numbers. They are not of one model, or one of them is damaged."
        )


def _held(files: Iterable[Path]) -> TensorSizes:
    """Return what files of weights hold; of those that do not say, as many as their bytes."""
    tensors, numbers, known = 0, 0, True
    for file in files:
        size = file.stat().st_size
        header = safetensors_header(file) if file.suffix == ".safetensors" else None
        entries = None if header is not None else _entries(file)
        if header is not None:
            tensors, numbers = (
                tensors + len(header),
                numbers + min(size, sum(map(_elements, header.values()))),
            )
        elif entries is not None:
            tensors, numbers = tensors + entries, numbers + size
        else:
            tensors, numbers, known = tensors + size // 8, numbers + size, False
    return TensorSizes(tensors, numbers, known)


def _entries(file: Path) -> int | None:
    """The entries of a zip archive, which a .bin file is; None where it is none."""
    try:
        with zipfile.ZipFile(file) as archive:
            return len(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None


def _elements(tensor: Any) -> int:
    """The numbers in a tensor, as a safetensors header says; as many as one likes where it does not."""
    try:
        return max(0, math.prod(int(size) for size in tensor["shape"]))
    except (LookupError, TypeError, ValueError):
        return sys.maxsize


def _numbers(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """(name, number) of the whole numbers in a configuration, those in lists by the name of the list."""
    if isinstance(value, dict) and depth < 20:
        for key, entry in value.items():
            yield from _numbers(entry, str(key), depth + 1)
    elif isinstance(value, list) and depth < 20:
        for entry in value:
            yield from _numbers(entry, name, depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


@lru_cache(maxsize=64)
def _parameters(text: str, folder: str, trust_remote_code: bool) -> int | None:
    """Parameters of the model that a configuration describes, tied ones once; None where it cannot be built so.

    `folder` holds the code of a model that comes with its own, else it is empty.
    """
    import tempfile
    from pathlib import Path

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trajstore import scratch

    try:
        with tempfile.TemporaryDirectory(prefix="config-", dir=scratch.folder()) as made:
            place = Path(folder or made)
            if not folder:
                (place / CONFIG).write_text(text, encoding="utf-8")
            config = AutoConfig.from_pretrained(
                place, trust_remote_code=trust_remote_code, local_files_only=True
            )
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception:  # loading will say what is wrong with it
        return None
    return sum(int(parameter.numel()) for parameter in model.parameters())
