"""Matched subsets of two groups: against a count in plain Python, and how they are kept."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.conftest import new_dataset, ragged
from trajstore.analysis.statistics.matched_subsets import cells, match
from trajstore.cli import app
from trajstore.errors import BadOption, GroupError, UnknownName
from trajstore.pipelines.groups.matching import balance_groups
from trajstore.store.groups.groups import Groups
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

Site = tuple[str, int, int]


@pytest.fixture(scope="module")
def _planted(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of random tokens, some common and some rare, and groups that overlap."""
    path = tmp_path_factory.mktemp("balance") / "store"
    rng = np.random.default_rng(3)
    with new_store(path) as store:
        for name in "de":
            ids = [rng.zipf(1.3, n).clip(max=300) for n in rng.integers(2, 60, 40)]
            store.add_dataset(name, new_dataset([[f" w{token}" for token in context] for context in ids]))
        store.groups.add("thirds", "FROM tokens WHERE (context + position * 7) % 3 = 0")
        store.groups.add("fifths", "FROM tokens WHERE (context * 3 + position) % 5 < 2")
    return path


@pytest.fixture
def two(_planted: Path, store_path: Path) -> Iterator[Store]:
    shutil.copytree(_planted, store_path)
    with Store(store_path) as store:
        yield store


def members(store: Store, group: str) -> set[Site]:
    return set(store.sql(f"FROM groups.{group}").fetchall())


def cell_of(
    store: Store, on: tuple[str, ...], position_bins: int | None = None
) -> dict[Site, tuple[int, ...]]:
    """Return the values that each token is matched on, counted in plain Python."""
    found = {}
    for name in store.dataset_names():
        rows = store.dataset(name).frame().select("context", "position", "token").rows()
        occurrences = Counter(token for _, _, token in rows)
        longest = max(position for _, position, _ in rows) + 1
        for context, position, token in rows:
            place = position if position_bins is None else math.floor(position * position_bins / longest)
            parts = {"position": place, "frequency": math.floor(math.log2(occurrences[token]))}
            found[name, context, position] = tuple(parts[each] for each in on)
    return found


WAYS: list[tuple[tuple[str, ...], int | None]] = [
    (("position", "frequency"), None),
    (("frequency",), None),
    (("position",), None),
    (("position", "frequency"), 4),
]


@pytest.mark.parametrize(("on", "position_bins"), WAYS)
def test_matched_as_counted_in_python(two: Store, on: tuple[str, ...], position_bins: int | None) -> None:
    made = balance_groups(two, "thirds", "fifths", on, position_bins=position_bins)
    assert made.names == ("thirds_balanced_with_fifths", "fifths_balanced_with_thirds")
    cell = cell_of(two, on, position_bins)
    whole = [members(two, group) for group in ("thirds", "fifths")]
    kept = [members(two, name) for name in made.names]
    shared = whole[0] & whole[1]
    alone = [{site for site in group - shared if site[2] > 0} for group in whole]
    for subset, group in zip(kept, alone, strict=True):
        assert subset <= group
    histograms = [Counter((site[0], *cell[site]) for site in subset) for subset in (*alone, *kept)]
    assert histograms[2] == histograms[3] == histograms[0] & histograms[1]  # & takes the smaller count
    assert histograms[2].total() > 20

    for row in made.counts.to_dicts():
        side = ("thirds", "fifths").index(row["group"])
        of_dataset = [
            {site for site in sites if site[0] == row["dataset"]}
            for sites in (whole[side], shared, kept[side])
        ]
        with_loss = [sum(site[2] > 0 for site in sites) for sites in of_dataset]
        assert row["tokens"] == len(of_dataset[0])
        assert row["first"] == len(of_dataset[0]) - with_loss[0]
        assert (row["shared"], row["kept"]) == (with_loss[1], len(of_dataset[2]))
        assert row["tokens"] == row["first"] + row["shared"] + row["unmatched"] + row["kept"]
    assert made.counts.height == 4


def test_another_dataset_changes_nothing(two: Store) -> None:
    def kept_of_d() -> set[Site]:
        made = balance_groups(two, "thirds", "fifths", replace=True)
        return {site for name in made.names for site in members(two, name) if site[0] == "d"}

    first = kept_of_d()
    two.add_dataset("c", ragged([20] * 5))
    assert kept_of_d() == first


def test_every_token_of_the_larger_has_the_same_chance() -> None:
    """One cell with ten of one set and two of the other: each of the ten is drawn in a fifth of the draws."""
    of_tokens = np.zeros(12, dtype=np.int64)
    drawn = Counter(
        int(row)
        for seed in range(1000)
        for row in match(np.arange(10), np.array([10, 11]), of_tokens, ([seed, 0], [seed, 1])).kept[0]
    )
    assert set(drawn) == set(range(10))
    # Binomial(1000, 0.2): mean 200, standard deviation 12.6.
    assert all(150 < count < 250 for count in drawn.values())


def test_cells_by_hand() -> None:
    position = np.array([0, 1, 2, 3, 0, 1, 2, 3], dtype=np.int32)
    token = np.array([5, 5, 5, 5, 9, 7, 7, 7], dtype=np.int32)  # 4, 1 and 3 times
    frequency = cells(position, token, ["frequency"])
    assert len(set(frequency[:4])) == 1
    assert len({frequency[0], frequency[4], frequency[5]}) == 3
    halves = cells(position, token, ["position"], 2)
    assert halves.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    both = cells(position, token, ["position", "frequency"])
    pairs = list(zip(position.tolist(), frequency.tolist(), strict=True))
    for i, j in product(range(8), range(8)):
        assert (both[i] == both[j]) == (pairs[i] == pairs[j])


@pytest.mark.parametrize("power", [1, 5, 12])
def test_bins_begin_at_powers_of_two(power: int) -> None:
    n = 1 << power
    token = np.repeat([0, 1, 2], [n - 1, n, 2 * n - 1])
    below, at, last = (cells(np.zeros(len(token)), token, ["frequency"])[token == k][0] for k in range(3))
    assert below < at == last


def test_described_and_kept(two: Store) -> None:
    balance_groups(two, "thirds", "fifths", position_bins=4, seed=7, names=("ours", None))
    shown = two.groups.show("ours")
    hashes = [two.groups.show(group).sha256[:19] for group in ("thirds", "fifths")]
    assert shown.description == (
        "Tokens of thirds matched with fifths. Matched on position (in 4 ranges) and frequency in the dataset (in bins "
        "that double) with seed 7, without tokens at position 0 or in both groups; made of thirds "
        f"({hashes[0]}…) and fifths ({hashes[1]}…)."
    )
    assert hashes[0].startswith("sha256:")
    assert hashes[0] != hashes[1]
    before = members(two, "ours")
    two.groups.add("thirds", "FROM tokens WHERE position = 1", replace=True)
    assert members(two, "ours") == before


def test_the_seed_decides(two: Store) -> None:
    """The same draw again is the same definition, which changes nothing; another one is refused."""
    balance_groups(two, "thirds", "fifths")
    balance_groups(two, "thirds", "fifths")
    with pytest.raises(GroupError, match="another definition.*replace=True"):
        balance_groups(two, "thirds", "fifths", seed=1)
    balance_groups(two, "thirds", "fifths", seed=1, replace=True)


def test_both_or_neither(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two.groups.add("taken", "FROM tokens WHERE position = 2")
    with pytest.raises(GroupError, match="'taken' with another definition"):
        balance_groups(two, "thirds", "fifths", names=("ours", "taken"))
    assert "ours" not in two.groups.names()
    real = Groups.add

    def full(self: Groups, name: str, *words: object, **options: object) -> object:
        if name == "second":
            raise OSError(28, "No space left on device")
        return real(self, name, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Groups, "add", full)
    with pytest.raises(OSError, match="No space"):
        balance_groups(two, "thirds", "fifths", names=("ours", "second"))
    assert "ours" not in two.groups.names()
    for kept in (
        "FROM tokens WHERE position = 3",
        pl.DataFrame([("d", 0, 1)], ["dataset", "context", "position"], orient="row"),
    ):
        two.groups.add("taken", kept, "As it was.", replace=True)
        before = two.groups.definition("taken"), two.groups.members("taken", two.dataset("d")).tolist()
        with pytest.raises(OSError, match="No space"):
            balance_groups(two, "thirds", "fifths", names=("taken", "second"), replace=True)
        assert (
            two.groups.definition("taken"),
            two.groups.members("taken", two.dataset("d")).tolist(),
        ) == before


def test_what_cannot_be_matched(two: Store) -> None:
    names = two.groups.names()
    two.groups.add("some", "FROM groups.thirds WHERE position > 3")
    two.groups.add("only_d", "FROM tokens WHERE dataset = 'd' AND position = 3")
    two.groups.add("only_e", "FROM tokens WHERE dataset = 'e' AND position = 3")
    two.groups.add("none", "FROM tokens WHERE position < 0")
    with pytest.raises(GroupError, match="and not 'thirds' with itself"):
        balance_groups(two, "thirds", "thirds")
    with pytest.raises(
        GroupError, match="All tokens of 'some'.*\"FROM groups.thirds EXCEPT FROM groups.some\""
    ):
        balance_groups(two, "thirds", "some")
    with pytest.raises(
        GroupError, match=r"No token of 'only_d' \(\d+ in d\) has a match in 'only_e' \(\d+ in e\)"
    ):
        balance_groups(two, "only_d", "only_e")
    with pytest.raises(GroupError, match=r"No token of 'none' \(none\) has a match"):
        balance_groups(two, "none", "only_e")
    with pytest.raises(UnknownName, match="no group 'third'.*Did you mean thirds"):
        balance_groups(two, "third", "fifths")
    for on in (["place"], [], ["position", "position"]):
        with pytest.raises(BadOption, match="on=.* It takes position or frequency, or both"):
            balance_groups(two, "thirds", "fifths", on)
    with pytest.raises(BadOption, match="position_bins="):
        balance_groups(two, "thirds", "fifths", position_bins=0)
    assert set(two.groups.names()) == {*names, "some", "only_d", "only_e", "none"}


def test_the_command(two: Store) -> None:
    words = ["group", "balance", "thirds", "fifths", "--on", "frequency, position", "--position-bins", "4"]
    result = CliRunner().invoke(app, [*words, "--name-a", "a", "--json", "-s", str(two.path)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["groups"], found["names"]) == (["thirds", "fifths"], ["a", "fifths_balanced_with_thirds"])
    counts = pl.DataFrame(found["counts"])
    two.refresh()
    assert counts.filter(group="thirds")["kept"].sum() == len(members(two, "a"))
    result = CliRunner().invoke(app, [*words, "--name-a", "a", "-s", str(two.path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split()[:7] == [*counts.columns]
    assert (
        f"Added a and fifths_balanced_with_thirds, {len(members(two, 'a')):,} tokens each." in result.stderr
    )
