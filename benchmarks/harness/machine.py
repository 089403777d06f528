"""Versions, machine and date: the facts without which a figure means nothing. Reads them, measures nothing."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import trajstore

PACKAGES = ("duckdb", "polars", "pyarrow", "numpy")


def pin_to_cores(n: int) -> bool:
    """Keep this process and those it starts to `n` cores, so that nothing uses more; False where that cannot be."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])
    return True


def facts(folder: Path) -> list[tuple[str, str]]:
    """Date, versions and machine; `folder` is where the files are."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        ("Date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Versions", f"trajstore {trajstore.__version__}, Python {platform.python_version()}, {packages}"),
        (
            "Machine",
            f"{_processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()}, {_file_system(folder)}",
        ),
    ]


def _processor() -> str:
    """The CPU's name as the system gives it."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{total / 2**30:.0f} GiB of memory"


def _file_system(folder: Path) -> str:
    """Kind of the file system that holds a folder: what an fsync costs depends on it."""
    mounts = [line.split() for line in _lines("/proc/mounts")]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return f"files on {max(above, key=lambda mount: len(mount[1]))[2]}" if above else "file system unknown"


def _lines(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").splitlines()
    return []
