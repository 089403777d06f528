"""Worker processes for tests, forked from a clean one that has imported what they need, so that each starts at once.

Unlike a child of the test run itself they inherit no threads, and unlike a spawned one they do not import torch anew.
"""

from __future__ import annotations

import multiprocessing

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "pytest",
        "pyarrow.csv",
        "transformers.models.gpt_neox.modeling_gpt_neox",
        "trajstore.cli",
        "trajstore.importers",
        "trajstore.scoring.run",
        "trajstore.store.checks",
        "typer.testing",
    ]
)
