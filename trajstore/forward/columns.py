"""The columns that a pass can keep beside the loss. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from trajstore.errors import DeviceError

COLUMNS = ("rank", "entropy")
"""rank: entries of the vocabulary with a higher logit than the token (int32, 0 is the top); entropy: of the
predicted distribution, nats (float32)."""


def check_columns(asked: Iterable[str]) -> tuple[str, ...]:
    """The columns asked for, each once, in the order of `COLUMNS`; raises `DeviceError` for one that is not offered."""
    wanted = set(asked)
    if unknown := sorted(wanted.difference(COLUMNS)):
        raise DeviceError(
            f"There is no column {unknown[0]!r} beside the loss; there is: {', '.join(COLUMNS)}."
        )
    return tuple(name for name in COLUMNS if name in wanted)
