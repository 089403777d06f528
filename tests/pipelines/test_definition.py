"""Analyses of other packages: one definition is a command, a result in Python, findings with views, and on the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from trajstore.cli import app
from trajstore.cli.analyses import of_packages
from trajstore.cli.lazy_command import command_of
from trajstore.errors import BadAnalysis, BadName, BadOption, DamagedFile, FindingsDiffer, PlotError
from trajstore.pipelines import AnalysisDefinition, Column
from trajstore.server.panes import findings as pane
from trajstore.store import lifecycle
from trajstore.store.checks import check
from trajstore.store.disk import digests
from trajstore.store.files import finding_kinds
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

EXAMPLE = Path(__file__).parent.parent / "example_plugin"
POINTS = """[trajstore.analyses]
learned_tokens = trajstore_example.analyses:learned_tokens
lost = no_such_module:lost
odd = trajstore_example.analyses:charts
"""
SHARE = [Column("share", "double", "share of tokens")]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's analysis, one that cannot be imported, and one that is none."""
    about = tmp_path / "site" / "learned_example-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: learned_example\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(POINTS)
    for name in [name for name in sys.modules if name.startswith("trajstore_example")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def run(store: Store, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*words, "-s", str(store.path)])
    return done.exit_code, done.stdout, done.stderr


def expected(store: Store, below: float = 0.5) -> list[tuple[str, int, float]]:
    matrices = [(model, store.matrix("d", model)) for model in ("a", "b")]
    return [
        (model, step, float(np.mean(row < below * matrix.values[0])))
        for model, matrix in matrices
        for step, row in zip(matrix.rows["step"], matrix.values, strict=True)
    ]


@pytest.mark.usefixtures("installed")
def test_one_module_is_a_command_a_finding_and_a_view(planted: Store, tmp_path: Path) -> None:
    code, out, err = run(planted, "learned-tokens", "-d", "d", "--below", "0.9", "--name", "n", "--json")
    assert code == 0, err
    rows = [(row["model"], row["step"], row["share"]) for row in json.loads(out)["shares"]]
    assert rows == expected(planted, 0.9)
    assert 0 < rows[-1][2] < 1
    view = "FROM learned_tokens_shares WHERE finding = 'n'"
    assert f"Kept as the finding n: {view}" in err
    code, _, err = run(
        planted, "learned-tokens", "-d", "d", "--below", "0.9", "--name", "n", "--plot", f"{tmp_path}/l.svg"
    )
    assert (code, "There already" in err, (tmp_path / "l.svg").exists()) == (0, True, True)
    code, _, err = run(planted, "learned-tokens", "-d", "d", "--below", "0.8", "--name", "n")
    assert (code, "There is a learned_tokens finding 'n'" in err) == (1, True)
    code, out, _ = run(planted, "learned-tokens", "--help")
    assert "share of the first checkpoint's. [default: 0.5]" in " ".join(out.split())
    # SQL, the list, the page and the checks have it, in a process without the package as well.
    for name in [name for name in sys.modules if name.startswith("trajstore_example")]:
        del sys.modules[name]
    with Store(planted.path) as store:
        assert store.sql(f"SELECT model, step, share {view} ORDER BY ALL").fetchall() == rows
        comment = (
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'learned_tokens_shares' LIMIT 1 OFFSET 4"
        )
        assert store.sql(comment).fetchall() == [("share of tokens whose loss is low [1]",)]
        finding = store.finding("learned_tokens", "n")
        assert finding.facts["options"] == {"below": 0.9}
        assert finding.facts["package"] == "learned_example 0.1"
        assert finding.table("learned_tokens_shares").equals(finding.table("shares"))
        assert pane.finding_list(store).select("kind", "subject", "tables").rows() == [
            ("learned_tokens", "a, b on d", "shares")
        ]
        assert pane.finding_rows(store, finding, "shares", 3).height == 3
        assert not [line for line in check(store) if "learned" in str(line)]
    lifecycle.rebuild(planted.path)
    with Store(planted.path) as store:
        assert len(store.sql(view).fetchall()) == len(rows)
        store.drop_finding("learned_tokens", "n")
        assert store.sql(view).fetchall() == []
    code, out, err = run(planted, "finding", "kinds", "--json")
    kinds = {row["kind"]: (row["views"], row["package"]) for row in json.loads(out)}
    assert kinds["learned_tokens"] == ("learned_tokens_shares", "learned_example 0.1")
    assert kinds["phases"][0] == "events"
    assert "The analysis lost of the package learned_example 0.1 cannot be loaded" in err
    assert "The analysis odd of the package learned_example 0.1 is no AnalysisDefinition, but function" in err


@pytest.mark.usefixtures("installed")
def test_in_python(planted: Store) -> None:
    from trajstore_example.analyses import learned_tokens

    result = learned_tokens(planted, Selection("d"), below=0.7)
    assert result.table("shares").select("model", "step", "share").rows() == expected(planted, 0.7)
    assert repr(result) == "AnalysisResult(learned_tokens, shares 16 × 4)"
    assert planted.findings() == []
    name = result.keep()
    assert planted.sql(f"SELECT count(*) FROM learned_tokens_shares WHERE finding = '{name}'").fetchall() == [
        (16,)
    ]
    with pytest.raises(BadOption, match="above"):
        learned_tokens(planted, Selection("d"), above=1)
    code, _, err = run(planted, "lost")
    assert (code, "The analysis lost of the package learned_example 0.1 cannot be loaded" in err) == (1, True)


def defined(columns: Any = SHARE, rows: Any = None, name: str = "mine") -> AnalysisDefinition:
    frame = pl.DataFrame({"share": [0.25]} if rows is None else rows)

    def compute(
        store: Store, selection: Selection, *, of: Annotated[Literal["all", "some"], "Which."] = "all"
    ) -> dict[str, pl.DataFrame]:
        """Give a share."""
        return {"shares": frame}

    return AnalysisDefinition(name, compute, {"shares": columns})


def test_other_columns_replace_no_findings(planted: Store) -> None:
    defined()(planted).keep("n")
    other = defined([*SHARE, Column("step", "long", "of the checkpoint")], {"share": [0.5], "step": [3]})
    with pytest.raises(FindingsDiffer, match="trajstore finding drop mine NAME"):
        other(planted).keep("m")
    assert planted.finding("mine", "n").table("shares").rows() == [(0.25,)]
    planted.drop_finding("mine", "n")
    other(planted).keep("m")
    assert planted.sql("FROM mine_shares").fetchall() == [("m", 0.5, 3)]


def test_a_damaged_table_of_columns_is_named_and_made_anew(planted: Store) -> None:
    defined()(planted).keep("n")
    empty = next(
        file for file in planted.path.rglob("kind=mine/*/shares.parquet") if "finding=n" not in str(file)
    )
    empty.write_bytes(b"PAR1")
    with pytest.raises(DamagedFile, match="no table of a kind of findings"):
        planted.finding("mine", "n")
    lines = check(planted)
    assert any("shares.parquet" in str(line) for line in lines)
    assert not any("drop" in line.mend for line in lines)  # the finding is whole
    defined()(planted).keep("m")
    assert planted.sql("FROM mine_shares ORDER BY ALL").fetchall() == [("m", 0.25), ("n", 0.25)]


def test_one_of_several_tables_of_columns_is_made_anew(planted: Store) -> None:
    both = {"x": defined().schemas["shares"], "y": defined().schemas["shares"]}
    planted.add_finding_kind("mine", both)
    with planted.add_finding("mine", "n", {}) as writer:
        for table in both:
            writer.add(table, pl.DataFrame({"share": [0.5]}))
    (planted.path / "findings/kind=mine/finding=.empty/x.parquet").unlink()
    problems = {line.path: line.mend for line in check(planted)}
    assert problems["findings/kind=mine/finding=n/x.parquet"].startswith("run the analysis")
    planted.add_finding_kind("mine", both)
    assert planted.sql("FROM mine_x").fetchall() == [("n", 0.5)]
    with pytest.raises(FindingsDiffer):
        planted.add_finding_kind("mine", {**both, "z": both["x"]})
    planted.drop_finding("mine", "n")
    planted.add_finding_kind("mine", {"x_y": both["x"]})
    with pytest.raises(BadName, match="mine_x_y is the view of mine findings"):
        planted.add_finding_kind("mine_x", {"y": both["y"]})


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("spike", {}, "trajstore has a view spike_groups itself"),
        ("mine", {"rows": 1}, "has rows"),
        ("mine", {"names": ["share", "share"]}, "no table of findings"),
        ("mine", {"names": ["finding"]}, "no table of findings"),
        ("mine", {"meaning": 5}, "no table of a kind"),
        ("mine", {"meaning": "\ud800"}, "no table of a kind"),
    ],
)
def test_a_kind_of_a_store_that_somebody_sends(
    tmp_path: Path, kind: str, change: dict[str, Any], reason: str
) -> None:
    names = change.get("names", ["share"])
    texts = json.dumps(dict.fromkeys(names, change.get("meaning", "share")))
    columns = [pa.array([0.5] * change.get("rows", 0), pa.float64())] * len(names)
    path = tmp_path / f"findings/kind={kind}/finding=.empty/groups.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(digests.parquet(pa.table(columns, names), {"trajstore.comments": texts}))
    with pytest.raises(DamagedFile, match=reason):
        finding_kinds.tables_of(tmp_path, kind)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: defined(name="pca"), "trajstore has an analysis of that name itself"),
        (lambda: defined(name="My-own"), "cannot be the name of an analysis"),
        (lambda: AnalysisDefinition("x", lambda store, selection: {}, {}), "a table at least"),
        (lambda: AnalysisDefinition("x", _without_help, {"t": SHARE}).options, "wants Annotated"),
        (lambda: AnalysisDefinition("x", _several, {"t": SHARE}).options, "several values as list"),
        (lambda: of_packages._function(AnalysisDefinition("x", _clash, {"t": SHARE})), "every analysis has"),
    ],
)
def test_definitions_that_cannot_be(make: Any, reason: str) -> None:
    with pytest.raises(BadAnalysis, match=reason):
        make()


def _without_help(store: Store, selection: Selection, *, n: int = 3) -> dict[str, pl.DataFrame]:
    return {}


def _several(store: Store, *, names: Annotated[Sequence[str], "Names."] = ()) -> dict[str, pl.DataFrame]:
    return {}


def _clash(store: Store, *, steps: Annotated[int, "Steps."] = 3) -> dict[str, pl.DataFrame]:
    return {}


def test_choices_that_are_numbers_come_from_the_command_line(
    planted: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def compute(
        store: Store, selection: Selection, *, of: Annotated[Literal[3, 4], "Which."] = 3
    ) -> dict[str, pl.DataFrame]:
        return {"shares": pl.DataFrame({"share": [of / 8]})}

    command = command_of(of_packages._function(AnalysisDefinition("mine", compute, {"shares": SHARE})))
    for words, share in (([], 0.375), (["--of", "4"], 0.5), (["--of", "4"], 0.5)):
        command([*words, "--json", "-s", str(planted.path)], standalone_mode=False)
        assert json.loads(capsys.readouterr().out)["shares"] == [{"share": share}]
        # The same again knows its finding, though the store has lost the kind's tables.
        (planted.path / "findings/kind=mine/finding=.empty/shares.parquet").unlink()
        assert finding_kinds.declared(planted.path) == []


def test_results_that_are_not_as_defined(planted: Store) -> None:
    for rows, reason in (
        ({"share": [0.5, None]}, "null values to non-nullable"),
        ({"share": ["x"]}, "Failed to parse string"),
    ):
        with pytest.raises(BadAnalysis, match=reason):
            defined(rows=rows)(planted)
    with pytest.raises(BadAnalysis, match="gave the tables str"):
        AnalysisDefinition("x", lambda store, selection: "t", {"t": SHARE})(planted)  # type: ignore[arg-type,return-value]
    with pytest.raises(BadAnalysis, match="its table shares lacks the column share"):
        defined(rows={"part": [1.0]})(planted)
    with pytest.raises(BadOption, match="finite"):
        defined()(planted, of=float("nan"))
    with pytest.raises(BadOption, match="all or some"):
        defined()(planted, of="none")
    with pytest.raises(PlotError, match="draws no charts"):
        defined()(planted).charts()
    # The view would take the place of trajstore's own.
    with pytest.raises(BadName, match="spike_groups"):
        planted.add_finding_kind("spike", {"groups": defined().schemas["shares"]})
    with pytest.raises(BadName, match="small letters"):
        Column("Share", "double", "")
    with pytest.raises(BadName, match="names of folders"):
        Column("finding", "text", "")
    with pytest.raises(BadName, match="another column of that name"):
        defined([*SHARE, *SHARE])
