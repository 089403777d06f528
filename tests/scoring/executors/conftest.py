"""Contents of a store of one model, and workers that a cluster runs."""

from __future__ import annotations

import os
from pathlib import Path

from trajstore.store.store import Store


def slices(store: Store, model: str) -> dict[tuple[str, int], bytes]:
    found = store.scored(model)[model]
    return {
        (dataset, step): store.slice_losses(model, dataset, step).tobytes()
        for dataset, steps in found.items()
        for step in steps
    }


def workers() -> dict[int, str]:
    """The workers that this process's cluster runs: process id and what each is doing."""
    parents = {}
    titles = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().strip(b"\0 ").decode()
        except (OSError, ValueError):
            continue

    def ours(process: int) -> bool:
        while process > 1:
            if process == os.getpid():
                return True
            process = parents.get(process, 0)
        return False

    return {
        process: title
        for process, title in titles.items()
        if title.startswith("ray::Worker") and ours(process)
    }
