"""Named queries: each against numpy on planted losses, and what is said of parameters that are wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import PLANTED_STEPS, new_dataset
from trajstore.errors import BadOption, MissingParameter, TrajstoreError, UnknownName, UnknownStep
from trajstore.store.queries import named_queries
from trajstore.store.store import Store

if TYPE_CHECKING:
    pass

MODELS, DATASETS = ("a", "b"), ("d", "e")


@dataclass(frozen=True)
class Numbers:
    """A dataset's sites and losses as arrays, in canonical order."""

    context: np.ndarray
    position: np.ndarray
    token: np.ndarray
    text: list[str]
    losses: dict[str, np.ndarray]
    """By model: float64 (steps, sites)."""
    occurrences: dict[int, int]
    """Of each token, position 0 included."""
    words: dict[tuple[int, int], str]
    """Text by context and position, position 0 included."""

    def at(self, model: str, step: int) -> np.ndarray:
        return self.losses[model][PLANTED_STEPS.index(step)]

    def before(self, site: int, n: int = 10) -> str | None:
        context, position = self.context[site], self.position[site]
        return "".join(self.words[context, p] for p in range(max(0, position - n), position)) or None


@pytest.fixture(scope="module")
def whole(planted_once: Path) -> Iterator[Store]:
    """The contents of `planted`, in a store that no test changes."""
    with Store(planted_once) as store:
        yield store


@pytest.fixture(scope="module")
def numbers(whole: Store) -> dict[str, Numbers]:
    """The planted store, read slice by slice without SQL."""
    found = {}
    for name in DATASETS:
        tokens = whole.dataset(name).frame()
        sites = tokens.filter(tokens["position"] > 0)
        losses = {
            model: np.stack([whole.slice_losses(model, name, step) for step in PLANTED_STEPS]).astype(float)
            for model in MODELS
        }
        ids, counts = np.unique(tokens["token"].to_numpy(), return_counts=True)
        keys = zip(tokens["context"], tokens["position"], strict=True)
        found[name] = Numbers(
            *(sites[column].to_numpy() for column in ("context", "position", "token")),
            sites["text"].to_list(),
            losses,
            dict(zip(ids.tolist(), counts.tolist(), strict=True)),
            dict(zip(keys, tokens["text"], strict=True)),
        )
    return found


def ask(store: Store, name: str, **parameters: Any) -> list[dict[str, Any]]:
    """The answer as records, once its columns are those of the header."""
    relation = store.query(name, **parameters)
    assert relation.columns == [column.name for column in named_queries.find_query(name).columns]
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def approx(value: float) -> Any:
    return pytest.approx(value, rel=1e-6, abs=1e-6)


def slices(numbers: dict[str, Numbers]) -> Iterator[tuple[str, str, Numbers]]:
    for model in MODELS:
        for dataset in DATASETS:
            yield model, dataset, numbers[dataset]


# each query


def test_coverage(planted: Store) -> None:
    (planted.path / "losses/model=b/dataset=e/step=64/slice.parquet").unlink()
    some = planted.slice_losses("a", "d", 0)[:8]
    planted.append(model="b", dataset="d", step=3, losses=[some], contexts=[0])
    found = {(row.pop("model"), row.pop("dataset")): row for row in ask(planted, "coverage")}
    steps, losses = len(PLANTED_STEPS), 97 * len(PLANTED_STEPS)
    full = {"steps": steps, "first_step": 0, "last_step": 64, "missing": 0, "partial": 0, "losses": losses}
    assert found == {
        ("a", "d"): full,
        ("a", "e"): full,
        ("b", "d"): full | {"steps": steps + 1, "partial": 1, "losses": losses + 8},
        ("b", "e"): full | {"steps": steps - 1, "last_step": 32, "missing": 2, "losses": losses - 97},
    }
    assert [row["dataset"] for row in ask(planted, "coverage", models="a", datasets=["e"])] == ["e"]


def test_coverage_has_datasets_without_losses(planted: Store) -> None:
    planted.add_dataset("new", new_dataset([["x", "y"]]))
    row = ask(planted, "coverage", models="a", datasets="new")[0]
    assert (row["steps"], row["first_step"], row["missing"], row["losses"]) == (0, None, 8, 0)


def test_group_examples(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = ask(whole, "group_examples", group="every_token", n=1000)
    for name, of in numbers.items():
        assert {(row["context"], row["position"]) for row in rows if row["dataset"] == name} == set(of.words)
    assert {row["tokens"] for row in rows} == {103}
    for n in (1, 2, 7):
        some = ask(whole, "group_examples", group="every_token", n=n, seed=n)
        drawn = Counter(row["dataset"] for row in some if row["context"] is not None)
        assert drawn.total() == n
        assert max(drawn.values()) <= (n + 1) // 2
        assert {row["dataset"] for row in some} == set(DATASETS), (
            "a dataset of which none is drawn has its size"
        )


def test_group_sizes(whole: Store, numbers: dict[str, Numbers]) -> None:
    for row in ask(whole, "group_sizes", group="repeated_token"):
        seen: set[tuple[int, str]] = set()
        members = []
        for (context, position), text in sorted(numbers[row["dataset"]].words.items()):
            if (context, text) in seen:
                members.append((context, position))
            seen.add((context, text))
        assert row["tokens"] == len(members) == row["losses"]
        assert row["share"] == approx(len(members) / 103)
        assert row["contexts"] == len({context for context, _ in members})


def test_group_sizes_count_what_has_no_loss_and_what_is_empty(whole: Store) -> None:
    every, nothing = ask(whole, "group_sizes", group="every_token"), ask(whole, "group_sizes", group="digits")
    assert [(row["tokens"], row["losses"], row["contexts"]) for row in every] == [(103, 97, 6)] * 2
    assert [(row["tokens"], row["share"], row["contexts"]) for row in nothing] == [(0, 0, 0)] * 2


def test_trajectories(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = iter(ask(whole, "trajectories", group="second_half"))
    lengths = np.array([9, 2, 30, 17, 5, 40])
    for model, dataset, each in slices(numbers):
        inside = 2 * each.position >= lengths[each.context]
        for step in PLANTED_STEPS:
            assert next(rows) == {
                "model": model,
                "dataset": dataset,
                "step": step,
                "tokens": int(inside.sum()),
                "mean": approx(each.at(model, step)[inside].mean()),
            }
    assert not list(rows)


def test_loss_by_position(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = iter(ask(whole, "loss_by_position", step=8))
    for model, dataset, each in slices(numbers):
        for position in range(1, 40):
            here = each.at(model, 8)[each.position == position]
            expected = {"model": model, "dataset": dataset, "position": position, "contexts": len(here)}
            assert next(rows) == {**expected, "mean": approx(here.mean())}
    assert not list(rows)


def test_loss_by_context(whole: Store, numbers: dict[str, Numbers]) -> None:
    each = numbers["e"]
    means = {c: each.at("b", 64)[each.context == c].mean() for c in range(6)}
    worst = sorted(means, key=lambda c: -means[c])[:4]
    rows = ask(whole, "loss_by_context", models="b", datasets="e", top=4)
    assert [row["context"] for row in rows] == worst
    assert [row["mean"] for row in rows] == [approx(means[c]) for c in worst]
    assert [row["tokens"] for row in rows] == [int((each.context == c).sum()) for c in worst]
    beginning = "".join(each.words[worst[0], p] for p in range(12) if (worst[0], p) in each.words)
    assert rows[0]["text"] == beginning


@pytest.mark.parametrize(("name", "sign"), [("most_improved", 1), ("most_forgotten", -1)])
def test_most_changed(whole: Store, numbers: dict[str, Numbers], name: str, sign: int) -> None:
    rows = iter(ask(whole, name, from_step=2, to_step=8, group="second_half", top=5))
    lengths = np.array([9, 2, 30, 17, 5, 40])
    for model, dataset, each in slices(numbers):
        change = each.at(model, 8) - each.at(model, 2)
        inside = (2 * each.position >= lengths[each.context]) & (sign * change < 0)
        for site in [s for s in np.argsort(sign * change) if inside[s]][:5]:
            row = next(rows)
            assert (row["model"], row["dataset"]) == (model, dataset)
            assert (row["context"], row["position"]) == (each.context[site], each.position[site])
            assert (row["before"], row["text"]) == (each.before(site), each.text[site])
            assert row["difference"] == approx(change[site])
            assert row["earlier"] == pytest.approx(each.at(model, 2)[site], rel=1e-5)
            assert row["later"] == approx(each.at(model, 8)[site])
            assert row["noise"] is None
    assert not list(rows)


def test_changed_token_types(whole: Store, numbers: dict[str, Numbers]) -> None:
    each = numbers["d"]
    rows = ask(
        whole, "changed_token_types", from_step=1, to_step=32, models="a", datasets="d", least=2, top=3
    )
    change = {
        token: (each.at("a", 32) - each.at("a", 1))[each.token == token].mean()
        for token in set(each.token.tolist())
        if (each.token == token).sum() >= 2
    }
    order = sorted(change, key=lambda token: change[token])
    chosen = order[:3] + order[-3:]
    assert [row["token"] for row in rows] == [token for token in chosen for _ in PLANTED_STEPS]
    assert [row["step"] for row in rows] == list(PLANTED_STEPS) * 6
    for row in rows:
        here = each.token == row["token"]
        assert row["text"] == each.text[int(np.flatnonzero(here)[0])]
        assert row["tokens"] == here.sum()
        assert row["change"] == approx(change[row["token"]])
        assert row["mean"] == approx(each.at("a", row["step"])[here].mean())


@pytest.mark.parametrize(("steps", "other"), [({"step": 16}, 16), ({"step": 16, "other_step": 4}, 4)])
def test_model_disagreement(
    whole: Store, numbers: dict[str, Numbers], steps: dict[str, int], other: int
) -> None:
    rows = iter(ask(whole, "model_disagreement", model="a", other="b", top=6, **steps))
    for dataset in DATASETS:
        each = numbers[dataset]
        difference = each.at("b", other) - each.at("a", 16)
        for site in np.argsort(-abs(difference))[:6]:
            row = next(rows)
            assert (row["dataset"], row["context"]) == (dataset, each.context[site])
            assert (row["position"], row["text"]) == (each.position[site], each.text[site])
            assert row["before"] == each.before(site)
            assert row["loss"] == approx(each.at("a", 16)[site])
            assert row["other_loss"] == approx(each.at("b", other)[site])
            assert row["difference"] == approx(difference[site])
    assert not list(rows)


def test_seed_disagreement(planted: Store, numbers: dict[str, Numbers]) -> None:
    (planted.path / "losses/model=b/dataset=e/step=64/slice.parquet").unlink()
    rows = iter(ask(planted, "seed_disagreement", models="a,b"))
    for dataset, steps in (("d", PLANTED_STEPS), ("e", PLANTED_STEPS[:-1])):
        for step in steps:
            both = np.stack([numbers[dataset].at(model, step) for model in MODELS])
            sd = both.std(axis=0, ddof=1)
            row = next(rows)
            assert (row["dataset"], row["step"], row["models"], row["tokens"]) == (dataset, step, 2, 97)
            assert row["mean"] == approx(both.mean())
            assert row["mean_sd"] == approx(sd.mean())
            assert row["median_sd"] == approx(np.median(sd))
            assert row["p95_sd"] == approx(np.quantile(sd, 0.95))
    assert not list(rows)


def test_seed_disagreement_tokens(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = ask(whole, "seed_disagreement_tokens", models="*", step=4, datasets="d", top=7)
    each = numbers["d"]
    both = np.stack([each.at(model, 4) for model in MODELS])
    sd = both.std(axis=0, ddof=1)
    sites = np.argsort(-sd)[:7]
    assert [(row["context"], row["position"]) for row in rows] == [
        (each.context[site], each.position[site]) for site in sites
    ]
    for row, site in zip(rows, sites, strict=True):
        assert (row["before"], row["text"], row["models"]) == (each.before(site), each.text[site], 2)
        assert row["mean"] == approx(both[:, site].mean())
        assert row["sd"] == approx(sd[site])
        assert (row["low"], row["high"]) == (approx(both[:, site].min()), approx(both[:, site].max()))


def test_positions_are_one_more_than_indices_of_losses(store: Store) -> None:
    """Position 501 is what a study's code calls loss[500], of losses without the first token's."""
    losses = np.arange(599, dtype=np.float32) / 100
    store.add_dataset("long", new_dataset([["a"] * 600]))
    store.append(model="m", dataset="long", step=0, losses=losses)
    for late, early in ((500, 50), (501, 51)):
        (row,) = store.query("in_context_learning", late=late, early=early).pl().iter_rows(named=True)
        assert (row["late_loss"], row["early_loss"]) == (losses[late - 1], losses[early - 1])
    (row,) = store.query("in_context_learning").pl().iter_rows(named=True)
    assert row["late_loss"] == losses[499]
    described = named_queries.find_query("in_context_learning")
    assert "position 500 at [499]" in described.description
    assert "count from 0" in described.description


def test_in_context_learning(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = iter(ask(whole, "in_context_learning", late=15, early=3))
    for model, dataset, each in slices(numbers):
        both = [2, 3, 5]  # the contexts of more than 15 tokens
        for step in PLANTED_STEPS:
            late, early = (
                np.array([each.at(model, step)[(each.context == c) & (each.position == p)][0] for c in both])
                for p in (15, 3)
            )
            assert next(rows) == {
                "model": model,
                "dataset": dataset,
                "step": step,
                "contexts": 3,
                "early_loss": approx(early.mean()),
                "late_loss": approx(late.mean()),
                "score": approx((late - early).mean()),
            }
    assert not list(rows)


def test_loss_by_frequency(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = iter(ask(whole, "loss_by_frequency", step=32, bins=4))
    for model, dataset, each in slices(numbers):
        bins: dict[int, list[int]] = {}
        before = 0
        for token, count in sorted(each.occurrences.items(), key=lambda item: (item[1], item[0])):
            bins.setdefault(1 + before * 4 // 103, []).append(token)
            before += count
        assert sorted(bins) == [1, 2, 3, 4]
        for number, tokens in sorted(bins.items()):
            here = np.isin(each.token, tokens)
            with_loss = set(each.token[here].tolist())
            assert next(rows) == {
                "model": model,
                "dataset": dataset,
                "bin": number,
                "rarest": min(each.occurrences[token] for token in with_loss),
                "commonest": max(each.occurrences[token] for token in with_loss),
                "types": len(with_loss),
                "tokens": int(here.sum()),
                "mean": approx(each.at(model, 32)[here].mean()),
            }
    assert not list(rows)


def test_biggest_jumps(whole: Store, numbers: dict[str, Numbers]) -> None:
    rows = iter(ask(whole, "biggest_jumps", after=1, top=3))
    for model, dataset, each in slices(numbers):
        means = each.losses[model].mean(axis=1)[1:]
        jumps = np.diff(means)
        for at in np.argsort(-abs(jumps))[:3]:
            assert next(rows) == {
                "model": model,
                "dataset": dataset,
                "from_step": PLANTED_STEPS[at + 1],
                "step": PLANTED_STEPS[at + 2],
                "tokens": 97,
                "mean": approx(means[at + 1]),
                "difference": approx(jumps[at]),
            }
    assert not list(rows)


# the files


@pytest.mark.parametrize("name", named_queries.shipped())
def test_parameters_are_those_of_the_statement(name: str) -> None:
    query = named_queries.find_query(name)
    assert set(re.findall(r"\$(\w+)", query.sql)) == {each.name for each in query.parameters}
    assert len(query.description) > 20
    assert query.columns
    assert query.example.startswith(f"trajstore query {name}")
    given = re.findall(r"-p '?(\w+)=", query.example)
    assert set(given) <= {each.name for each in query.parameters}
    assert {each.name for each in query.parameters if each.default is None} <= set(given)


def test_every_query_is_tested() -> None:
    """And none is called list, which lists them."""
    text = Path(__file__).read_text(encoding="utf-8")
    tested = set(re.findall(r'ask\((?:\s*)(?:whole|planted), "(\w+)"', text)) | {
        "most_improved",
        "most_forgotten",
        "component_groups",  # in test_components.py, where there are components
        "shape_shares",  # in test_shapes.py, as is the next
        "shape_agreement",
        "group_llc",  # in test_llc.py
        "event_order",  # in test_phases.py
    }
    assert tested == set(named_queries.shipped())
    assert "list" not in tested


# parameters


@pytest.mark.parametrize(
    ("name", "given", "error", "message"),
    [
        ("most_imprved", {}, UnknownName, "Did you mean most_improved"),
        (
            "coverage",
            {"model": "a"},
            UnknownName,
            "parameter of the query coverage 'model' .* Did you mean models",
        ),
        (
            "most_improved",
            {},
            MissingParameter,
            r"needs a value for from_step \(the earlier step\).* from_step=",
        ),
        ("group_sizes", {"group": None}, MissingParameter, "needs a value for group"),
        ("trajectories", {"group": "null"}, UnknownName, "no group 'null'"),
        ("coverage", {"models": "c*"}, UnknownName, "no model 'c\\*' here; there is: a, b"),
        ("coverage", {"datasets": "d,f"}, UnknownName, "no dataset 'f' here; there is: d, e"),
        ("trajectories", {"group": "digitz"}, UnknownName, "Did you mean digits"),
        ("model_disagreement", {"model": "a", "other": "c"}, UnknownName, "no model 'c'"),
        ("model_disagreement", {"model": "*", "other": "b"}, UnknownName, "no model '\\*'"),
        (
            "loss_by_position",
            {"step": 3},
            UnknownStep,
            "matches no checkpoint of a, b on d, e.* 0, 1, 2, 4, 8, 16",
        ),
        ("loss_by_position", {"step": "log"}, BadOption, "one step, or last"),
        ("loss_by_position", {"step": "x"}, TrajstoreError, "x"),
        ("loss_by_context", {"top": "many"}, BadOption, "top='many'. It takes a whole number"),
        ("loss_by_context", {"top": 1.5}, BadOption, "a whole number"),
    ],
)
def test_wrong_parameters(
    whole: Store, name: str, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        whole.query(name, **given)


def test_values_are_bound_and_never_pasted(whole: Store) -> None:
    """A name that would be SQL, were it pasted, is a name that is not there."""
    with pytest.raises(UnknownName):
        whole.query("coverage", models="a') OR true --")
    with pytest.raises(UnknownName):
        whole.query("trajectories", group="digits; DROP VIEW losses")


def test_a_step_is_one_of_the_chosen_models(planted: Store) -> None:
    losses = planted.slice_losses("a", "d", 64)
    planted.append(model="b", dataset="d", step=128, losses=losses)
    assert {row["model"] for row in ask(planted, "loss_by_position")} == {"b"}, "last is the last of all"
    assert {row["model"] for row in ask(planted, "loss_by_position", step="128", datasets="d")} == {"b"}
    with pytest.raises(UnknownStep, match="of a on d"):
        planted.query("loss_by_position", step=128, models="a", datasets="d")
    assert ask(planted, "loss_by_position", models="a", datasets="e")[0]["model"] == "a"


def test_names_may_be_given_as_globs_lists_or_both(whole: Store) -> None:
    for models in ("a,b", "*", ["a", "b"], ("a*", "b")):
        assert len(ask(whole, "coverage", models=models, datasets="d")) == 2


def test_a_group_that_another_session_added_is_there(planted: Store) -> None:
    with Store(planted.path) as other:
        other.groups.add("mine", "SELECT dataset, context, position FROM tokens WHERE position = 3")
    assert {row["tokens"] for row in ask(planted, "group_sizes", group="mine")} == {5}
