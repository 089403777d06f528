"""Two groups of a store made comparable: matched subsets of both, kept as groups of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.statistics.matched_subsets import FEATURES, cells, check_features, match
from trajstore.arguments.spelling import option
from trajstore.display import Brief
from trajstore.errors import GroupError, listed
from trajstore.pipelines.groups.added_groups import NewGroup, add_groups, slug
from trajstore.store.catalog import group_expressions
from trajstore.store.catalog.dependencies import Foundations

if TYPE_CHECKING:
    from trajstore.store.store import Store

_COUNTS = {
    **dict.fromkeys(["dataset", "group"], pl.String),
    **dict.fromkeys(["tokens", "first", "shared", "unmatched", "kept"], pl.Int64),
}


@dataclass(frozen=True, repr=False)
class Balance(Brief):
    """Two groups and their matched subsets."""

    groups: tuple[str, str]
    names: tuple[str, str]
    """Of the subsets."""
    counts: pl.DataFrame
    """A row for each dataset and group that has a token in it: dataset, group (String), tokens, first (at position 0),
    shared (with the other group), unmatched, kept (Int64); the last four add up to tokens."""


def balance_groups(
    store: Store,
    first: str,
    second: str,
    on: Sequence[str] = FEATURES,
    *,
    names: tuple[str | None, str | None] = (None, None),
    position_bins: int | None = None,
    seed: int = 0,
    replace: bool = False,
) -> Balance:
    """Add matched subsets of two groups as groups, by default FIRST_balanced_with_SECOND and the other way round.

    In each dataset both have the same number of tokens in each cell of what they are matched `on` (see
    `matched_subsets.cells`), and no more could be kept. Tokens at position 0, which have no loss, and those in both
    groups are in neither. The same seed draws the same tokens. Raises `UnknownName`, `BadOption`, and `GroupError`
    where nothing matches or, unless `replace`, a name is taken; then nothing is added.
    """
    groups = (first, second)
    check_features(on)
    if first == second:
        raise GroupError(f"Two different groups can be matched, and not {first!r} with itself.")
    store.groups.check(*groups)
    hashes = [Foundations.of(store.path).sha256(group)[:19] for group in groups]
    drawn = [
        _of_dataset(store, groups, dataset, on, position_bins, seed) for dataset in store.dataset_names()
    ]
    counts = pl.DataFrame([row for _, rows in drawn for row in rows], schema=_COUNTS, orient="row")
    if not counts["kept"].sum():
        raise _nothing(groups, counts)
    how = (
        f"Matched on {_words(on, position_bins)} with seed {seed}, without tokens at position 0 or in both groups; "
        f"made of {first} ({hashes[0]}…) and {second} ({hashes[1]}…)."
    )
    a, b = map(_as_name, groups)
    chosen = (names[0] or f"{a}_balanced_with_{b}", names[1] or f"{b}_balanced_with_{a}")
    sites = [pl.concat(kept[side] for kept, _ in drawn) for side in (0, 1)]
    described = [f"Tokens of {a} matched with {b}. {how}" for a, b in (groups, groups[::-1])]
    add_groups(
        store, [NewGroup(*parts) for parts in zip(chosen, sites, described, strict=True)], replace=replace
    )
    return Balance(groups, chosen, counts)


def _of_dataset(
    store: Store, groups: tuple[str, str], name: str, on: Sequence[str], position_bins: int | None, seed: int
) -> tuple[list[pl.DataFrame], list[tuple[object, ...]]]:
    """The sites of both subsets in a dataset, and the rows of `Balance.counts` on it."""
    dataset = store.dataset(name)
    frame = dataset.frame(["context", "position", "token"])
    position = frame["position"].to_numpy()
    every = [store.groups.members(group, dataset) for group in groups]
    with_loss = [rows[position[rows] > 0] for rows in every]
    of_tokens = cells(position, frame["token"].to_numpy(), on, position_bins)
    # Seeds of the dataset's own, so that others beside it change nothing here.
    draws = [[seed, side, *name.encode()] for side in (0, 1)]
    matched = match(with_loss[0], with_loss[1], of_tokens, (draws[0], draws[1]))
    counts: list[tuple[object, ...]] = []
    for group, members, rows, kept in zip(groups, every, with_loss, matched.kept, strict=True):
        parts = (len(members) - len(rows), matched.shared, len(rows) - matched.shared - len(kept), len(kept))
        if len(members):
            counts.append((name, group, len(members), *parts))
    places = frame.select(pl.lit(name).alias("dataset"), "context", "position")
    return [places[kept] for kept in matched.kept], counts


def _as_name(group: str) -> str:
    """A group's name, or the letters and digits of an expression of groups as part of one."""
    return group if group_expressions.is_name(group) else slug(group).strip("_")


def _words(on: Sequence[str], position_bins: int | None) -> str:
    """Describe what was matched on."""
    ranges = "" if position_bins is None else f" (in {position_bins} ranges)"
    words = {"position": f"position{ranges}", "frequency": "frequency in the dataset (in bins that double)"}
    return " and ".join(words[feature] for feature in FEATURES if feature in on)


def _nothing(groups: tuple[str, str], counts: pl.DataFrame) -> GroupError:
    """Return the message for groups without any match."""
    of = {group: counts.filter(group=group) for group in groups}
    for group, other in (groups, groups[::-1]):
        alone = of[group].select(pl.col("tokens") - pl.col("first") - pl.col("shared")).sum().item()
        if of[group]["shared"].sum() and not alone:
            return GroupError(
                f"All tokens of {group!r} that have a loss are in {other!r} too, and those in both are left out. Match "
                f'it with the rest: trajstore group add rest --sql "FROM groups.{other} EXCEPT FROM groups.{group}"'
            )
    sizes = [
        f"{group!r} ({listed(f'{n:,} in {name}' for name, n in of[group].select('dataset', 'tokens').iter_rows())})"
        for group in groups
    ]
    return GroupError(
        f"No token of {sizes[0]} has a match in {sizes[1]} in the same dataset, so nothing was added. Wider cells "
        f"match more: {option('position_bins', 8)}, or {option('on', 'frequency')}."
    )
