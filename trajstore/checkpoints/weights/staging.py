"""Memory into which checkpoints are read, the same for all of a job: new memory costs about as much as reading does.

It is pinned where a GPU copies from it, which it then does while the CPU goes on.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_CGROUP = Path("/sys/fs/cgroup")


class Staging:
    """The memory of one loader. At most one block lies idle; another is made where two are needed at once."""

    def __init__(self, device: torch.device) -> None:
        self._pinned = device.type == "cuda"
        self._lock = threading.Lock()
        self._idle: tuple[Tensor, torch.cuda.Event | None] | None = None

    def take(self, nbytes: int) -> Tensor | None:
        """Return at least so many bytes, uint8, which nothing reads any more; None where memory is short."""
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None and len(idle[0]) >= nbytes:
            block, copied = idle
            if copied is not None:
                copied.synchronize()
            return block
        del idle
        # a second time for a model whose weights lie in the file's own pages until they are written to
        available = available_memory()
        if available is not None and 2 * nbytes > available:
            return None
        try:
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=self._pinned)
        except (RuntimeError, MemoryError):
            return None

    def give_back(self, block: Tensor, copied: torch.cuda.Event | None = None) -> None:
        """Take a block back, to be used again after the event `copied`."""
        with self._lock:
            self._idle = block, copied


def available_memory() -> int | None:
    """Bytes that this process can have without swapping or being ended; None where the system does not say."""
    limits = [_meminfo(), _below_cgroup_limit()]
    return min((limit for limit in limits if limit is not None), default=None)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _below_cgroup_limit() -> int | None:
    """Return the bytes below a container's limit, those counted in that the system can take from its file cache."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        facts = dict(
            line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return int(limit) - used + int(facts["inactive_file"]) + int(facts["active_file"])
    except (OSError, ValueError, LookupError):
        return None
