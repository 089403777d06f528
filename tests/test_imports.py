"""Importing and asking for help load nothing heavy, and take too little time to be noticed."""

from __future__ import annotations

import gc
import pkgutil
import subprocess
import sys
import types
import weakref

import pytest

from trajstore.lazy_imports import without_collection
from trajstore.store.store import Store

HEAVY = (
    *("torch", "sklearn", "transformers", "datasets", "duckdb", "polars", "pandas", "scipy", "matplotlib"),
    *("plotly", "ray", "accelerate"),
)

HELP = """
import sys
sys.argv = ['trajstore', {}'--help']
from trajstore.cli import main
try:
    main()
except SystemExit:
    pass
"""


def loaded(code: str) -> set[str]:
    """Return the heavy packages that a fresh interpreter has loaded after running the code."""
    ask = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_loads_nothing_heavy() -> None:
    assert loaded(HELP.format("")) == set()


EVERY_HELP = """
import sys
import typer
from typer.testing import CliRunner
from trajstore.cli import app

def walk(group, words=()):
    yield words
    for name, command in getattr(group, 'commands', {}).items():
        yield from walk(command, (*words, name))

for words in walk(typer.main.get_command(app)):
    result = CliRunner().invoke(app, [*words, '--help'])
    assert result.exit_code == 0 and 'Usage: ' in result.output, words
    ours = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - had
    print(' '.join(words) or 'trajstore', *sorted(ours), sep=',')
"""

# What typer brings along, and what an editable installation puts in sys.modules.
LIGHT = {
    *("trajstore", "typer", "click", "rich", "shellingham", "markdown_it", "mdurl", "pygments"),
    *(
        "annotated_doc",
        "annotated_types",
        "pydantic",
        "pydantic_core",
        "typing_extensions",
        "typing_inspection",
    ),
}


def test_no_command_s_help_loads_anything_but_typer() -> None:
    """Half a second is soon spent: whatever else is imported for a help page is named here with its command."""
    code = f"import sys\nhad = {{name.partition('.')[0] for name in sys.modules}}\n{EVERY_HELP}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = dict(line.split(",", 1) for line in done.stdout.splitlines())
    assert len(pages) > 20
    for command, loaded_so_far in pages.items():
        found = {name for name in loaded_so_far.split(",") if not name.startswith("_")}
        assert found <= LIGHT, command


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded("import trajstore") == set()


def test_a_store_needs_neither_torch_nor_sklearn() -> None:
    assert (
        loaded("import trajstore.store.store, trajstore.analysis") & {"torch", "sklearn", "transformers"}
        == set()
    )


def test_reading_losses_loads_no_pandas(planted: Store) -> None:
    """Arrow imports it on the way to numpy unless that way is avoided, which takes longer than most reads."""
    code = (
        "import trajstore\n"
        "from trajstore.pipelines.trajectories import trajectories\n"
        f"store = trajstore.open({str(planted.path)!r})\n"
        "assert store.matrix('d').values.shape == (16, 97)\n"
        "assert trajectories(store, ['every_token']).height == 32\n"
    )
    assert loaded(code) & {"pandas", "torch"} == set()


def test_no_function_hides_a_module_of_its_name() -> None:
    """As a function `ingest` of a package would the module of that name, whose dotted path then leads nowhere."""
    import trajstore

    for found in pkgutil.walk_packages(trajstore.__path__, "trajstore."):
        parent, _, name = found.name.rpartition(".")
        if name != "__main__" and (package := sys.modules.get(parent)) is not None:
            assert isinstance(getattr(package, name, sys), types.ModuleType), found.name


def test_public_names_are_there() -> None:
    import trajstore

    assert all(hasattr(trajstore, name) for name in trajstore.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = trajstore.nothing


class _Node:
    """An object that may refer to itself, so that only a collection ends it."""

    def __init__(self) -> None:
        self.itself = self


def test_no_garbage_is_collected_while_libraries_are_imported() -> None:
    runs: list[str] = []
    gc.callbacks.append(lambda phase, _: runs.append(phase))
    try:
        with without_collection():
            kept = [_Node() for _ in range(20_000)]
            last = weakref.ref(kept[-1])
            assert runs == []
        assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)
    finally:
        gc.callbacks.pop()
    gc.collect(1)
    del kept
    gc.collect(1)
    assert last() is not None, "what was made in the block counts as old"
    gc.collect()
    assert last() is None, "and is collected with all that is"


def test_collection_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
