"""docs/extending.md: its package is the one that test_plugins installs, and its analysis and suite are run here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PLANTED_STEPS
from trajstore.checkpoints import suites
from trajstore.store.store import Store

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))


def test_the_page_shows_the_example_package() -> None:
    package = ROOT / "tests" / "example_plugin"
    shown = {name: text for name, text in BLOCKS.items() if "/" in name or name == "pyproject.toml"}
    files = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in package.rglob("*")
        if path.suffix in (".py", ".toml") and path.name != "__init__.py"
    }
    assert shown == files


def test_the_analysis(planted: Store) -> None:
    code: dict[str, object] = {"__name__": "learned"}
    exec(compile(BLOCKS["learned.py"], "learned.py", "exec"), code)
    code["keep_learned"](planted, "a", "d")  # type: ignore[operator]
    matrix = planted.matrix("d", models="a")
    shares = [float(np.mean(row < matrix.values[0] / 2)) for row in matrix.values]
    assert shares[0] == 0
    rows = planted.sql(
        "SELECT step, dataset, value FROM measures WHERE name = 'learned' ORDER BY step"
    ).fetchall()
    assert rows == [(step, "d", share) for step, share in zip(PLANTED_STEPS, shares, strict=True)]


def test_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, entry),) = tomllib.loads(BLOCKS["suites.toml"]).items()
    suite = suites._suite(name, entry)
    assert [run.name for run in suite.runs] == [
        f"example-{size}-seed{seed}" for size in ("10m", "30m") for seed in (0, 1)
    ]
    assert suite.runs[0].steps is not None
    assert len(suite.runs[0].steps) == 1 + 10 + 20
    assert suite.runs[3].vocabulary == 50_304
    bad = [
        step for step in suite.runs[1].steps or () if suite.known_bad[0].holds(suite.runs[1].repo, "", step)
    ]
    assert bad == [3000, 5000, 6000, 7000]
