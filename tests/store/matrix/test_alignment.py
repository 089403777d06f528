"""The loss of a group's tokens and the loss after them, on losses made by hand, through each reader of groups.

A published curve of "surnames" tested token k and read the loss of token k + 1: it was the loss after the surname.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import new_dataset
from tests.server.report.test_report import ReportFile
from trajstore.arguments.choices import Align
from trajstore.cli import app
from trajstore.errors import BadOption, NothingChosen, QueryError, TrajstoreError
from trajstore.pipelines import trajectories
from trajstore.pipelines.token_context import examples
from trajstore.server.report.report import write_report
from trajstore.store.matrix.selection import Selection
from trajstore.store.queries import query
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

CONTEXTS = [["Mr", " Smith", " said", " Mrs", " Smith"], [" Smith", " left"], ["a", " b", " c"]]
LOSSES = {
    "a": {0: [10, 20, 30, 40, 50, 60, 70], 1: [1, 5, 3, 4, 9, 6, 7]},
    "b": {0: [12, 21, 30, 40, 50, 60, 70], 1: [2, 2, 2, 2, 2, 2, 2]},
}
"""By model and step, of the positions (0, 1) … (0, 4), (1, 1), (2, 1), (2, 2)."""

# Surnames stand at (0, 1), (0, 4) and (1, 0). The last has no loss of its own, (0, 4) has nothing after it.
SITES: dict[Align, list[tuple[int, int]]] = {"predict": [(0, 1), (0, 4)], "after": [(0, 2), (1, 1)]}
VALUES: dict[Align, list[int]] = {"predict": [0, 3], "after": [1, 4]}
"""Their places in the lists of losses."""
TEXTS: dict[Align, list[str]] = {"predict": [" Smith", " Smith"], "after": [" said", " left"]}
ALIGNS: list[Align] = ["predict", "after"]


def losses(model: str, step: int, align: Align) -> list[int]:
    return [LOSSES[model][step][place] for place in VALUES[align]]


@pytest.fixture(scope="module")
def surnames(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that no test changes."""
    path = tmp_path_factory.mktemp("alignment") / "store"
    with new_store(path) as store:
        yield made(store)


def made(store: Store) -> Store:
    store.add_dataset("d", new_dataset(CONTEXTS))
    for model, by_step in LOSSES.items():
        for step, values in by_step.items():
            store.append(model=model, dataset="d", step=step, losses=[float(loss) for loss in values])
    store.groups.add("surnames", "SELECT dataset, context, position FROM tokens WHERE text = ' Smith'")
    store.groups.add("last_tokens", "SELECT dataset, context, n_tokens - 1 AS position FROM contexts")
    return store


def run(store: Store, *words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--json", "-s", str(store.path)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_by_hand() -> None:
    """The two differ, and no value stands in both."""
    assert losses("a", 0, "predict") == [10, 40]
    assert losses("a", 0, "after") == [20, 50]


@pytest.mark.parametrize("align", ALIGNS)
def test_trajectory(surnames: Store, align: Align) -> None:
    rows = run(surnames, "trajectory", "surnames", "--align", align)
    found = {(row["model"], row["step"]): (row["tokens"], row["mean"]) for row in rows}
    assert found == {
        (model, step): (2, pytest.approx(np.mean(losses(model, step, align))))
        for model in "ab"
        for step in (0, 1)
    }


@pytest.mark.parametrize("align", ALIGNS)
def test_macro(surnames: Store, align: Align) -> None:
    rows = surnames.sql(f"FROM trajectory('surnames', align := '{align}')").fetchall()
    assert rows == [
        (model, "d", step, 2, np.mean(losses(model, step, align))) for model in "ab" for step in (0, 1)
    ]


def test_predict_is_the_default(surnames: Store) -> None:
    for name in ("surnames", "every_token"):
        assert (
            surnames.sql(f"FROM trajectory('{name}')").fetchall()
            == surnames.sql(f"FROM trajectory('{name}', align := 'predict')").fetchall()
        )
        assert surnames.query("trajectories", group=name).fetchall() == (
            surnames.sql(f"FROM trajectory('{name}')").fetchall()
        )
    assert surnames.matrix("d", group="surnames").values[0].tolist() == losses("a", 0, "predict")


@pytest.mark.parametrize("align", ALIGNS)
def test_matrix(surnames: Store, align: Align) -> None:
    matrix = surnames.matrix("d", group="surnames", align=align)
    assert matrix.columns.select("context", "position").rows() == SITES[align]
    assert matrix.columns["text"].to_list() == TEXTS[align]
    assert matrix.values.tolist() == [losses(model, step, align) for model, step in matrix.rows.iter_rows()]


@pytest.mark.parametrize("align", ALIGNS)
def test_pca(surnames: Store, align: Align) -> None:
    found = run(surnames, "pca", "-d", "d", "-g", "surnames", "--align", align, "--components", "1")
    places = {(token["context"], token["position"], token["marked"]) for token in found["tokens"]}
    assert places == {(*site, text) for site, text in zip(SITES[align], TEXTS[align], strict=True)}
    values = np.array([losses(model, step, align) for model in "ab" for step in (0, 1)], dtype=float)
    variance = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)[0] ** 2 / len(values)
    total = ((values - values.mean(axis=0)) ** 2).sum() / len(values)
    assert found["variance"][0]["ratio"] == pytest.approx(variance / total)


@pytest.mark.parametrize("align", ALIGNS)
def test_examples(surnames: Store, align: Align) -> None:
    found = examples(surnames, "surnames", align=align, checkpoint="a@0")
    with_loss = found.tokens.drop_nulls("loss")
    assert with_loss.select("context", "position").rows() == SITES[align]
    assert with_loss["loss"].to_list() == losses("a", 0, align)
    assert with_loss["marked"].to_list() == TEXTS[align]
    # Of its own tokens the group has one more, at position 0.
    assert found.sizes == {"d": {"predict": 3, "after": 2}[align]} == {"d": found.tokens.height}


@pytest.mark.parametrize("align", ALIGNS)
def test_report(surnames: Store, align: Align, tmp_path: Path) -> None:
    page = write_report(surnames, tmp_path / "page.html", groups=["surnames"], align=align)
    held = ReportFile(page)
    for model in "ab":
        drawn = held.table("trajectories").filter(group="surnames", model=model)
        assert drawn["mean"].to_list() == [np.mean(losses(model, step, align)) for step in (0, 1)]
    assert ("tokens that follow them" in held.facts["groupTexts"]["surnames"][0]) == (align == "after")


def ask(store: Store, name: str, **parameters: Any) -> list[dict[str, Any]]:
    return store.query(name, group="surnames", **parameters).pl().to_dicts()


@pytest.mark.parametrize("align", ALIGNS)
def test_queries_of_means(surnames: Store, align: Align) -> None:
    means = {(m, s): np.mean(losses(m, s, align)) for m in "ab" for s in (0, 1)}
    rows = ask(surnames, "trajectories", align=align)
    assert {(row["model"], row["step"]): row["mean"] for row in rows} == means
    jumps = ask(surnames, "biggest_jumps", align=align)
    assert {row["model"]: row["difference"] for row in jumps} == {m: means[m, 1] - means[m, 0] for m in "ab"}
    spreads = ask(surnames, "seed_disagreement", align=align, models="*")
    for row in spreads:
        pairs = [losses(model, row["step"], align) for model in "ab"]
        assert row["mean_sd"] == pytest.approx(np.std(pairs, axis=0, ddof=1).mean())
        assert row["tokens"] == 2
    assert [row["step"] for row in spreads] == [0, 1]


@pytest.mark.parametrize("align", ALIGNS)
def test_queries_of_tokens(surnames: Store, align: Align) -> None:
    def places(rows: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
        return sorted((row["context"], row["position"], row["text"]) for row in rows)

    expected = [(*site, text) for site, text in zip(SITES[align], TEXTS[align], strict=True)]
    fallen = ask(surnames, "most_improved", align=align, from_step=0, models="a")
    assert places(fallen) == expected
    by_place = {(row["context"], row["position"]): (row["earlier"], row["later"]) for row in fallen}
    pairs = zip(losses("a", 0, align), losses("a", 1, align), strict=True)
    assert by_place == dict(zip(SITES[align], pairs, strict=True))
    # From step 1 back to 0 all of them rise.
    assert (
        places(ask(surnames, "most_forgotten", align=align, from_step=1, to_step=0, models="a")) == expected
    )
    assert places(ask(surnames, "model_disagreement", align=align, model="a", other="b")) == expected
    assert places(ask(surnames, "seed_disagreement_tokens", align=align, models="*", step=0)) == expected


def test_sizes(surnames: Store) -> None:
    predict, after = (ask(surnames, "group_sizes", align=align)[0] for align in ALIGNS)
    assert (predict["tokens"], predict["losses"], predict["contexts"]) == (3, 2, 2)
    assert (after["tokens"], after["losses"], after["contexts"]) == (2, 2, 2)


def test_after_the_last_token_is_nothing(surnames: Store) -> None:
    """Above all not the first loss of the next context."""
    assert surnames.sql("FROM trajectory('last_tokens', align := 'after')").fetchall() == []
    assert surnames.query("trajectories", group="last_tokens", align="after").fetchall() == []
    assert surnames.query("group_sizes", group="last_tokens", align="after").fetchall() == [("d", 0, 0, 0, 0)]
    assert examples(surnames, "last_tokens", align="after").tokens.height == 0
    with pytest.raises(NothingChosen):
        surnames.matrix("d", group="last_tokens", align="after")
    with pytest.raises(NothingChosen):
        trajectories.trajectories(surnames, ["last_tokens"], Selection(align="after"))


def test_after_every_token_is_every_loss(surnames: Store) -> None:
    """Each loss but those of position 0, which follow none and are none, follows one token."""
    after = surnames.matrix("d", group="every_token", align="after")
    predict = surnames.matrix("d", group="every_token")
    assert after.columns.equals(predict.columns)
    assert after.values.tolist() == predict.values.tolist()
    macro = "FROM trajectory('every_token', align := '{}')"
    assert surnames.sql(macro.format("after")).fetchall() == surnames.sql(macro.format("predict")).fetchall()


def test_unknown_alignments(surnames: Store) -> None:
    wrong: Any = "before"
    with pytest.raises(QueryError, match="align is before; there is predict .* and after"):
        query.frame(surnames, "FROM trajectory('surnames', align := 'before')")
    with pytest.raises(QueryError, match="align is null; there is predict"):
        query.frame(surnames, "FROM trajectory('surnames', align := NULL)")
    with pytest.raises(BadOption, match="Cannot read align='before'. It takes predict .* or after"):
        surnames.query("trajectories", group="surnames", align="before")
    with pytest.raises(TrajstoreError, match="align='before': there is predict"):
        surnames.matrix("d", group="surnames", align=wrong)
    with pytest.raises(TrajstoreError, match="align='before': there is predict"):
        examples(surnames, "surnames", align=wrong)
    for words in (
        ["trajectory", "surnames"],
        ["pca", "-d", "d"],
        ["group", "examples", "surnames"],
        ["report", "x.html"],
    ):
        result = CliRunner().invoke(app, [*words, "--align", "before", "-s", str(surnames.path)])
        assert result.exit_code == 1, words
        assert "there is predict" in result.stderr
