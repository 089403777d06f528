"""From Python: what the package offers, how results show themselves, and by which names arguments go."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import trajstore
from tests.conftest import PLANTED_STEPS
from trajstore.analysis import pca, sparse_pca
from trajstore.analysis.spikes.tokens import Tolerance
from trajstore.cli import app
from trajstore.errors import QueryError, UnknownName
from trajstore.pipelines import spikes
from trajstore.pipelines.trajectories import trajectories
from trajstore.store.files.finding_tables import TABLES
from trajstore.store.files.findings import _by_view
from trajstore.store.store import Store
from trajstore.text import describe_file_error

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
PAGES = "\n".join(
    path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
)
PATHS = sorted(
    set(re.findall(r"\btrajstore(?:\.[A-Za-z_]+)+(?![\w/@-])", PAGES))
    - {"trajstore.open", "trajstore.groups", "trajstore.analyses"}
)
"""Dotted paths of the documentation, but for a function and the names of entry points."""


@pytest.fixture
def opened(planted: Store) -> trajstore.Store:
    return trajstore.open(planted.path)


WALK = f"""
import sys
import trajstore
assert not {{'numpy', 'polars', 'duckdb', 'torch'}} & set(sys.modules)
for path in {PATHS}:
    for name in [name for name in sys.modules if name.partition('.')[0] == 'trajstore']:
        del sys.modules[name]  # each path is the first that is asked for
    import trajstore
    try:
        eval(path)
    except AttributeError as error:
        print(path, error)
"""


def test_dotted_paths_of_the_docs_are_there_after_importing_the_package() -> None:
    done = subprocess.run([sys.executable, "-c", WALK], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_the_readme_has_dotted_paths() -> None:
    assert len(PATHS) > 12
    assert "trajstore.pipelines.trajectories.trajectories" in PATHS


def test_dir_shows_what_is_offered() -> None:
    shown = dir(trajstore)
    assert {"Store", "open", "Selection", "view", "analysis", "scoring"} <= set(shown)
    assert not {"Any", "TYPE_CHECKING", "annotations", "importlib"} & set(shown)
    for name in shown:
        assert getattr(trajstore, name) is not None


@pytest.mark.parametrize("name", ["nothing", "_private", "view.nothing", "store.nothing", "scoring.nothing"])
def test_what_is_not_there_is_an_attribute_error(name: str) -> None:
    *packages, last = name.split(".")
    package = trajstore if not packages else getattr(trajstore, packages[0])
    with pytest.raises(AttributeError, match=f"has no attribute '{last}'"):
        getattr(package, last)


def test_an_import_that_fails_inside_a_module_says_so() -> None:
    code = (
        "import sys, trajstore\nsys.modules['trajstore.analysis.components.gram'] = None\ntrajstore.analysis"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: import of trajstore.analysis.components.gram halted" in done.stderr


def test_parameters_come_second(opened: trajstore.Store) -> None:
    ask = "SELECT count(*) FROM raw_losses WHERE model = ? AND dataset = ?"
    assert opened.sql(ask, ["a", "d"]).fetchall() == [(len(PLANTED_STEPS) * 97,)]
    by_name = "SELECT count(*) FROM raw_losses WHERE model = $m"
    assert opened.sql(by_name, {"m": "a"}).fetchall() == [(len(PLANTED_STEPS) * 2 * 97,)]
    with pytest.raises(QueryError, match=r"2 parameters \(\$1, \$2\), and not those given: \['a'\]"):
        opened.sql(ask, ["a"])
    with pytest.raises(QueryError, match=r"has 0 parameters.*files=\["):
        opened.sql("SELECT 1", ["folder"])
    with pytest.raises(QueryError, match="has 1 parameter"):
        opened.sql(by_name, "a")
    with pytest.raises(TypeError):
        opened.sql("SELECT 1", None, ["folder"])  # type: ignore[misc]


def test_a_matrix_shows_what_it_is_of(opened: trajstore.Store) -> None:
    matrix = opened.matrix(dataset=["d", "e"])
    assert repr(matrix) == (
        "LossMatrix(16 rows × 194 columns, float32, 2 models (a, b), 8 steps (0 to 64), 2 datasets (d, e))"
    )
    assert "1 model (a), 1 step (64), 1 dataset (d)" in repr(opened.matrix("d", "a", steps="last"))
    page = matrix._repr_html_()
    assert "2 models (a, b)" in page
    assert "<th>position</th>" in page
    assert page.count("<tr>") == 2 * (1 + 10)


def test_results_show_themselves_in_a_line(opened: trajstore.Store) -> None:
    matrix = opened.matrix(dataset="d")
    fit = pca(matrix, components=4)
    shares = ", ".join(f"{100 * ratio:.1f} %" for ratio in fit.variance["ratio"][:3])
    assert repr(fit).startswith(f"PCAResult({fit.variance.height} components ({shares}")
    assert "of 2 models (a, b), 8 steps (0 to 64), 97 tokens" in repr(fit)
    sparse = sparse_pca(matrix.values.astype(float), 2)
    fitted = trajstore.pca(opened, trajstore.Selection("d"))
    fitted.keep("mine")
    found = opened.finding("pca", "mine")
    assert f"pca 'mine', 2 models (a, b), 1 dataset (d), made {found.made}" in repr(found)
    window = spikes.Search((2, 8, 32), tolerance=Tolerance(0.1), enrich=False)
    spiky = spikes.spikes(opened, trajstore.Selection(["d"], ["a"]), search=window)
    for result in (fit, sparse, fitted, found, spiky, *spiky.spikes, opened):
        assert "\n" not in repr(result)
        assert len(repr(result)) < 400, repr(result)
        assert "array(" not in repr(result)
        assert f"<b>{type(result).__name__}</b>" in result._repr_html_()
    assert "97 tokens" in repr(spiky)


def test_names_are_escaped_in_a_notebook(opened: trajstore.Store) -> None:
    matrix = opened.matrix(dataset="d")
    evil = trajstore.LossMatrix(
        matrix.values, matrix.rows.with_columns(model=pl.lit("<script>")), matrix.columns
    )
    assert "<script>" not in evil._repr_html_()
    assert "&lt;script&gt;" in evil._repr_html_()


def test_an_empty_store_shows_itself(store: Store) -> None:
    page = trajstore.open(store.path)._repr_html_()
    assert "0 models, 0 datasets" in page


def test_a_store_shows_its_coverage(opened: trajstore.Store) -> None:
    assert repr(opened) == f"Store({str(opened.path)!r})"
    page = opened._repr_html_()
    assert "2 models, 2 datasets" in page
    assert "<td>a</td><td>d</td><td>8</td><td>0</td><td>64</td><td>0</td>" in page


def test_trajectory_is_that_of_the_command(opened: trajstore.Store, tmp_path: Path) -> None:
    found = opened.trajectory(
        "every_token", "first_half", models="a", datasets="d", steps="log", resamples=200
    )
    chosen = trajstore.Selection(["d"], ["a"], "log")
    interval = trajstore.analysis.statistics.bootstrap.Interval(resamples=200)
    again = trajectories(opened, ["every_token", "first_half"], chosen, interval=interval)
    assert found.frame.equals(again)
    assert "2 groups (every_token, first_half), 1 dataset (d), 1 model (a), 8 steps (0 to 64)" in repr(found)
    assert any("Student" in line for line in found.caveats)
    assert "<th>mean</th>" in found._repr_html_()
    drawn = found.plot()
    assert drawn._repr_png_().startswith(b"\x89PNG")
    assert "Loss of" in repr(drawn)
    found.plot(tmp_path / "t.html")
    drawn.save(tmp_path / "t.png")
    assert {path.name for path in tmp_path.iterdir()} >= {"t.html", "t.png"}
    with pytest.raises(UnknownName, match="no model 'c'"):
        opened.trajectory(models="c")


def test_without_a_group_it_is_every_token(opened: trajstore.Store) -> None:
    frame = opened.trajectory(model="a", dataset="d", ci="none").frame
    mean = [opened.slice_losses("a", "d", step).mean(dtype=np.float64) for step in PLANTED_STEPS]
    assert frame["mean"].to_list() == pytest.approx(mean)
    with pytest.raises(TypeError, match="takes models or model"):
        opened.trajectory(model="a", models="b")


@pytest.mark.parametrize("names", [{"model": "a", "datasets": ["d"]}, {"models": ["a"], "dataset": "d"}])
def test_singular_and_plural_are_the_same(opened: trajstore.Store, names: dict[str, Any]) -> None:
    assert opened.matrix(**names).values.shape == (8, 97)
    assert opened.trajectory(**names, ci="none").frame.height == 8
    assert len(opened.chosen_slices(**names)) == 8
    assert opened.measures(**names).height == 0
    assert trajstore.Selection(**names) == trajstore.Selection(["d"], ["a"])


def test_both_spellings_at_once_are_refused(opened: trajstore.Store) -> None:
    with pytest.raises(TypeError, match="matrix.. takes models or model, which are the same"):
        opened.matrix("d", model="a", models="b")
    with pytest.raises(TypeError, match="takes dataset or datasets"):
        opened.matrix("d", datasets="e")
    with pytest.raises(TypeError, match="unexpected keyword"):
        opened.matrix("d", modles="b")


def test_one_name_may_stand_for_a_list(opened: trajstore.Store) -> None:
    assert trajstore.Selection("code", "tiny-*").datasets == ["code"]
    with pytest.raises(UnknownName, match="no dataset 'code'"):
        trajectories(opened, ["every_token"], trajstore.Selection("code"))


def test_a_finding_s_table_goes_by_its_view_s_name_too(opened: trajstore.Store) -> None:
    trajstore.pca(opened, trajstore.Selection("d")).keep("mine")
    found = opened.finding("pca", "mine")
    assert found.table("pca_loadings").equals(found.table("loadings"))
    with pytest.raises(UnknownName, match="no table of a pca finding 'shapes'"):
        found.table("shapes")
    views = {table for kind in TABLES for table in _by_view(kind).items()}
    assert {
        ("shapes", "tokens"),
        ("spike_tokens", "tokens"),
        ("spikes", "spikes"),
        ("events", "events"),
    } <= views


def test_a_frame_that_a_query_does_not_see_is_offered_by_register(opened: trajstore.Store) -> None:
    with pytest.raises(QueryError, match=r"store\.register\('mine', frame\)"):
        opened.sql("FROM df")
    opened.register("df", pl.DataFrame({"x": [1]}))
    assert opened.sql("FROM df").fetchall() == [(1,)]


def _error(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 — each is of another class
        work()
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_error(lambda: b"ab\xff".decode()), "it is not UTF-8 text: byte 0xFF at 2 cannot be read"),
        (_error(lambda: np.load(io.BytesIO(b"garbage"))), "it is not an array as numpy.save writes one"),
        (_error(lambda: int("x")), "'x' is no whole number"),
        (_error(lambda: Path("nowhere").read_text()), "No such file or directory"),
        (ValueError("a step is a whole number"), "a step is a whole number"),
    ],
)
def test_errors_of_files_are_sentences(error: Exception, said: str) -> None:
    assert describe_file_error(error) == said


def test_a_file_that_cannot_be_read_says_so_in_words(opened: trajstore.Store, tmp_path: Path) -> None:
    for name, content in (
        ("q.sql", b"SELECT \xff"),
        ("m.npy", b"garbage"),
        ("m.txt", b"1 2 x"),
        ("cut.npy", CUT),
    ):
        (tmp_path / name).write_bytes(content)
    ingest = ["ingest", tmp_path / "m.npy", "-m", "c", "-d", "d"]
    for words, said in (
        (["sql", "-f", tmp_path / "q.sql"], "it is not UTF-8 text: byte 0xFF at 7"),
        (["group", "add", "g", "--file", tmp_path / "q.sql"], "it is not UTF-8 text"),
        ([*ingest, "--step", "1"], "it is not an array as numpy.save writes one"),
        ([*ingest, "--steps-file", tmp_path / "m.txt"], "'x' is no whole number"),
        (
            ["ingest", tmp_path / "cut.npy", "-m", "c", "-d", "d", "--step", "1"],
            "it ends before its array does",
        ),
    ):
        result = CliRunner().invoke(app, [*map(str, words), "-s", str(opened.path)])
        assert result.exit_code == 1
        assert said in result.stderr


def _cut() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 97), dtype=np.float32))
    return buffer.getvalue()[:500]


CUT = _cut()
