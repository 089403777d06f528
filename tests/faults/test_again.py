"""A command that keeps a finding, run again: where nothing differs it says so and ends well, as score does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from trajstore.cli import app
from trajstore.store.store import Store

COMMANDS = {
    "pca": "pca -d d --components 2 --name mine",
    "sparse": "pca -d d --method sparse --components 2 --alpha 1 --name mine",
    "diff": "diff models a b -d d --steps log --name mine",
    "compare": "compare a b -d d --no-groups --name mine",
    "compare --keep": "compare a b -d d --outliers 0.2 --no-groups --keep --name mine",
    "phases": "phases every_token -d d --name mine",
    "spikes": "spikes -m a -d d --window 2:8:32 --tau 0.1 --no-enrich --keep --name mine",
}


@pytest.fixture
def longer(planted: Store) -> Store:
    """With steps enough for phases."""
    rng = np.random.default_rng(0)
    for model in ("a", "b"):
        for dataset in ("d", "e"):
            for step in (128, 256, 512, 1024, 2048):
                planted.append(model=model, dataset=dataset, step=step, losses=rng.gamma(3, 0.5, 97))
    return planted


def run(words: str, path: Path) -> Result:
    return CliRunner().invoke(app, [*words.split(), "-s", str(path)])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_again_ends_well_and_changes_nothing(longer: Store, command: str) -> None:
    words = COMMANDS[command]
    first = run(words, longer.path)
    assert first.exit_code == 0, first.output
    files = {path: path.read_bytes() for path in (longer.path / "findings").rglob("*.parquet")}
    again = run(words, longer.path)
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert "There already, and the same: the finding mine" in again.stderr
    assert {path: path.read_bytes() for path in (longer.path / "findings").rglob("*.parquet")} == files
    other = run(words.replace("-d d", "-d e"), longer.path)
    assert other.exit_code == 1
    assert "--replace" in other.stderr


@pytest.mark.parametrize("command", ["pca", "diff", "compare", "phases"])
def test_other_losses_under_the_same_question_are_refused(longer: Store, command: str) -> None:
    assert run(COMMANDS[command], longer.path).exit_code == 0
    losses = longer.slice_losses("a", "d", 64)
    longer.append(model="a", dataset="d", step=64, losses=losses + np.float32(0.5), replace=True)
    again = run(COMMANDS[command], longer.path)
    assert again.exit_code == 1, again.output
    assert "mine" in again.stderr
    assert "--replace" in again.stderr
    assert run(f"{COMMANDS[command]} --replace", longer.path).exit_code == 0
