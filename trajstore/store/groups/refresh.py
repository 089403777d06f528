"""Groups kept as a table that are not what would be found now: why, what mends them, and finding them anew.

A table by a Python function is stale when the file of the function's module has changed, when a dataset's files have
(tokens, texts, items, roles, contexts), and when a dataset came later that it is meant for. One of given sites is stale
when a dataset's files have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trajstore.errors import GroupError
from trajstore.progress import Progress
from trajstore.store.files import group_tables
from trajstore.store.files.datasets import Dataset
from trajstore.store.files.group_tables import Code, GroupSites, TableFacts
from trajstore.store.groups import python_functions, writes
from trajstore.store.groups.writes import GroupTable


def why_stale(made: TableFacts, datasets: Mapping[str, Dataset]) -> str:
    """Return why a table is not what would be found now, or "".

    A module that is not here has not changed.
    """
    reasons = [f"{name} has changed" for name in group_tables.changed(made, datasets)]
    reasons += [f"{name} came later" for name in group_tables.added(made, datasets)]
    if made.code is not None and (now := _code_now(made.code)).module_sha256 != made.code.module_sha256:
        itself = now.function_sha256 != made.code.function_sha256
        what = made.code.function if itself else f"the module of {made.code.function}"
        reasons.append(f"{what} has changed")
    return ", ".join(reasons)


def mend(name: str, made: TableFacts) -> str:
    """The command that makes a stale table current."""
    if made.code is None:
        return f"Give its sites again: trajstore group add {name} --sites FILE --replace"
    return f"Find its sites anew: trajstore group refresh {name}"


def refresh(
    root: Path, name: str, made: TableFacts, datasets: Mapping[str, Dataset], progress: Progress
) -> bool:
    """Find anew what is stale of a table by a function; whether anything was."""
    assert made.code is not None
    changed, added = group_tables.changed(made, datasets), group_tables.added(made, datasets)
    run, code = python_functions.load_function(made.code.function)
    kept = [dataset for dataset in made.parts if dataset in datasets and dataset not in changed]
    if code.module_sha256 != made.code.module_sha256:
        changed, kept = [*changed, *kept], []
    if not changed and not added:
        return False
    sites = python_functions.find_sites(
        run, name, [datasets[dataset] for dataset in (*changed, *added)], progress
    )
    if kept:
        before = group_tables.sites(root, name)
        sites += [GroupSites(datasets[dataset], *before[dataset]) for dataset in kept]
    fresh = group_tables.encode_table(name, made.description, sites, code, every_dataset=made.every_dataset)
    writes.change_table(root, name, made, GroupTable(*fresh))
    return True


def _code_now(code: Code) -> Code:
    """The hashes of a function as it is now; those given where its module is not here."""
    try:
        return python_functions.code_of(code.function)
    except GroupError:
        return code
