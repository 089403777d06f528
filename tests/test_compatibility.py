"""A store that different DuckDB versions take turns at, each in a process of its own.

Skipped unless the environment names another interpreter that has trajstore's dependencies (torch is not needed):
    TRAJSTORE_OTHER_PYTHON=/path/to/venv/bin/python pytest tests/test_compatibility.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = sys.executable
OTHER = os.environ.get("TRAJSTORE_OTHER_PYTHON")  # before a fixture clears it
ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(OTHER is None, reason="TRAJSTORE_OTHER_PYTHON names no other interpreter")

DIGITS = ([0, 1, 3], [10, 11, 13], [20, 21, 23])
"""Losses of the three tokens of digits, by step."""


def take(python: str, turn: str, store: Path) -> dict[str, Any]:
    """Return the store's answers after a turn in that interpreter."""
    done = subprocess.run(
        [python, "-W", "error", str(ROOT / "tests" / "helpers" / "store_turns.py"), turn, str(store)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize(("first", "second"), [(HERE, OTHER), (OTHER, HERE)], ids=["here", "other"])
def test_versions_take_turns_at_one_store(first: str, second: str, tmp_path: Path) -> None:
    """One makes a store, the other adds to it and migrates it, the first adds and drops, the other reads."""
    made = take(first, "make", tmp_path / "s")
    assert made["history"] == ["0001_catalog", "0002_digests", "0003_stand_ins", "views, macros and groups"]
    assert made["groups"].items() >= {"digits": 3, "the": 2, "capitalised": 1, "first": 1}.items()
    assert made["matrix"] == [DIGITS[0]]
    assert made["loss_at"] == [[0], [1], [2], [3]]

    assert made["kept"] == [["d", 0, 2]]
    migrated = take(second, "migrate", tmp_path / "s")
    assert migrated["history"] == [
        "0001_catalog",
        "0002_digests",
        "0003_stand_ins",
        "0004_notes",
        "views, macros and groups",
    ]
    assert migrated["added"] == {"first": "Added at step 0.", "second": "Added at step 1."}
    assert migrated["matrix"] == list(DIGITS[:2])
    assert migrated["kept"] == made["kept"]

    extended = take(first, "extend", tmp_path / "s")
    assert extended["history"] == migrated["history"]
    assert extended["added"] == {"first": "Added at step 0.", "third": "Added at step 2."}
    assert extended["groups"].items() >= {"digits": 3, "first": 1, "third": 1, "odd": 3}.items()
    assert extended["rows"].items() >= {"notes": 1, "tokens": 6, "losses": 12, "coverage": 3}.items()
    assert extended["matrix"] == list(DIGITS)
    assert extended["trajectory"] == [
        [step, 3, pytest.approx(sum(row) / 3)] for step, row in zip((0, 1, 2), DIGITS, strict=True)
    ]
    assert extended["stepwise"] == [[10]] * 4

    assert extended["kept"] == [["d", 0, 2], ["d", 1, 0]]
    assert take(second, "read", tmp_path / "s") == extended
