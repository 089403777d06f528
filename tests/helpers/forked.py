"""Worker processes for tests, forked from a clean one that has imported what they need, so that each starts at once.

Unlike a child of the test run itself they inherit no threads, and unlike a spawned one they do not import torch anew.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "pytest",
        "pyarrow.compute",
        "pyarrow.csv",
        "pyarrow.pandas_compat",
        "pandas",  # which pyarrow imports with the first array that it makes
        "transformers.models.gpt_neox.modeling_gpt_neox",
        "trajstore.cli",
        "trajstore.importers",
        "trajstore.scoring.executors.processes",
        "trajstore.scoring.run",
        "trajstore.store.checks",
        "typer.testing",
    ]
)


class InPlaceOfSpawned:
    """A context of multiprocessing whose processes are forked, with the test's environment as spawned ones have."""

    Pipe = processes.Pipe

    def Process(self, target: Callable[..., object], args: Sequence[Any], daemon: bool) -> BaseProcess:
        return processes.Process(target=_in_environment, args=(dict(os.environ), target, args), daemon=daemon)


def _in_environment(environment: dict[str, str], work: Callable[..., object], args: Sequence[Any]) -> None:
    """Work where the environment is this one, that of the import of transformers too."""
    from transformers import dynamic_module_utils

    os.environ.clear()
    os.environ.update(environment)
    if modules := environment.get("HF_MODULES_CACHE"):
        dynamic_module_utils.HF_MODULES_CACHE = modules
    work(*args)
