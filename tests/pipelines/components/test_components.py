"""Components from a store into a store: streamed as held, kept in SQL, and updated as if fitted from scratch."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from typer.testing import CliRunner

from tests.conftest import PLANTED_STEPS, ragged
from tests.helpers import commands
from trajstore.analysis.components.gram import (
    ArrayBlocks,
    RowCentring,
    Treatment,
    of_centred,
    prepared,
    products,
)
from trajstore.analysis.components.methods import Method, Residual, Sparsity
from trajstore.analysis.components.pca import PCAResult, fit, pca
from trajstore.analysis.components.sparse_pca import sparse_pca
from trajstore.cli import app
from trajstore.errors import BadOption, FindingExists, MissingSlices, TrajstoreError
from trajstore.pipelines.components.groups import component_groups
from trajstore.pipelines.components.pca import PrincipalComponents
from trajstore.pipelines.components.pca import pca as pca_of_store
from trajstore.pipelines.components.update import Changes, update
from trajstore.store import checks
from trajstore.store.files import slices
from trajstore.store.files.models import ModelFacts
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

LIMIT = 4 * 16 * 30
"""Bytes of a block of thirty columns of the planted store."""


@pytest.fixture
def noisy(store: Store) -> Store:
    """As `planted`, with noise, so that the matrix has full rank; and a dataset f of other lengths."""
    rng = np.random.default_rng(6)
    for name, lengths in (("d", (9, 30, 40)), ("e", (17, 5, 40)), ("f", (25, 8))):
        dataset = store.add_dataset(name, ragged(lengths, len(name)))
        base, drop = rng.gamma(3, 0.5, (2, dataset.n_losses))
        for model, speed in (("a", 1.0), ("b", 1.7)):
            for step in PLANTED_STEPS:
                noise = 0.2 * rng.normal(size=dataset.n_losses)
                losses = 12 + base - np.log1p(step * speed) * drop / 3 + noise
                store.append(model=model, dataset=name, step=step, losses=losses.astype(np.float32))
    return store


def components(
    store: Store, datasets: Sequence[str], selection: Selection | None = None, *rest: Any, **options: Any
) -> PrincipalComponents:
    """The components of a selection on these datasets."""
    return pca_of_store(store, replace(selection or Selection(), datasets=datasets), *rest, **options)


def same(one: PrincipalComponents, other: PrincipalComponents, rtol: float = 1e-8) -> None:
    """All numbers are equal but for rounding."""
    assert one.result.columns.equals(other.result.columns)
    assert one.inputs.checkpoints == other.inputs.checkpoints
    np.testing.assert_allclose(
        one.result.variance["variance"], other.result.variance["variance"], rtol=rtol, atol=0
    )
    np.testing.assert_allclose(one.result.variance["ratio"], other.result.variance["ratio"], rtol=rtol)
    size = np.abs(one.result.scores["score"]).max()
    np.testing.assert_allclose(one.result.scores["score"], other.result.scores["score"], atol=rtol * size)
    np.testing.assert_allclose(one.result.loadings, other.result.loadings, atol=rtol)
    np.testing.assert_allclose(one.result.mean, other.result.mean, rtol=rtol)


@pytest.mark.parametrize("center", ["all", "model"])
@pytest.mark.parametrize("scale", [False, True])
def test_streamed_it_is_the_same_as_held(noisy: Store, center: str, scale: bool) -> None:
    method = Method(components=4, treatment=Treatment(center, scale))  # type: ignore[arg-type]
    streamed = components(noisy, ["d", "e"], method=method, limit=LIMIT)
    held = pca(noisy.matrix(["d", "e"]), 4, center=center, scale=scale)  # type: ignore[arg-type]
    same(streamed, replace(streamed, result=held), 1e-10)


@pytest.mark.parametrize("missing", ["drop-columns", "mean"])
def test_what_is_missing(noisy: Store, missing: str) -> None:
    noisy.drop([("a", "e", 4), ("b", "e", 64)])
    with pytest.raises(MissingSlices):
        components(noisy, ["d", "e"])
    method = Method(components=3, treatment=Treatment(missing=missing))  # type: ignore[arg-type]
    streamed = components(noisy, ["d", "e"], method=method, limit=LIMIT)
    values = noisy.matrix(["d", "e"], missing="nan").values.astype(float)
    whole = (
        values[:, : noisy.dataset("d").n_losses]
        if missing == "drop-columns"
        else np.where(np.isnan(values), np.nanmean(values, axis=0), values)
    )
    theirs = PCA(3, svd_solver="full").fit(whole)
    np.testing.assert_allclose(streamed.result.variance["variance"], theirs.explained_variance_, rtol=1e-6)
    left_out = values.shape[1] - whole.shape[1]
    assert streamed.facts["columns_left_out"] == left_out == values.shape[1] - streamed.result.columns.height
    streamed.keep("holed")
    with pytest.raises(BadOption, match="without missing="):
        update(noisy, "holed")


def test_a_finding_is_in_sql_and_says_what_it_is_of(noisy: Store) -> None:
    found = components(
        noisy, ["d", "e"], Selection(models=["a"], steps="1:", group="second_half"), Method(components=3)
    )
    found.keep("first")
    with pytest.raises(FindingExists):
        found.keep("first")
    facts = json.loads(noisy.sql("SELECT facts FROM findings WHERE finding = 'first'").fetchall()[0][0])
    assert facts["asked"] == {
        "datasets": ["d", "e"],
        "models": ["a"],
        "steps": "1:",
        "contexts": None,
        "group": "second_half",
        "align": "predict",
    }
    assert facts["datasets"]["d"]["tokens_sha256"] == noisy.dataset("d").tokens_sha256
    assert (facts["method"], facts["rows"], facts["models"]) == ("full", 7, ["a"])
    scores = noisy.sql("SELECT score FROM pca_scores ORDER BY component, step").fetchnumpy()["score"]
    np.testing.assert_array_equal(scores, found.result.scores["score"])
    ordered = noisy.sql(
        "SELECT loading FROM pca_loadings ORDER BY component, dataset, context, position"
    ).fetchnumpy()
    np.testing.assert_allclose(ordered["loading"], found.result.loadings.ravel(), rtol=1e-6)
    assert facts["columns"] * 3 == len(ordered["loading"])
    kept = noisy.finding("pca", "first").table("slices")
    expected = [
        ("a", step, name, noisy.slice_facts("a", name, step).loss_sha256)
        for name in ("d", "e")
        for step in PLANTED_STEPS[1:]
    ]
    assert kept.rows() == expected
    assert checks.check(noisy, deep=True) == []


UPDATES = {
    "a dataset": (Selection(), ["d", "e"], Changes(datasets=["f"])),
    "contexts": (Selection(contexts="0:1"), ["d", "e"], Changes(contexts="0:")),
    "steps": (Selection(steps="0:8"), ["d", "e"], Changes(steps="all")),
    "a model": (Selection(models=["b"]), ["d", "e"], Changes(models=["a"])),
    "all of it": (
        Selection(models=["b"], steps="2:16", contexts="1:2"),
        ["e"],
        Changes(["d"], ["a"], "all", "0:9"),
    ),
}


@pytest.mark.parametrize("center", ["all", "model"])
@pytest.mark.parametrize("what", UPDATES)
def test_an_update_is_a_fit_from_scratch(noisy: Store, what: str, center: str) -> None:
    selection, datasets, changes = UPDATES[what]
    method = Method(components=5, treatment=Treatment(center))  # type: ignore[arg-type]
    components(noisy, datasets, selection, method=method).keep("grows")
    updated = update(noisy, "grows", changes, limit=LIMIT)
    asked = updated.inputs.selection
    chosen = Selection(models=asked.models, steps=asked.steps, contexts=asked.contexts)
    same(updated, components(noisy, asked.datasets, chosen, method=method))
    updated.keep("grows", replace=True)
    same(update(noisy, "grows"), updated)


def test_an_update_goes_on_in_the_precision_that_its_finding_was_made_in(noisy: Store) -> None:
    single = Method(components=5, treatment=Treatment(precision="single"))
    components(noisy, ["d"], method=single).keep("grows")
    updated = update(noisy, "grows", Changes(["e"]))
    assert updated.facts["precision"] == "single"
    exact, scratch = (components(noisy, ["d", "e"], method=how) for how in (Method(components=5), single))
    same(updated, scratch, rtol=1e-3)
    off = np.abs(scratch.result.variance["variance"] / exact.result.variance["variance"] - 1).to_numpy()
    assert 1e-12 < off.max() < 1e-3
    done = CliRunner().invoke(
        app, ["pca", "--update", "grows", "--precision", "single", "-s", str(noisy.path)]
    )
    assert done.exit_code == 2
    assert "--precision" in done.output


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Slices whose losses are read, by their path from losses/ on."""
    counted: Counter[str] = Counter()
    whole = slices.read_checked

    def counting(path: Path, *rest: object) -> object:
        counted["/".join(path.parts[-4:-1])] += 1
        return whole(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(slices, "read_checked", counting)
    return counted


@pytest.mark.parametrize(
    ("changes", "selection", "gram"),
    [
        (Changes(datasets=["f"]), Selection(), {"f": 16}),
        (Changes(steps="all"), Selection(steps="0:8"), {"d": 16, "e": 16}),
        (Changes(contexts="0:"), Selection(contexts="0:1"), {"d": 16, "e": 16}),
        (Changes(), Selection(), {}),
    ],
)
def test_only_what_is_new_is_read_for_dot_products(
    noisy: Store,
    reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: Changes,
    selection: Selection,
    gram: dict[str, int],
) -> None:
    components(noisy, ["d", "e"], selection).keep("grows")
    reads.clear()
    seen: list[Counter[str]] = []

    def stop(*_: object) -> None:
        seen.append(Counter(reads))
        raise TrajstoreError("stop before the loadings")

    monkeypatch.setattr("trajstore.pipelines.components.update.finish", stop)
    # The matrix for the loadings is read when their pass begins.
    with pytest.raises(TrajstoreError, match="stop before"):
        update(noisy, "grows", changes, limit=1 << 9)
    by_dataset: Counter[str] = Counter()
    for path in seen[0]:
        by_dataset[path.split("/")[1].removeprefix("dataset=")] += 1
    assert by_dataset == gram


def test_an_update_that_cannot_be_exact_is_refused(noisy: Store) -> None:
    components(noisy, ["d"], Selection(models=["a"])).keep("first")
    with pytest.raises(TrajstoreError, match=r"would lack a at step 1, a at step 16"):
        update(noisy, "first", Changes(steps="0"))
    with pytest.raises(TrajstoreError, match="would lack contexts of d"):
        update(noisy, "first", Changes(contexts="0:1"))
    components(noisy, ["d"], method=Method(treatment=Treatment(scale=True))).keep("scaled")
    with pytest.raises(BadOption, match="made without scale"):
        update(noisy, "scaled")
    noisy.append(model="a", dataset="d", step=4, losses=np.ones(76, dtype=np.float32), replace=True)
    with pytest.raises(TrajstoreError, match=r"losses of a on d at step 4 are others.* and replace"):
        update(noisy, "first")
    noisy.drop([("a", "d", 4)])
    with pytest.raises(TrajstoreError, match="would lack a at step 4"):
        update(noisy, "first")


def test_a_group_that_takes_in_other_tokens_is_noticed(noisy: Store) -> None:
    noisy.groups.add("mine", "SELECT dataset, context, position FROM tokens WHERE position > 5")
    components(noisy, ["d"], Selection(group="mine")).keep("first")
    noisy.groups.drop("mine")
    noisy.groups.add("mine", "SELECT dataset, context, position FROM tokens WHERE position > 6")
    with pytest.raises(TrajstoreError, match="the group mine takes in other tokens of d"):
        update(noisy, "first")


def test_the_residual_has_nothing_along_full_components(noisy: Store) -> None:
    values = noisy.matrix(["d", "e"]).values
    for treatment in (Treatment(), Treatment("model", scale=True)):
        rows = RowCentring.of(["a"] * 8 + ["b"] * 8, treatment.center)
        blocks = ArrayBlocks(values)
        full = fit(blocks, rows, treatment, products(blocks, rows, treatment), 3)
        left = np.hstack([block for _, block in Residual(blocks, rows, treatment, full)])
        assert np.abs(left @ full.loadings.T).max() < 1e-9
        centred = of_centred(
            np.hstack([p.values.copy() for p in prepared(blocks, rows, treatment)]), rows.parts
        )
        np.testing.assert_allclose(left, centred - full.scores @ full.loadings, atol=1e-9)
        assert np.linalg.norm(left) < np.linalg.norm(centred)


def test_hybrid_is_full_and_then_sparse_of_what_is_left(noisy: Store) -> None:
    sparsity = Sparsity(alpha=0.5)
    found = components(noisy, ["d", "e"], method=Method("hybrid", 2, sparsity=sparsity), limit=LIMIT).result
    values = noisy.matrix(["d", "e"]).values.astype(float)
    theirs = PCA(2, svd_solver="full").fit(values)
    np.testing.assert_allclose(found.variance["variance"][:2], theirs.explained_variance_, rtol=1e-8)
    left = values - theirs.inverse_transform(theirs.transform(values))
    alone = sparse_pca(left, 2, alpha=0.5)
    np.testing.assert_allclose(found.loadings[2:], alone.components, atol=1e-6)
    assert found.zeros[:2] == [0, 0]
    assert min(found.zeros[2:]) > 0.05
    assert found.variance["ratio"][2] == pytest.approx(
        alone.variance[0] / values.var(axis=0, ddof=1).sum(), rel=1e-6
    )


def test_sparse_components_are_kept_and_cannot_be_updated(noisy: Store) -> None:
    method = Method("sparse", 2, Treatment("model"), Sparsity(alpha=0.5))
    found = components(noisy, ["d", "e"], method=method, limit=LIMIT)
    found.keep("few")
    rows = noisy.sql("SELECT zeros, ratio FROM pca_components ORDER BY component").fetchall()
    assert [zeros for zeros, _ in rows] == pytest.approx(found.result.zeros)
    assert 0 < sum(ratio for _, ratio in rows) < 1
    assert found.facts["alpha"] == 0.5
    with pytest.raises(BadOption, match="made without method='sparse'"):
        update(noisy, "few")


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = commands.run(*words)
    assert result.exit_code == code, result.stderr
    return result.stdout, result.stderr


@pytest.mark.parametrize("method", ["hybrid", "sparse"])
def test_an_alpha_of_which_all_loadings_are_zero_is_warned_of(noisy: Store, method: str) -> None:
    """The α that the warning names gives loadings."""
    made = ["pca", "-d", "d", "--method", method, "--components", 2, "-s", noisy.path]
    _, told = run(*made, "--alpha", 1000)
    assert "Warning: all sparse loadings are 0" in told
    (named,) = re.findall(r"some are not: --alpha (\S+)", told)
    _, again = run(*made, "--alpha", named)
    assert "all sparse loadings are 0" not in again
    assert "100.00 %" not in again


def test_the_command(noisy: Store, tmp_path: Path) -> None:
    at = ["-s", noisy.path]
    made = ["pca", "-d", "d", "-d", "e", "--components", 2, *at]
    out, said = run(*made, "--json")
    name = json.loads(out)["finding"]
    assert name.startswith("full-2-datasets-")
    assert f"finding = '{name}'" in said
    assert "16 checkpoints × 135 tokens; variance is" in said
    assert "There already, and the same" in run(*made)[1], "as score says of what is there"
    assert "--replace" in run(*made[:-4], "--components", 3, "--name", name, *at, code=1)[1]
    run(*made, "--replace", "--plot", tmp_path / "p.html")
    run("pca", "--update", name, "-d", "f", *at)
    assert noisy.finding("pca", name).facts["asked"]["datasets"] == ["d", "e", "f"]
    assert "--group is that of the finding" in run("pca", "--update", name, "-g", "digits", *at, code=2)[1]
    assert "--seed" in run("pca", "--seed", -1, *at, code=2)[1]
    for option in ("--alpha", "--ridge-alpha", "--max-iter", "--tol", "--restarts", "--seed"):
        said = run("pca", "--update", name, option, 3, *at, code=2)[1]
        assert f"{option} is of sparse components, which have no --update" in said
    said = run("pca", *at, "-m", "a", "--components", 50, "--name", "every")[1]
    assert noisy.finding("pca", "every").facts["asked"]["datasets"] == noisy.dataset_names()
    assert "no more than 7 components of these checkpoints (50 were asked for)" in said
    assert "There is no model" in run("pca", *at, "-m", "nothing*", code=1)[1]
    run("finding", "drop", "pca", "every", *at)
    said = run(*made, "--method", "hybrid", "--alpha", 0.5, "--name", "both", *at)[1]
    assert "% of the sparse loadings, at --alpha 0.5" in said
    assert "full, sparse or hybrid" in run(*made, "--method", "some", code=2)[1]
    assert "--missing mean" in run(*made, "--missing", "mean", "--name", "m")[1]
    assert {each.name for each in noisy.findings("pca")} == {name, "both", "m"}


def test_scores_stand_along_tokens_seen(noisy: Store, tmp_path: Path) -> None:
    made = ["pca", "-d", "d", "-s", noisy.path, "--plot", tmp_path / "p.png", "--x", "tokens"]
    said = run(*made, code=1)[1]
    assert "are not known" in said
    assert "dot products" not in said, "it is known before anything is read"
    assert noisy.findings() == []
    assert "step, tokens or flops" in run(*made[:-1], "time", code=2)[1]
    assert "no --plot is given" in run("pca", "-d", "d", "-s", noisy.path, "--x", "tokens", code=2)[1]
    for model in ("a", "b"):
        noisy.publish_model(ModelFacts(model, tokens_per_step=1000))
    run(*made)
    (kept,) = noisy.findings()
    run("pca", "--update", kept.name, "-d", "e", *made[3:])
    noisy.append(model="c", dataset="d", step=0, losses=np.ones(noisy.dataset("d").n_losses, np.float32))
    said = run("pca", "--update", kept.name, "-m", "c", *made[3:], code=1)[1]
    assert "that c had seen at step 0 are not known" in said
    assert "dot products" not in said
    found = components(noisy, ["d"], Selection(models=["a", "b"]))
    charts = found.along("tokens").charts()
    assert charts[0].title == "Principal components by tokens seen: all tokens of d, a, b"
    assert charts[0].x_label == "tokens seen in training"
    assert charts[0].panels[0].series[0].x == tuple(1000 * step for step in PLANTED_STEPS)
    assert charts[1].panels[0].series[0].steps == PLANTED_STEPS


def test_groups_of_a_component(noisy: Store) -> None:
    found = components(noisy, ["d", "e"], Selection(align="after"), method=Method(components=2))
    found.keep("first")
    noisy.groups.add(
        "early", "SELECT dataset, context, position FROM tokens WHERE position < 4 AND dataset = 'd'"
    )
    noisy.groups.add("none", "SELECT dataset, context, position FROM tokens WHERE position < 0")
    rows = component_groups(noisy, "first", ["early", "none", "every_token"])
    assert rows["group"].unique().sort().to_list() == ["early", "every_token"]
    columns = found.result.columns
    # Aligned after, a token stands for the loss of the one that follows it.
    inside = ((columns["dataset"] == "d") & (columns["position"] <= 4)).to_numpy()
    for number, loadings in enumerate(found.result.loadings, start=1):
        (row,) = rows.filter(component=number, group="early").to_dicts()
        assert row["tokens"] == inside.sum() == 12
        assert row["mean"] == pytest.approx(loadings[inside].mean(), rel=1e-5)
        assert row["share"] == pytest.approx(np.square(loadings[inside]).sum(), rel=1e-5)
        assert row["expected"] == pytest.approx(inside.mean())
        assert row["times"] == pytest.approx(row["share"] / row["expected"])
    assert rows.filter(group="every_token")["times"].to_list() == pytest.approx([1, 1])
    listed = json.loads(
        run("finding", "groups", "first", "-g", "early", "--component", 2, "--json", "-s", noisy.path)[0]
    )
    assert [(row["component"], row["group"]) for row in listed] == [(2, "early")]
    at = ["-s", noisy.path]
    said = run("finding", "groups", "first", "-g", "none", "-g", "early", *at)[1]
    assert "none has no token among those of first, and is left out." in said
    said = run("finding", "groups", "first", "-g", "early", "--component", 3, *at, code=2)[1]
    assert "--component '3'. It takes a number from 1 to 2" in said
    query = ["query", "component_groups", "-p", "group=early", *at]
    one = run(*query, "-p", "finding=first", "-p", "component=2", "-p", "align=after", "--format", "csv")[0]
    assert [line.split(",")[0] for line in one.splitlines()] == ['"component"', "2"]
    assert "no finding 'frist'" in run(*query, "-p", "finding=frist", code=1)[1]
    assert "no kind of finding 'pcs'" in run("finding", "show", "pcs", "first", *at, code=1)[1]
    assert '"datasets": ["d", "e"]' in run("finding", "show", "pca", "first", *at)[0]
    assert "There is no pca finding 'frist'" in run("finding", "groups", "frist", "-s", noisy.path, code=1)[1]


def test_of_a_group_some_models_and_steps_it_is_scikit_learns(noisy: Store) -> None:
    noisy.groups.add("late", "SELECT dataset, context, position FROM tokens WHERE position >= 4")
    found = components(
        noisy, ["e", "d"], Selection(models=["b"], steps="1,4:32", group="late"), Method(components=2)
    )
    steps = (1, 4, 8, 16, 32)
    assert found.inputs.checkpoints == [("b", step) for step in steps]
    # A context of n tokens has n − 1 losses, of positions 1 to n − 1.
    columns = {
        "e": np.concatenate([np.arange(1, n) for n in (17, 5, 40)]),
        "d": np.concatenate([np.arange(1, n) for n in (9, 30, 40)]),
    }
    values = np.hstack(
        [
            np.array([noisy.slice_losses("b", name, step) for step in steps])[:, positions >= 4]
            for name, positions in columns.items()
        ]
    ).astype(float)
    theirs = PCA(2, svd_solver="full").fit(values)
    np.testing.assert_allclose(found.result.variance["variance"], theirs.explained_variance_, rtol=1e-8)
    turned = np.sign((found.result.loadings * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(found.result.loadings, theirs.components_ * turned[:, None], atol=1e-6)
    scores = found.result.scores["score"].to_numpy().reshape(2, -1).T
    np.testing.assert_allclose(scores, theirs.transform(values) * turned, atol=1e-5)


def as_arrays(result: PCAResult) -> tuple[np.ndarray, np.ndarray]:
    """Scores (rows, components) and variances (components,)."""
    count = result.variance.height
    return result.scores["score"].to_numpy().reshape(count, -1).T, result.variance["variance"].to_numpy()


def test_sparse_centred_by_model_is_sparse_of_each_models_deviations(noisy: Store) -> None:
    noisy.drop([("a", "e", 4)])
    treatment = Treatment("model", missing="drop-columns")
    method = Method("sparse", 2, treatment, Sparsity(alpha=0.5))
    found = components(noisy, ["e", "d"], method=method, limit=LIMIT).result
    values = noisy.matrix(["d"]).values.astype(float).reshape(2, 8, -1)
    means = values.mean(axis=1)
    deviations = (values - means[:, None]).reshape(16, -1)
    alone = sparse_pca(deviations, 2, alpha=0.5)
    assert found.columns["dataset"].unique().to_list() == ["d"]
    np.testing.assert_allclose(found.loadings, alone.components, atol=1e-6)
    np.testing.assert_allclose(found.mean, means, rtol=1e-10)
    scores, variance = as_arrays(found)
    # Ridge regression on the components, by its normal equations.
    kept = alone.components
    by_hand = np.linalg.solve(kept @ kept.T + 0.01 * np.eye(2), kept @ deviations.T).T
    np.testing.assert_allclose(scores, by_hand, atol=1e-5)
    projected = deviations @ np.linalg.pinv(kept) @ kept
    assert variance.sum() == pytest.approx((projected**2).sum() / 14, rel=1e-6)
    whole = (deviations**2).sum() / 14
    np.testing.assert_allclose(found.variance["ratio"], variance / whole, rtol=1e-8)


def test_hybrid_of_scaled_columns_is_of_standard_scores(noisy: Store) -> None:
    method = Method("hybrid", 2, Treatment(scale=True), Sparsity(alpha=0.5))
    found = components(noisy, ["d", "e"], method=method, limit=LIMIT).result
    values = noisy.matrix(["d", "e"]).values.astype(float)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    theirs = PCA(2, svd_solver="full").fit(standard)
    left = standard - theirs.inverse_transform(theirs.transform(standard))
    alone = sparse_pca(left, 2, alpha=0.5)
    scores, variance = as_arrays(found)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.loadings[2:], alone.components, atol=1e-6)
    np.testing.assert_allclose(scores[:, 2:], alone.scores, atol=1e-5)
    np.testing.assert_allclose(np.abs(scores[:, :2]), np.abs(theirs.transform(standard)), atol=1e-5)
    np.testing.assert_allclose(variance, [*theirs.explained_variance_, *alone.variance], rtol=1e-6)
    np.testing.assert_allclose(
        found.variance["ratio"], variance / standard.var(axis=0, ddof=1).sum(), rtol=1e-8
    )
