"""What importing and asking for help may load, and how long that takes to be noticed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "transformers", "datasets", "duckdb", "polars", "scipy", "matplotlib", "plotly")

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
    """Which heavy packages a fresh interpreter has loaded after running the code."""
    ask = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_loads_nothing_heavy() -> None:
    assert loaded(HELP.format("")) == set()


@pytest.mark.parametrize("command", ["score", "pca", "report", "demo", "sql"])
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    assert loaded(HELP.format(f"{command!r}, ")) == set()


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded("import trajstore") == set()


def test_a_store_needs_neither_torch_nor_sklearn() -> None:
    assert (
        loaded("import trajstore.store.store, trajstore.analysis") & {"torch", "sklearn", "transformers"}
        == set()
    )


def test_public_names_are_there() -> None:
    import trajstore

    assert all(hasattr(trajstore, name) for name in trajstore.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = trajstore.nothing
