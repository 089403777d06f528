"""Groups are the same from tables that many of them share as from the views, and from some contexts' tables alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import new_dataset
from trajstore.errors import QueryError
from trajstore.store.groups import kept_tables, sizes
from trajstore.store.groups.kept_tables import ACROSS_CONTEXTS, VIEWS

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store

PROSE = re.findall(
    r"\s*\w+|\s+|\W",
    "The NATO summit (see [1]) of 12 May 2021 was the event. It's at https://nato.int\n  x = f(y);\n"
    "“Naïve” 東京 Москва user@mail.com \\alpha the event was the event",
)
CONTEXTS = [PROSE, [*PROSE[::-1], " unique"], [" 3", *PROSE], ["a", "b"], PROSE[5:], PROSE[:30]]


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.add_dataset("d", new_dataset(CONTEXTS))


def test_sizes_are_the_same_from_tables_and_from_views(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    works_on_d = "SELECT dataset, context, position FROM tokens WHERE dataset = 'd' OR text::INT > 0"
    store.groups.add("broken", works_on_d)
    store.add_dataset("e", new_dataset(CONTEXTS[1:3]))
    listed = store.groups.list()
    assert sum(bool(group.sizes) for group in listed) > 30
    assert {group.name for group in listed if group.problem} == {"broken"}
    store.groups.add("other", "FROM groups.the")
    listed.append(store.groups.show("other"))
    listed.sort(key=lambda group: group.name)

    def anew() -> list[object]:
        (store.path / "cache" / "group_sizes.json").unlink()
        return list(store.groups.list())

    with monkeypatch.context() as patch:
        patch.setattr(kept_tables, "_TOKENS_A_THREAD", 1)
        assert anew() == listed, "from a table of texts in parts"
    monkeypatch.setattr(sizes, "_MOST_TOKENS", 0)
    assert anew() == listed, "each from the views"
    assert dataset.n_tokens > 0


def test_only_the_groups_that_are_known_to_look_across_contexts_do(store: Store, dataset: Dataset) -> None:
    contexts = range(3, 5)
    first, end = dataset.offsets[3], dataset.offsets[5]
    differing = set()
    with kept_tables.kept_tables(store, VIEWS, [dataset], contexts) as tables:
        for group in store.groups.names():
            members = store.groups.members(group, dataset)
            here = members[(members >= first) & (members < end)]
            if not np.array_equal(store.groups.members(group, dataset, tables), here):
                differing.add(group)
    assert differing == ACROSS_CONTEXTS


def test_what_cannot_be_read_is_a_problem_of_each_group(store: Store, dataset: Dataset) -> None:
    file = store.path / "tokens" / "dataset=d" / "tokens.parquet"
    data = bytearray(file.read_bytes())
    data[4:200] = bytes(196)  # the first page's header; the footer stays
    file.write_bytes(data)
    with pytest.raises(QueryError), kept_tables.kept_tables(store, VIEWS, [store.dataset("d")]):
        pass
    problems = {group.name: group.problem for group in store.groups.list()}
    for name in ("every_token", "stopword"):
        assert problems[name].startswith(f"The group {name!r} cannot be computed: ")
