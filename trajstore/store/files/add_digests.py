"""Gives the files of older stores the digests that files written now carry; what carries one is left as it is.

A file that is damaged already, as far as can be told without one, is left without: `check` names it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from trajstore.errors import DamagedFile
from trajstore.store.disk import digests, layout
from trajstore.store.files import coverage, datasets, group_files, models


def add_digests(root: Path) -> None:
    """Give datasets and the facts of models their digests; stopped midway, the same call again does the rest."""
    for name in datasets.names(root):
        with contextlib.suppress(DamagedFile):
            datasets.add_digests(root, name)
    for name in coverage.model_names(root):
        with contextlib.suppress(DamagedFile):
            path = layout.model_path(root, name)
            if models.read_model(root, name) is not None and digests.carried(path) is None:
                layout.publish(root, path, models.encode_model(json.loads(path.read_bytes())), replace=True)


def add_group_digests(root: Path) -> None:
    """Give the definitions of groups their digests; to be called while the catalog is held."""
    with contextlib.suppress(DamagedFile):
        for name in group_files.own(root):
            path = layout.group_path(root, name)
            if digests.carried(path) is None:
                text = digests.without_line(path.read_bytes().decode())
                ended = text if text.endswith("\n") else f"{text}\n"
                layout.publish(root, path, digests.sealed(ended, ".sql"), replace=True)
