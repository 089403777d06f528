"""Panes of groups, components, comparisons and findings, without HTTP: frames against SQL and numpy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.helpers.progress import Heard
from tests.server.conftest import ADDRESS
from trajstore.analysis.components.methods import Method
from trajstore.analysis.spikes.tokens import Tolerance
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.errors import BadOption, GroupError, NothingChosen
from trajstore.pipelines.components.pca import pca
from trajstore.pipelines.spikes import Search, spikes
from trajstore.server.app import create_app
from trajstore.server.panes import compare, components, findings, groups
from trajstore.store.files.measures import Measure
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

ON_D = Selection(datasets=["d"])
FEW = Interval(resamples=100)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, planted_once: Path) -> Iterator[Store]:
    """The planted store with a group, a PCA, spikes and measures."""
    with Store(shutil.copytree(planted_once, tmp_path_factory.mktemp("panes") / "store")) as store:
        store.groups.add("early", "FROM tokens WHERE position BETWEEN 1 AND 4", "Early tokens.")
        pca(store, ON_D, Method(components=3)).keep("p")
        spikes(
            store, Selection(datasets=["d"], models=["a"]), Search((4, 8, 16), tolerance=Tolerance(tau=0.1))
        ).keep("s")
        for step in (1, 2):
            values = [Measure("norm", float(step * layer), layer=layer) for layer in (0, 1)]
            store.add_measures("norm", values, model="a", step=step)
        yield store


def test_groups_have_sizes_and_trajectories_those_of_sql(shown: Store) -> None:
    own = groups.group_list(shown).filter(group="early", dataset="d")
    ((size,),) = shown.sql("SELECT count(*) FROM groups.early WHERE dataset = 'd'").fetchall()
    assert own.select("origin", "description", "tokens").row(0) == ("sql", "Early tokens.", size)

    heard = Heard()
    frame = groups.group_trajectories(shown, ["early", "every_token"], ON_D, interval=FEW, progress=heard)
    ((mean,),) = shown.sql(
        "SELECT avg(loss) FROM losses SEMI JOIN groups.early USING (dataset, context, position) "
        "WHERE model = 'b' AND dataset = 'd' AND step = 8"
    ).fetchall()
    assert frame.filter(group="early", model="b", step=8)["mean"][0] == pytest.approx(mean)
    assert any("Intervals" in line for line in heard.lines)
    apart = groups.group_trajectories(shown, ["early"], ON_D, Comparison(minus="every_token"), FEW)
    assert apart["group"].unique().to_list() == ["early − every_token"]


def test_a_draft_is_shown_and_kept_nowhere(shown: Store) -> None:
    before = shown.groups.names()
    heard = Heard()
    frame = groups.group_draft(
        shown, "-- late\nFROM tokens WHERE position = 8 -- one", ON_D, 3, progress=heard
    )
    assert frame["position"].to_list() == [8] * 3
    assert heard.lines == ["Tokens: 4 in d."]
    assert frame.columns[-4:] == ["before", "marked", "after", "tokens"]
    assert shown.groups.names() == before
    for bad in ("FROM tokens WHERE", "SELECT 1 AS context", "DROP TABLE migrations"):
        with pytest.raises(GroupError, match="draft"):
            groups.group_draft(shown, bad, ON_D)
    assert groups.group_examples(shown, "early", ON_D, 2).height == 2


def test_components_are_those_kept_or_new(shown: Store) -> None:
    kept = shown.finding("pca", "p")
    assert components.kept_components(shown).row(0)[:4] == ("p", "full", "a, b", "d")
    wide = components.wide_scores(kept.table("scores"))
    table = kept.table("scores").filter(model="b", step=64).sort("component")["score"].to_list()
    assert wide.filter(model="b", step=64).row(0)[2:] == tuple(table)
    assert components.scree(kept)["component"].to_list() == [1, 2, 3][: len(table)]

    loadings = kept.table("loadings").filter(component=1)["loading"]
    top = components.component_tokens(shown, kept, 1, 4)
    assert top["loading"].to_list() == sorted(top["loading"].to_list(), reverse=True)
    assert {top["loading"][0], top["loading"][-1]} <= {loadings.max(), loadings.min()}
    fitted = pca(shown, ON_D, Method(components=3))
    anew = components.component_tokens(shown, fitted, 1, 4)
    assert anew.drop("loading").rows()[:4] == top.drop("loading").rows()[:4]
    np.testing.assert_allclose(
        components.wide_scores(fitted.table("scores")).drop("model"), wide.drop("model"), atol=1e-6
    )


def test_density_counts_each_token_once_and_a_box_gives_its_tokens(shown: Store) -> None:
    pair = compare.LossPair.read(shown, "a@8", "b@8", "d", Selection())
    cells = compare.loss_density(pair)
    assert cells["tokens"].sum() == len(pair.x) == shown.dataset("d").n_losses
    assert (cells["x_low"] < cells["x_high"]).all()

    box = compare.Box(high=11.5, other_low=9, apart=0.1)
    frame = compare.tokens_in_box(shown, pair, box, 5)
    sql = (
        "SELECT a.loss - b.loss AS apart FROM losses a JOIN losses b USING (dataset, step, context, position) "
        "WHERE a.model = 'a' AND b.model = 'b' AND dataset = 'd' AND step = 8 AND a.loss <= 11.5 AND b.loss >= 9 "
        "AND abs(a.loss::DOUBLE - b.loss) >= 0.1 ORDER BY abs(apart) DESC"
    )
    expected = shown.sql(sql).pl()["apart"]
    assert frame["in_box"][0] == len(expected) > 5
    np.testing.assert_allclose(frame["difference"], expected[:5], rtol=1e-5)

    enriched = compare.groups_in_box(shown, pair, box, FEW)
    assert enriched.filter(group="early")["marked"][0] > 0
    with pytest.raises(NothingChosen):
        compare.groups_in_box(shown, pair, compare.Box(low=1e6), FEW)
    with pytest.raises(BadOption):
        compare.Box(low=2, high=1)


def test_convergence_is_of_all_steps(shown: Store) -> None:
    frame = compare.convergence(shown, ["a", "b"], ON_D, FEW)
    same = frame.filter((pl.col("step") == pl.col("other_step")) & (pl.col("model") != pl.col("other")))
    pair = compare.LossPair.read(shown, "a@8", "b@8", "d", Selection())
    assert same.filter(step=8)["pearson"][0] == pytest.approx(np.corrcoef(pair.x, pair.y)[0, 1], abs=1e-6)


def test_findings_are_listed_and_their_rows_have_contexts(shown: Store) -> None:
    listed = findings.finding_list(shown)
    assert listed["finding"].to_list() == ["p", "s"]
    assert findings.finding_list(shown, Selection(models=["b"]))["finding"].to_list() == ["p"]
    heard = Heard()
    rows = findings.finding_rows(shown, shown.finding("pca", "p"), "loadings", 4, heard)
    sizes = shown.finding("pca", "p").table("loadings")["loading"].abs().sort(descending=True)
    assert rows["loading"].abs().to_list() == sizes[:4].to_list()
    assert rows["marked"].null_count() == 0
    assert "rows" in heard.lines[0]
    kept = shown.finding("spikes", "s").table("spikes")
    assert findings.events(shown)["step"].to_list() == kept["at_step"].to_list()


def test_measures_have_a_curve_for_each_layer(shown: Store) -> None:
    assert findings.measure_names(shown).row(0) == ("norm", 2, 0, 2, 1)
    with TestClient(create_app(shown.path), base_url=ADDRESS) as client:
        curves = client.get("/api/measure-curves.json?measures=norm").json()
    assert [(row["step"], row["value"]) for row in curves if row["layer"] == 1] == [(1, 1.0), (2, 2.0)]


def test_new_components_are_computed_once_for_the_cards_of_the_pane(
    shown: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*arguments: Any) -> object:
        made.append(arguments)
        return pca(*arguments)

    monkeypatch.setattr(components, "pca", counted)
    of = "datasets=d&steps=2:64&components=2"
    with TestClient(create_app(shown.path), base_url=ADDRESS) as client:
        scores, variance, tokens = (
            client.get(f"/api/component-{name}.json?{of}").json() for name in ("scores", "variance", "tokens")
        )
    assert len(made) == 1
    expected = pca(shown, Selection(["d"], steps="2:64"), Method(components=2))
    assert [row["component_1"] for row in scores] == pytest.approx(
        components.wide_scores(expected.table("scores"))["component_1"].to_list()
    )
    assert len(variance) == 2
    assert tokens[0]["loading"] == pytest.approx(expected.result.loadings[0].max())


def test_each_endpoint_answers_and_errors_say_what_to_do(client: TestClient, served_path: Path) -> None:
    pair = "one=a@8&other=b@8&dataset=d"
    for address in (
        "group-sizes.json",
        "trajectories.json?groups=every_token;position_is(3)&models=a&datasets=d&ci=none",
        "group-examples.json?group=hapax",
        "components.json",
        "component-scores.json?datasets=d&components=2",
        "component-variance.json?datasets=d",
        "component-tokens.json?datasets=d&component=2",
        f"density.json?{pair}",
        f"box-tokens.json?{pair}&low=5",
        f"box-groups.json?{pair}&other_high=10",
        "convergence.json?models=a,b&datasets=d&steps=8&ci=none",
        "findings.json",
        "finding-events.json",
        "measure-names.json",
    ):
        reply = client.get(f"/api/{address}")
        assert reply.status_code == 200, (address, reply.text)
        assert isinstance(reply.json(), list)
    cells = client.get(f"/api/density.json?{pair}").json()
    with Store(served_path) as store:
        assert sum(cell["tokens"] for cell in cells) == store.dataset("d").n_losses
    draft = client.post("/api/group-draft", json={"sql": "FROM tokens WHERE position = 1", "kind": "json"})
    assert {row["position"] for row in draft.json()} == {1}
    for refused in (
        client.post("/api/group-save", json={"sql": "FROM tokens", "name": "all_tokens"}),
        client.post("/api/group-draft", json={"sql": ["FROM tokens"]}),
        client.get("/api/box-tokens.json?one=a&other=b&dataset=d&low=3&high=2"),
        client.get("/api/finding.json?kind=pca&finding=none&table=scores"),
        client.get("/api/measure-curves.json?measures=none"),
        client.get(f"/api/group-examples.json?group={'(' * 2000}"),
        client.get(f"/api/context.json?dataset=d&context={'0' * 5000}"),
    ):
        assert refused.status_code in (400, 404), refused.text
        assert refused.json()["error"]


def test_replies_speak_of_the_page(client: TestClient) -> None:
    rows = client.get("/api/trajectories.json?groups=every_token&models=a&datasets=d&ci=studentised")
    assert rows.json()[0]["low"] is not None
    reply = client.get("/api/trajectories.json?groups=every_token&models=a&datasets=d&steps=7").json()
    assert "“Steps: 7” matches no checkpoint" in reply["error"]
    assert "--steps" not in str(reply)


def test_the_findings_that_name_a_token_are_those_of_sql(shown: Store) -> None:
    with TestClient(create_app(shown.path), base_url=ADDRESS) as client:
        [(context, position, kind)] = shown.sql(
            "SELECT context, position, token_class FROM spike_tokens WHERE dataset = 'd' ORDER BY ALL LIMIT 1"
        ).fetchall()
        reply = client.get(f"/api/token_findings.json?dataset=d&context={context}&position={position}").json()
        expected = [
            {
                "what": "loading",
                "finding": "p",
                "of": f"component {component}",
                "value": str(round(loading, 6)),
            }
            for component, loading in shown.sql(
                "SELECT component, loading FROM pca_loadings WHERE dataset = 'd' "
                f"AND context = {context} AND position = {position} ORDER BY component"
            ).fetchall()
        ]
        assert len(expected) == 3
        spike = {"what": "spike", "finding": "s", "of": "a at 8", "value": kind}
        assert reply == [*expected, spike]
        nowhere = client.get("/api/token_findings.json?dataset=e&context=0&position=1")
        assert nowhere.json() == []


def test_a_group_is_saved_where_editing_is_allowed(shown: Store) -> None:
    with TestClient(create_app(shown.path, edit=True), base_url=ADDRESS) as client:
        reply = client.post(
            "/api/group-save", json={"name": "first", "sql": "FROM tokens WHERE position = 1"}
        )
        assert reply.json() == {"name": "first", "sizes": {"d": 6, "e": 6}}
    assert "first" in shown.groups.names()
    shown.groups.drop("first")
