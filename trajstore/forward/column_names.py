"""The columns that a pass can keep beside the loss. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from trajstore.errors import DeviceError
from trajstore.schema import PASS_COLUMNS


def check_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns, each once, in the order of `PASS_COLUMNS`; raises `DeviceError` for an unknown one."""
    wanted = set(columns)
    if unknown := sorted(wanted.difference(PASS_COLUMNS)):
        raise DeviceError(
            f"There is no column {unknown[0]!r} beside the loss; there is: {', '.join(PASS_COLUMNS)}."
        )
    return tuple(name for name in PASS_COLUMNS if name in wanted)
