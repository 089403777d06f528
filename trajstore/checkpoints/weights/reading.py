"""Reads a checkpoint's files of weights, each byte once: hashed on the way where no hash is known, and kept as tensors.

The tensors of safetensors files lie in the bytes that were read, so that what is hashed is what is scored; those of a
.bin file are mapped from it. Whatever is not as expected gives no tensors: transformers says what is wrong then.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trajstore.checkpoints.weight_files import INDEX_FILES
from trajstore.checkpoints.weights.fingerprints import combined, file_state, keep_sha256, known_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from trajstore.checkpoints.weights.staging import Staging

_PIECE = 1 << 24
"""Bytes that are read, then hashed, at a time."""
_ALIGNED = 4096
"""Each file begins at a multiple of it, as where it is mapped, so that its tensors lie at the same remainders."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Stopped(Exception):
    """Getting a checkpoint ready was given up on request."""


@dataclass
class Tensors:
    """The tensors of a checkpoint's files."""

    by_name: dict[str, Tensor]
    """On the CPU, in the dtypes of the files."""
    block: Tensor | None
    """The memory of `Staging` that they lie in; None for those mapped from a file."""


@dataclass(frozen=True)
class Contents:
    """Contents of a checkpoint's files of weights, as they were read."""

    fingerprint: str
    tensors: Tensors | None
    """None where they were not asked for, do not fit into memory, or are not as expected."""
    nbytes: int
    seconds: dict[str, float]
    """By what was done: read, and hash beyond that, since both go on at once."""


def read_contents(
    files: Sequence[Path], staging: Staging | None, stopped: Callable[[], bool] = lambda: False
) -> Contents:
    """Read files of weights, into memory of `staging` if it is given, else only through; raises `Stopped`."""
    sizes = [path.stat().st_size for path in files]
    starts = [0]
    for size in sizes:
        starts.append(-(-(starts[-1] + size) // _ALIGNED) * _ALIGNED)
    safetensors = all(path.suffix == ".safetensors" for path in files)
    block = staging.take(starts[-1]) if staging is not None and safetensors else None
    reading = _Reading(stopped)
    parts: dict[str, Tensor] = {}
    for path, start, size in zip(files, starts, sizes, strict=False):
        part = None if block is None else block[start : start + size]
        reading.read(path, part)
        if part is not None:
            parts[path.name] = part
    tensors = None
    if block is not None and staging is not None:
        by_name = _tensors(parts, files[0].parent)
        if by_name is None:
            staging.give_back(block)
        else:
            tensors = Tensors(by_name, block)
    elif staging is not None and not safetensors:
        tensors = _mapped(files)
    return Contents(combined(reading.digests), tensors, sum(sizes), reading.seconds)


class _Reading:
    """The reading of one checkpoint's files, one after another."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self.digests: dict[str, str] = {}
        """File → hex digest of its bytes."""
        self.seconds = {"read": 0.0, "hash": 0.0}

    def read(self, path: Path, into: Tensor | None) -> None:
        """Read a file through, into memory of its size where that is given; its bytes are hashed beside that."""
        begun, before = time.time_ns(), file_state(path)
        known = known_sha256(path)
        start = time.perf_counter()
        with path.open("rb") as file, ThreadPoolExecutor(1, "trajstore-hash") as hashing:
            digest = hashlib.sha256()
            done, hashed = 0, None
            for piece in _pieces(into, before.size):
                if self._stopped():
                    raise Stopped
                if not (got := file.readinto(piece)):
                    break
                done += got
                if known is None:
                    if hashed is not None:
                        hashed.result()  # since it may hash the memory that the next piece but one is read into
                    hashed = hashing.submit(digest.update, piece[:got])
            self.seconds["read"] += time.perf_counter() - start
            start = time.perf_counter()
        self.seconds["hash"] += time.perf_counter() - start
        if into is not None and (done < len(into) or file_state(path) != before):
            raise OSError(f"{path} changed while it was read")
        if known is None:
            known = digest.hexdigest()
            keep_sha256(path, before, begun, known)
        self.digests[path.name] = known


def _pieces(into: Tensor | None, size: int) -> Iterator[memoryview]:
    """The pieces of memory that a file of so many bytes is read into, one after another.

    Without memory of its own, that is two pieces in turn, without end.
    """
    if into is not None:
        memory = memoryview(into.numpy().data)
        yield from (memory[start : start + _PIECE] for start in range(0, size, _PIECE))
        return
    two = [memoryview(bytearray(max(1, min(_PIECE, size)))) for _ in range(2)]
    yield from itertools.cycle(two)


def _tensors(parts: dict[str, Tensor], folder: Path) -> dict[str, Tensor] | None:
    """The tensors in the bytes of safetensors files, which lie in `folder`; None where anything is not as expected."""
    by_name: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for file, part in parts.items():
        inside = _tensors_of(part)
        if inside is None or by_name.keys() & inside.keys():
            return None
        by_name |= inside
        places |= dict.fromkeys(inside, file)
    index = folder / INDEX_FILES[0]
    if list(parts) != ["model.safetensors"]:
        try:
            if json.loads(index.read_bytes())["weight_map"] != places:
                return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
    return by_name


def _tensors_of(part: Tensor) -> dict[str, Tensor] | None:
    """The tensors in the bytes of a safetensors file; None where they do not lie in it one behind the other."""
    length = int.from_bytes(part[:8].numpy().tobytes(), "little")
    if 8 + length > len(part):
        return None
    tensors: dict[str, Tensor] = {}
    end = 0
    try:
        header: dict[str, Any] = json.loads(part[8 : 8 + length].numpy().tobytes())
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"]):
            dtype, shape, (start, stop) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if start != end or stop - start != math.prod(shape) * dtype.itemsize:
                return None
            data = part[8 + length + start : 8 + length + stop]
            if data.storage_offset() % dtype.itemsize:
                data = data.clone()
            tensors[name] = data.view(dtype).view(shape)
            end = stop
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, RecursionError):
        return None
    return tensors if 8 + length + end == len(part) else None


def _mapped(files: Sequence[Path]) -> Tensors | None:
    """The tensors of .bin files, mapped from them; None where they hold anything else."""
    by_name: dict[str, Tensor] = {}
    for path in files:
        try:
            inside = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except Exception:  # of another format, damaged, or holding what is no tensor
            return None
        if not isinstance(inside, dict) or by_name.keys() & inside.keys():
            return None
        by_name |= inside
    if not all(isinstance(tensor, torch.Tensor) for tensor in by_name.values()):
        return None
    return Tensors(by_name, None)
