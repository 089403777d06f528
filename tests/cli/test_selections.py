"""A group may be given in the same four ways to every command: by name, made by Python, as a call, as an expression.

What a command takes is compared with plain SQL over the store.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import trajstore
from tests.cli.test_cli import run
from tests.conftest import ragged
from tests.server.report.test_report import ReportFile
from trajstore import Selection
from trajstore.errors import GroupError, UnknownName
from trajstore.pipelines.comparison.result import Question
from trajstore.store.catalog.group_expressions import is_call, parse
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

pytestmark = pytest.mark.usefixtures("drawn_rho")
STEPS = [0, *(2**power for power in range(15))]
MODELS = ("a", "b")
SITES = "dataset, context, position"
KINDS = {
    "repeated_token": f"SELECT {SITES} FROM groups.repeated_token",
    "odd": f"SELECT {SITES} FROM tokens WHERE token % 2 = 1",
    "position_between(3, 9)": f"SELECT {SITES} FROM tokens WHERE position BETWEEN 3 AND 9",
    "(odd | repeated_token) - position_between(3, 9)": f"SELECT {SITES} FROM tokens "
    "WHERE (token % 2 = 1 OR (dataset, context, position) IN (SELECT (dataset, context, position) "
    "FROM groups.repeated_token)) AND position NOT BETWEEN 3 AND 9",
}
"""Each kind of group, with a query that gives its tokens without it."""

Value = dict[str, Any]


@pytest.fixture(scope="module")
def path(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two models on two datasets, with a group by a Python function."""
    folder = tmp_path_factory.mktemp("selections")
    (folder / "mine.py").write_text(
        'def odd(tokens):\n    """Tokens of odd numbers."""\n    return tokens[\'token\'] % 2 == 1\n'
    )
    rng = np.random.default_rng(1)
    with new_store(folder / "store") as store, contextlib.chdir(folder):
        for name, seed in (("d", 1), ("e", 2)):
            dataset = store.add_dataset(name, ragged((9, 2, 30, 17, 5, 40), seed))
            final = rng.gamma(3, 0.5, dataset.n_losses)
            for model, speed in zip(MODELS, (1.0, 1.7), strict=True):
                for step in STEPS:
                    losses = final + 6 / (1 + step * speed) ** 0.3 + rng.normal(0, 0.05, dataset.n_losses)
                    store.append(model=model, dataset=name, step=step, losses=losses.astype(np.float32))
        store.groups.add_python("odd", "mine:odd")
    return folder / "store"


def counted(path: Path, group: str, *, positions: str = "position > 0") -> dict[str, int]:
    """Tokens of a kind of group by dataset, as plain SQL counts them; those with a loss by default."""
    with Store(path) as store:
        query = f"SELECT dataset, count(*) FROM ({KINDS[group]}) WHERE {positions} GROUP BY dataset ORDER BY dataset"
        return dict(store.sql(query).fetchall())


def means(path: Path, group: str) -> dict[tuple[str, str, int], float]:
    """Mean loss of a kind of group by model, dataset and step, as plain SQL gives it."""
    with Store(path) as store:
        query = (
            f"SELECT model, dataset, step, avg(loss::DOUBLE) FROM losses JOIN ({KINDS[group]}) USING ({SITES}) "
            "GROUP BY ALL ORDER BY ALL"
        )
        return {(model, dataset, step): mean for model, dataset, step, mean in store.sql(query).fetchall()}


def said(path: Path, *words: object) -> Any:
    """Return what a command prints as JSON."""
    return json.loads(run(*words, "-s", path, "--json").stdout)


def sites(path: Path, query: str) -> list[tuple[str, int, int]]:
    """Rows of a query of sites, sorted."""
    with Store(path) as store:
        return sorted(set(store.sql(query).fetchall()))


def with_loss(path: Path, group: str) -> list[tuple[str, int, int]]:
    return sites(path, f"FROM ({KINDS[group]}) WHERE position > 0")


def trajectory(path: Path, group: str) -> None:
    rows = said(path, "trajectory", group, "--ci", "none")
    expected, tokens = means(path, group), counted(path, group)
    assert {(row["model"], row["dataset"], row["step"]) for row in rows} == set(expected)
    for row in rows:
        assert row["tokens"] == tokens[row["dataset"]]
        assert row["mean"] == pytest.approx(expected[row["model"], row["dataset"], row["step"]], abs=1e-6)
    assert {row["group"] for row in rows} == {group}


def trajectory_minus(path: Path, group: str) -> None:
    """Every token of one context less the group's."""
    words = (
        "trajectory",
        "every_token",
        "--minus",
        group,
        "--contexts",
        "2:3",
        "-m",
        "a",
        "-d",
        "d",
        "--steps",
        "8",
    )
    (row,) = said(path, *words)
    with Store(path) as store:
        loss = "SELECT avg(loss::DOUBLE) FROM losses WHERE dataset = 'd' AND model = 'a' AND step = 8 AND context = 2"
        within = f"{loss} AND ({SITES}) IN (SELECT ({SITES}) FROM ({KINDS[group]}))"
        ((every,),), ((of_group,),) = (store.sql(query).fetchall() for query in (loss, within))
    assert row["mean"] == pytest.approx(every - of_group, abs=1e-6)


def matrix(path: Path, group: str) -> None:
    out = path.parent / "matrix.npy"
    run("matrix", out, "-d", "d,e", "-g", group, "-m", "a", "-s", path)
    columns = pl.read_parquet(out.with_suffix(".columns.parquet"))
    assert sorted(columns.select("dataset", "context", "position").rows()) == with_loss(path, group)
    assert np.load(out).shape == (len(STEPS), columns.height)


def pca(path: Path, group: str) -> None:
    name = said(path, "pca", "-d", "d,e", "-g", group, "--components", "2")["finding"]
    found = sites(path, f"SELECT {SITES} FROM pca_loadings WHERE finding = '{name}'")
    assert found == with_loss(path, group)
    assert said(path, "finding", "show", "pca", name)["asked"]["group"] == group
    run(
        "pca", "--update", name, "--steps", "1:64", "-s", path, ok=False
    )  # lacks rows, and finds its columns again
    every = said(path, "pca", "-d", "d,e", "--components", "2")["finding"]
    rows = said(path, "finding", "groups", every, "-g", group)
    assert {row["tokens"] for row in rows} == {len(found)}


def spikes(path: Path, group: str) -> None:
    words = (
        "spikes",
        "-m",
        "a",
        "-d",
        "d,e",
        "-g",
        group,
        "--window",
        "64:256:1024",
        "--no-enrich",
        "--tau",
        "0.1",
    )
    name = said(path, *words)["finding"]
    assert sites(path, f"SELECT {SITES} FROM spike_tokens WHERE finding = '{name}'") == with_loss(path, group)


def shapes(path: Path, group: str) -> None:
    found = said(path, "shapes", "-m", "a", "-d", "d", "-g", group)
    tokens = counted(path, group)["d"]
    assert [(row["group"], row["tokens"]) for row in found["shares"]] == [(group, tokens)]
    name = found["finding"]
    assert sites(path, f"SELECT {SITES} FROM shapes WHERE finding = '{name}'") == [
        site for site in with_loss(path, group) if site[0] == "d"
    ]


def phases(path: Path, group: str) -> None:
    """The events of a kind of group are those of a group of the same tokens that was defined in SQL."""
    with Store(path) as store:
        store.groups.add("same", KINDS[group], replace=True)
    plain, other = (
        said(path, "phases", each, "-m", "a", "-d", "d", "--resamples", "100", "--replace")["events"]
        for each in ("same", group)
    )
    assert plain
    assert other == [{**event, "series": group} for event in plain]


def diff_steps(path: Path, group: str) -> None:
    words = ("diff", "steps", "-m", "a", "-d", "d,e", "--steps", "8,64", "-g", group, "--ci", "none")
    rows, expected = said(path, *words)["summary"], means(path, group)
    assert {row["dataset"]: row["tokens"] for row in rows} == counted(path, group)
    for row in rows:
        change = expected["a", row["dataset"], 64] - expected["a", row["dataset"], 8]
        assert row["mean"] == pytest.approx(change, abs=1e-6)


def diff_models(path: Path, group: str) -> None:
    rows = said(path, "diff", "models", "a", "b", "-d", "d,e", "-g", group, "--ci", "none")["summary"]
    expected = means(path, group)
    assert {row["dataset"]: row["tokens"] for row in rows} == counted(path, group)
    for row in rows:
        change = expected["b", row["dataset"], STEPS[-1]] - expected["a", row["dataset"], STEPS[-1]]
        assert row["mean"] == pytest.approx(change, abs=1e-6)


def compare(path: Path, group: str) -> None:
    words = ("compare", "a", "b", "-d", "d,e", "-g", group, "--no-groups", "--resamples", "100")
    rows = said(path, *words)["correlations"]
    assert {row["dataset"]: row["tokens"] for row in rows} == counted(path, group)


def report(path: Path, group: str) -> None:
    out = path.parent / "report.html"
    run("report", out, "-d", "d,e", "-m", "a", "-g", group, "-s", path)
    tokens = counted(path, group)
    texts = ReportFile(out).facts["groupTexts"][group]
    assert any(f"Tokens: {tokens['d']} of d, {tokens['e']} of e." in text for text in texts)


def examples(path: Path, group: str) -> None:
    found = said(path, "group", "examples", group, "-n", "500")
    assert found["sizes"] == counted(path, group, positions="true")
    drawn = sorted((row["dataset"], row["context"], row["position"]) for row in found["tokens"])
    assert drawn == sites(path, KINDS[group])
    assert found["description"]


def balance(path: Path, group: str) -> None:
    made = said(path, "group", "balance", group, "second_half", "--replace", "--on", "frequency")
    counts = [row for row in made["counts"] if row["group"] == group]
    assert {row["dataset"]: row["tokens"] for row in counts} == counted(path, group, positions="true")


def query(path: Path, group: str) -> None:
    rows = json.loads(
        run("query", "trajectories", "-p", f"group={group}", "--format", "json", "-s", path).stdout
    )
    expected, tokens = means(path, group), counted(path, group)
    assert len(rows) == len(expected)
    for row in rows:
        assert row["tokens"] == tokens[row["dataset"]]
        assert row["mean"] == pytest.approx(expected[row["model"], row["dataset"], row["step"]], abs=1e-6)


COMMANDS: tuple[Callable[[Path, str], None], ...] = (
    report,  # first, since it draws the findings that others keep
    *(trajectory, trajectory_minus, matrix, pca, spikes, shapes, phases, diff_steps, diff_models, compare),
    *(examples, balance, query),
)


@pytest.mark.parametrize("group", KINDS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_group_is_taken_in_every_form(path: Path, command: Callable[[Path, str], None], group: str) -> None:
    command(path, group)


def test_the_group_of_a_selection_narrows_every_analysis(path: Path) -> None:
    """Also where an analysis takes groups of its own: those of their tokens that are in it are left."""
    group = "(odd | repeated_token) - position_between(3, 9)"
    tokens = counted(path, group)["d"]
    with trajstore.open(path) as store:
        chosen = Selection("d", "a", "8,64", group=group)
        assert trajstore.trajectories(store, ["every_token"], chosen)["tokens"].to_list() == [tokens] * 2
        both = f"(hapax) & ({group})"
        narrow = trajstore.trajectories(store, ["hapax"], chosen)["mean"]
        assert narrow.equals(trajstore.trajectories(store, [both], replace(chosen, group=None))["mean"])
        assert store.matrix("d", "a", group, "8,64").columns.height == tokens
        assert set(trajstore.diff(store, chosen).summary["tokens"]) == {tokens}
        apart = trajstore.compare(store, ["a", "b"], Question(groups=False), Selection("d", group=group))
        assert set(apart.correlations["tokens"]) == {tokens}
        assert apart.facts["asked"]["group"] == group
        every = Selection("d", "a", group=group)
        assert len(trajstore.shapes(store, every).parts[0].sites.tokens) == tokens
        assert trajstore.shapes(store, every, "hapax").options.groups == (both,)
        assert trajstore.phases(store, "every_token", every).facts["selection"]["group"] == group


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("odd & repeated_token", "FROM groups.odd INTERSECT FROM groups.repeated_token"),
        ("odd|hapax", "FROM groups.odd UNION FROM groups.hapax"),
        (
            "odd - hapax - position_is(3)",
            "FROM groups.odd EXCEPT FROM groups.hapax EXCEPT FROM position_is(3)",
        ),
        ("odd - (hapax | odd)", "FROM groups.odd EXCEPT FROM groups.odd"),
        ("((position_is(3)))", "FROM position_is(3)"),
    ],
)
def test_set_expressions_are_sql_set_operations(path: Path, text: str, sql: str) -> None:
    with Store(path) as store:
        dataset = store.dataset("d")
        starts = np.cumsum(dataset.lengths) - dataset.lengths
        rows = store.sql(f"SELECT DISTINCT context, position FROM ({sql}) WHERE dataset = 'd'").fetchall()
        assert store.groups.members(text, dataset).tolist() == sorted(
            int(starts[context] + position) for context, position in rows
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("odd & hapax - odd", r"has & beside - without brackets.*\(a & b\) - c"),
        ("odd & ~hapax", r"Cannot read the group 'odd & ~hapax' at '~hapax'"),
        ("odd &", "at its end"),
        ("(odd", "at its end"),
        ("odd) hapax", r"at '\) hapax'"),
        ("odd hapax & odd", "at 'hapax & odd'"),
        ("(" * 60 + "odd" + ")" * 60, "more than 50 brackets in each other. Keep a part"),
        ("position_is(3", r"at '\(3'.*joined by & \(in both\)"),
        ("noise_floor(1, 2) & odd", "is no group: one gives the columns dataset, context, position"),
    ],
)
def test_what_is_no_expression_is_said(path: Path, text: str, message: str) -> None:
    with Store(path) as store, pytest.raises(GroupError, match=message):
        store.groups.check(text)


def test_a_mistyped_name_in_an_expression_is_said(path: Path) -> None:
    done = run("matrix", path.parent / "no.npy", "-d", "d", "-g", "odd & hapaxes", "-s", path, ok=False)
    assert "There is no group 'hapaxes' here" in " ".join(done.output.split())
    with Store(path) as store, pytest.raises(UnknownName, match="Did you mean hapax"):
        store.groups.members("hapaxes", store.dataset("d"))


def test_calls_are_told_from_other_expressions() -> None:
    assert [is_call(text) for text in (" f(1)", "f ('a)b', [2])", "f(1) & f(1)", "f", "f(1", "(f(1))")] == [
        *(True, True, False, False, False, False)
    ]
    assert parse("g('x', 1) - (a | g('x', 1))").calls == ("g('x', 1)",)
