"""Stores of many slices, made quickly: the slices of one model again under the names of others.

A copy differs from its original by the model's name in the footer and by the file's digest. It is as sound as what
`Store.append` writes, but is not fsynced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness.synthetic import DATASET, MODEL
from trajstore.schema import DIGEST_KEY
from trajstore.store.disk import digests, layout
from trajstore.store.store import Store

_DIGEST = re.compile(re.escape(DIGEST_KEY.encode()) + rb"..([0-9a-f]{64})", re.DOTALL)


def copy_names(n: int) -> list[str]:
    """Names for copies of the model, as long as its own."""
    return [f"copy{number:0{len(MODEL) - 4}}" for number in range(n)]


def copy_model(store: Store, steps: Iterable[int], names: Iterable[str]) -> None:
    """Give each of `names` the slices of `MODEL` at these steps."""
    copies = list(names)
    for step in steps:
        data = bytearray(_path(store, MODEL, step).read_bytes())
        places = [match.start() for match in re.finditer(f'"{MODEL}"'.encode(), data)]
        digest = max(match.start(1) for match in _DIGEST.finditer(data))
        for name in copies:
            for place in places:
                data[place : place + len(name) + 2] = f'"{name}"'.encode()
            data[digest : digest + 64] = b"0" * 64
            digests.seal(memoryview(data))
            path = _path(store, name, step)
            path.parent.mkdir(parents=True)
            path.write_bytes(data)


def _path(store: Store, model: str, step: int) -> Path:
    return layout.slice_path(store.path, model, DATASET, step)
