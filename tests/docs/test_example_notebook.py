"""The marimo notebook in examples/ runs on a small store, and shows what SQL says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import new_dataset
from trajstore.demo.corpus import CONTEXT
from trajstore.demo.groups import GROUPS
from trajstore.store.store import Store

pytestmark = pytest.mark.skipif(
    find_spec("marimo") is None,  # importing it would tell transformers that this is a notebook
    reason="marimo is not installed: pip install trajstore[dev]",
)

NOTEBOOK = Path(__file__).parents[2] / "examples" / "store_to_finding.py"


@pytest.fixture
def repeats(store: Store) -> Store:
    """A store with random tokens that repeat, whose second half two models learn at step 4."""
    rng = np.random.default_rng(0)
    words = [rng.permutation(500)[: CONTEXT // 2] for _ in range(3)]
    dataset = store.add_dataset(
        "repeats", new_dataset([[f" w{word}" for word in (*half, *half)] for half in words])
    )
    copies = np.tile(np.arange(1, CONTEXT) > CONTEXT // 2, len(words))
    for model in ("a", "b"):
        for step in (0, 1, 2, 4, 8):
            losses = np.where(copies & (step >= 4), 0.5, 6) + rng.gamma(2, 0.1, dataset.n_losses)
            store.append(model=model, dataset="repeats", step=step, losses=losses.astype(np.float32))
    store.groups.add("fresh_half", GROUPS["fresh_half"])
    return store


def test_the_notebook_goes_from_a_store_to_a_finding(repeats: Store, tmp_path: Path) -> None:
    shown = tmp_path / "shown.html"
    command = [
        sys.executable,
        "-m",
        "marimo",
        "--quiet",
        "export",
        "html",
        str(NOTEBOOK),
        "--output",
        str(shown),
    ]
    environment = {**os.environ, "TRAJSTORE": str(repeats.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    repeats.refresh()
    page = shown.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") >= 2, "the curves and the components are drawn"
    sizes = repeats.sql("SELECT count(*), count(DISTINCT context) FROM groups.notebook").fetchall()
    assert sizes == [(3 * (CONTEXT // 2 - 1), 3)]
    curve = "SELECT mean FROM trajectory('notebook') WHERE model = 'b' AND step = 4"
    assert f"{repeats.sql(curve).fetchall()[0][0]:.5g}" in page
    shares = "SELECT ratio FROM pca_components WHERE finding = 'notebook' AND component = 1"
    assert repeats.sql(shares).fetchall()[0][0] > 0.9
